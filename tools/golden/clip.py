"""Makes model/testdata/clip-*: small towers of CLIP with random weights as
transformers saves them, and beside each text.safetensors and vision.safetensors
with what PyTorch computes on them (see golden.py); clip-preprocess.safetensors,
pictures of several sizes made fit for a tower; and aesthetic/, heads with scores.

    pip install torch diffusers transformers peft safetensors numpy
    python tools/golden/clip.py       # from the root of the repository
"""

import json
import shutil

import numpy
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import save_file

import golden

MADE_BY = "tools/golden/clip.py"
TEXT = dict(vocab_size=20, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=9)
VISION = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, image_size=14, patch_size=4)

# Texts of equal length: an end of text (19) in the middle, at the end, and twice.
IDS = torch.tensor([[18, 3, 7, 19, 0, 0, 0], [18, 1, 2, 3, 4, 5, 19], [18, 11, 19, 2, 19, 19, 19]])

FULL_TEXT = ["text_model." + n for n in (
    "embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "final_layer_norm.weight",
    "encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.1.mlp.fc1.bias", "encoder.layers.1.layer_norm2.weight")] + ["text_projection.weight"]
FULL_VISION = ["vision_model." + n for n in (
    "embeddings.class_embedding", "embeddings.patch_embedding.weight", "embeddings.position_embedding.weight", "pre_layrnorm.bias",
    "post_layernorm.weight", "encoder.layers.0.self_attn.v_proj.weight", "encoder.layers.1.mlp.fc2.weight")] + ["visual_projection.weight"]


class Bare(torch.nn.Module):
    """A bare tower under the names that checkpoints of older versions have."""

    def __init__(self, name, tower):
        super().__init__()
        setattr(self, name, tower)


def text(model, ids):
    tower = model.text_model(ids)
    pooled = tower.pooler_output
    return {"hidden": tower.last_hidden_state, "pooled": model.text_projection(pooled) if hasattr(model, "text_projection") else pooled}


def vision(model, pixels):
    tower = model.vision_model(pixels, output_hidden_states=True)
    pooled = tower.pooler_output
    outputs = {f"layer{i}": h for i, h in enumerate(tower.hidden_states[1:])}
    return outputs | {"embeds": model.visual_projection(pooled) if hasattr(model, "visual_projection") else pooled}


def save(name, model, config=None):
    golden.perturb(model, 1)
    folder = golden.TESTDATA / f"clip-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def towers():
    torch.manual_seed(1)
    # Stable Diffusion 1's text encoder: no projection, quick GELU, the end of text
    # found as the highest id. With an adapter.
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, eos_token_id=2, bos_token_id=0))
    folder = save("text", model)
    lora = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "out_proj", "fc1"])
    golden.record(folder, Bare("text_model", model), text, {"ids": IDS}, [], FULL_TEXT, lora, MADE_BY, "text.safetensors")

    # A projection, exact GELU, the first end of text, one head, one layer.
    config = dict(TEXT, num_hidden_layers=1, num_attention_heads=1, projection_dim=5, hidden_act="gelu", layer_norm_eps=1e-3, eos_token_id=19, bos_token_id=18)
    model = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**config))
    golden.record(save("text-projection", model), model, text, {"ids": IDS}, [], FULL_TEXT, None, MADE_BY, "text.safetensors")

    # Pixels are left over at the right and the bottom of the patches.
    pixels = torch.randn(2, 3, 14, 14)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
    golden.record(save("vision", model), Bare("vision_model", model), vision, {"pixels": pixels}, ["pixels"], FULL_VISION, None, MADE_BY, "vision.safetensors")
    config = dict(VISION, num_channels=2, patch_size=7, projection_dim=5, hidden_act="gelu_pytorch_tanh", num_attention_heads=4, num_hidden_layers=1)
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    pixels = torch.randn(3, 2, 14, 14)
    golden.record(save("vision-projection", model), model, vision, {"pixels": pixels}, ["pixels"], FULL_VISION, None, MADE_BY, "vision.safetensors")

    # Both towers. The config as files of 2021 have it: two forms of one tower's,
    # which differ, and what every config of transformers held then.
    model = transformers.CLIPModel(transformers.CLIPConfig(
        text_config=dict(TEXT, eos_token_id=19), vision_config=dict(VISION, hidden_size=8, num_attention_heads=2, hidden_act="relu"), projection_dim=6))
    filler = dict(return_dict=True, torchscript=False, id2label={"0": "LABEL_0"}, temperature=1.0, bad_words_ids=None, dropout=0.0, eos_token_id=19, projection_dim=512)
    config = dict(
        architectures=["CLIPModel"], model_type="clip", projection_dim=6, logit_scale_init_value=2.6592, torch_dtype="float32", transformers_version=None,
        text_config=dict(filler, **dict(TEXT, num_hidden_layers=7)), text_config_dict=dict(TEXT, eos_token_id=19),
        vision_config=dict(filler, **dict(VISION, hidden_size=8, num_attention_heads=2, hidden_act="relu")), vision_config_dict=None)
    folder = save("model", model, config)
    golden.record(folder, model, text, {"ids": IDS}, [], FULL_TEXT, None, MADE_BY, "text.safetensors")
    model.zero_grad()
    golden.record(folder, model, vision, {"pixels": torch.randn(1, 3, 14, 14)}, ["pixels"], FULL_VISION, None, MADE_BY, "vision.safetensors")
    for file in golden.TESTDATA.glob("clip-*/**/*.*"):
        file.chmod(0o644)


# Height and width of the picture, shortest edge (0 for none), side of the square,
# resample (2 bilinear, 3 bicubic).
PICTURES = {
    "smaller": (32, 32, 24, 24, 3), "larger": (10, 10, 24, 24, 3), "same": (24, 24, 24, 24, 3), "wide": (20, 37, 16, 16, 3),
    "high": (41, 20, 15, 12, 3), "squeezed": (19, 33, 0, 14, 3), "bilinear": (33, 21, 13, 13, 2), "odd": (7, 64, 9, 7, 2),
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def preprocess():
    """What CLIPImageProcessor does on a GPU, on floats, which it never rounds."""
    tensors = {}
    for name, (h, w, edge, side, resample) in PICTURES.items():
        torch.manual_seed(h)
        x = (2 * torch.rand(1, 3, h, w, dtype=torch.float64) - 1).requires_grad_()
        size = (side, side) if edge == 0 else (edge, int(edge * w / h)) if h <= w else (int(edge * h / w), edge)
        y = F.interpolate((x + 1) / 2, size=size, mode={2: "bilinear", 3: "bicubic"}[resample], antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        y = y[:, :, top : top + side, left : left + side]
        y = (y - torch.tensor(MEAN)[:, None, None].double()) / torch.tensor(STD)[:, None, None].double()
        seed = torch.randn_like(y)
        (y * seed).sum().backward()
        tensors |= {f"{name}.images": x, f"{name}.pixels": y, f"{name}.seed": seed, f"{name}.grad": x.grad}
        tensors[f"{name}.config"] = torch.tensor([edge, side, resample])
    return tensors


def aesthetic():
    folder = golden.TESTDATA / "aesthetic"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    torch.manual_seed(2)
    heads = {"linear": torch.nn.Linear(12, 1)}
    # The improved head's layers, between which it has dropout.
    heads["improved"] = torch.nn.Module()
    layers = [torch.nn.Linear(12, 16), torch.nn.Dropout(), torch.nn.Linear(16, 8), torch.nn.Dropout(), torch.nn.Linear(8, 6),
              torch.nn.Dropout(), torch.nn.Linear(6, 4), torch.nn.Linear(4, 1)]
    heads["improved"].layers = torch.nn.Sequential(*layers)
    # The one with activations has them before the dropout.
    heads["relu"] = torch.nn.Module()
    layers = [torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Dropout(),
              torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)]
    heads["relu"].layers = torch.nn.Sequential(*layers)
    x = (3 * torch.randn(4, 12)).double().requires_grad_()
    tensors = {"embeds": x}
    for name, head in heads.items():
        golden.perturb(head, 3)
        torch.save(head.state_dict(), folder / f"{name}.pth")
        head.double()
        normal = x / x.norm(dim=-1, keepdim=True)
        score = (head(normal) if name == "linear" else head.layers.eval()(normal))[:, 0]
        (tensors[f"{name}.grad"],) = torch.autograd.grad((score * torch.arange(1, 5)).sum(), x)
        tensors[f"{name}.score"] = score
    save_file({n: numpy.ascontiguousarray(t.detach().numpy().astype(numpy.float32)) for n, t in tensors.items()}, folder / "fixture.safetensors")


if __name__ == "__main__":
    golden.setup()
    towers()
    arrays = {n: numpy.ascontiguousarray(t.detach().numpy().astype(numpy.float32)) for n, t in preprocess().items()}
    save_file(arrays, golden.TESTDATA / "clip-preprocess.safetensors", metadata={"made_by": MADE_BY, "torch": torch.__version__})
    aesthetic()
