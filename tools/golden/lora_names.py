"""Makes model/testdata/lora-names: adapters of the pipeline in
model/testdata/stable-diffusion under every name that trainers give them, with
random numbers, and in deltas.safetensors what diffusers and PEFT add to each
layer's weight when they load them.

    pip install torch diffusers transformers peft safetensors numpy
    python tools/golden/lora_names.py                # from the root of the repository
    python tools/golden/lora_names.py check FILE     # load a file or folder this program's commands wrote

kohya.safetensors is kohya-ss' (LoCon, too: convolutions and a text encoder; a rank
and an alpha of its own for each layer, but the same in attention and throughout
the text encoder, where diffusers takes the most frequent one for all; F16).
pipeline.safetensors is what save_lora_weights writes today (patterns of ranks and
alphas and rank-stabilised scales in its metadata; transformers since 5 leaves
text_model. out of names), earlier.safetensors and processors.bin what diffusers
wrote before, peft/ what PEFT does. Deltas are named FILE/unet/LAYER or
FILE/text_encoder/LAYER. check prints the layers a file adapts in diffusers and
how much it adds to them.
"""

import pathlib
import shutil
import sys
import warnings

import peft
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers.integrations import peft as text_encoders

text_encoders.MIN_PEFT_VERSION = "0"  # what is used here is the same in PEFT 0.21
TESTDATA = pathlib.Path("model/testdata")
PIPELINE, FOLDER = TESTDATA / "stable-diffusion", TESTDATA / "lora-names"
LAYERS = {
    "unet": ["to_q", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "mid_block.resnets.0.conv1", "downsamplers.0.conv", "time_emb_proj", "conv_shortcut", "conv_in"],
    "text_encoder": ["q_proj", "out_proj", "fc1"],
}
PATTERNS = {"rank_pattern": {"to_q": 1, "^conv_in": 3, "mid_block.*proj": 4}, "alpha_pattern": {"to_[vk]": 0.5, "ff.net.2": 7}, "use_rslora": True}


def fresh():
    return StableDiffusionPipeline.from_pretrained(PIPELINE, safety_checker=None, torch_dtype=torch.float32)


def layers(pipe, part, ends):
    for name, module in getattr(pipe, part).named_modules():
        if any(name == e or name.endswith("." + e) for e in ends):
            yield name, module


def draw(module, rank):
    """A and B of a layer."""
    weight = module.weight
    a = torch.randn(rank, *weight.shape[1:]) / weight[0].numel() ** 0.5
    b = torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2))
    return a.half(), b.half()


def kohya(pipe):
    tensors = {}
    for part, prefix in dict(unet="lora_unet_", text_encoder="lora_te_").items():
        for i, (name, module) in enumerate(layers(pipe, part, LAYERS[part])):
            stem = prefix + dict(unet="", text_encoder="text_model_")[part] + name.replace(".", "_")
            rank = 1 + i % 3
            tensors[stem + ".lora_down.weight"], tensors[stem + ".lora_up.weight"] = draw(module, rank)
            tensors[stem + ".alpha"] = torch.tensor(2 if part != "unet" else 1 if "attn" in name else [0.5, 1, 2, 8][i % 4]).half()
    save_file(tensors, FOLDER / "kohya.safetensors", metadata={"ss_network_module": "networks.lora"})


def earlier(pipe):
    tensors = {}
    for part, end in dict(unet=".lora.", text_encoder=".lora_linear_layer.").items():
        for name, module in layers(pipe, part, LAYERS[part][:5]):
            a, b = draw(module, 2)
            stem = part + dict(unet=".", text_encoder=".text_model.")[part] + name + end
            tensors[stem + "down.weight"], tensors[stem + "up.weight"] = a, b
    save_file(tensors, FOLDER / "earlier.safetensors")


def processors(pipe):
    tensors = {}
    for layer in ["to_q", "to_k", "to_v", "to_out.0"]:
        for name, module in layers(pipe, "unet", [layer]):
            stem = name.removesuffix("." + layer) + f".processor.{layer.removesuffix('.0')}_lora."
            tensors["unet." + stem + "down.weight"], tensors["unet." + stem + "up.weight"] = draw(module, 2)
    torch.save(tensors, FOLDER / "processors.bin")


def randomise(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # which start at zero
                parameter += 0.2 * torch.randn_like(parameter)


def pipeline(pipe):
    configs = {}
    for part, ends in LAYERS.items():
        configs[part] = peft.LoraConfig(r=2, lora_alpha=3, target_modules=ends, **(PATTERNS if part == "unet" else {}))
        getattr(pipe, part).add_adapter(configs[part])
        randomise(getattr(pipe, part))
    states = {part: peft.get_peft_model_state_dict(getattr(pipe, part)) for part in LAYERS}
    pipe.save_lora_weights(FOLDER, unet_lora_layers=states["unet"], text_encoder_lora_layers=states["text_encoder"], weight_name="pipeline.safetensors",
                           unet_lora_adapter_metadata=configs["unet"].to_dict(), text_encoder_lora_adapter_metadata=configs["text_encoder"].to_dict())


def folder(pipe):
    model = peft.get_peft_model(pipe.unet, peft.LoraConfig(r=2, lora_alpha=3, target_modules=LAYERS["unet"], **PATTERNS))
    randomise(model)
    model.save_pretrained(FOLDER / "peft")
    (FOLDER / "peft/README.md").unlink()
    return model


def deltas(file, parts):
    """What the adapters of some networks add to their layers' weights."""
    found = {}
    for part, model in parts.items():
        for name, module in model.named_modules():
            if hasattr(module, "get_delta_weight"):
                adapter, = module.lora_A.keys()
                prefix = dict(unet="", text_encoder="text_model.")[part]
                found[f"{file}/{part}/{prefix}{name.removeprefix('base_model.model.')}"] = module.get_delta_weight(adapter).detach().contiguous()
    return found


def loaded(file):
    """The deltas of a file or folder that diffusers or PEFT load."""
    pipe = fresh()
    if file.is_dir():
        return deltas(file.name, {"unet": peft.PeftModel.from_pretrained(pipe.unet, file)})
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    return deltas(file.name, {"unet": pipe.unet, "text_encoder": pipe.text_encoder})


def make():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    torch.manual_seed(17)
    for write in (kohya, earlier, processors, pipeline, folder):
        write(fresh())
    found = {}
    for file in sorted(FOLDER.iterdir()):
        found |= loaded(file)
    save_file(found, FOLDER / "deltas.safetensors", metadata={"torch": torch.__version__, "peft": peft.__version__, "made_by": "tools/golden/lora_names.py"})
    for file in FOLDER.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            print(file, file.stat().st_size)


def check(file):
    for name, delta in loaded(pathlib.Path(file)).items():
        print(name, tuple(delta.shape), delta.norm().item())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        make()
