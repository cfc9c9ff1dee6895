"""Makes engine/testdata: what the terms that need CLIP make of latents of the
pipeline in model/testdata/stable-diffusion, by PyTorch.

    pip install torch diffusers transformers safetensors numpy pillow
    python tools/golden/terms.py     # from the root of the repository, after tiny_pipeline.py

All is computed in float64 and stored as f32.

    aesthetic.safetensors  a linear head of random weights, f16
    style.png              the style that is wanted
    target.png, mask.png   pictures of the latents' size, for terms that compare
    terms.safetensors      latents [2 4 8 12]; of each decoder, vae and taesd, and each TERM
                           DECODER.TERM.loss [2] and DECODER.TERM.grad, the gradient of their
                           sum at latents
"""

import json
import pathlib

import numpy
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizer

import golden

FOLDER = pathlib.Path("engine/testdata")
WANTED, LAYER, TARGET = "a photo of a red fox", 2, 10
SIDE = 24  # of the pictures CLIP sees


def pictures():
    y, x = numpy.mgrid[0:21, 0:27]
    style = numpy.stack([(7 * x + 3 * y) % 256, (x * y) % 256, 128 + 100 * numpy.sin(x / 3 + y)], -1).astype(numpy.uint8)
    Image.fromarray(style).save(FOLDER / "style.png")
    y, x = numpy.mgrid[0:32, 0:48]
    Image.fromarray(numpy.stack([5 * x, 7 * y, 3 * (x + y)], -1).astype(numpy.uint8)).save(FOLDER / "target.png")
    Image.fromarray(numpy.where((x - 21) ** 2 + (y - 13) ** 2 < 150, 255, 0).astype(numpy.uint8)).save(FOLDER / "mask.png")
    return torch.from_numpy(style).double().permute(2, 0, 1)[None] / 127.5 - 1


def gram(hidden):
    patches = hidden[:, 1:]
    return patches.transpose(1, 2) @ patches / patches.shape[1]


def main():
    golden.setup()
    FOLDER.mkdir(exist_ok=True)
    style = pictures()
    clip = CLIPModel.from_pretrained(golden.TESTDATA / "clip").double().eval()
    tokenizer = CLIPTokenizer.from_pretrained(golden.TESTDATA / "clip")
    prepare = json.loads((golden.TESTDATA / "clip/preprocessor_config.json").read_text())
    mean, std = (torch.tensor(prepare[k], dtype=torch.float64)[:, None, None] for k in ("image_mean", "image_std"))
    torch.manual_seed(9)
    head = torch.nn.Linear(clip.config.projection_dim, 1).half()
    save_file(head.state_dict(), FOLDER / "aesthetic.safetensors")
    head = head.double()

    def look(x):
        """CLIPImageProcessor on floats: the shorter side, then the middle."""
        h, w = x.shape[-2:]
        h, w = (SIDE, int(SIDE * w / h)) if h < w else (int(SIDE * h / w), SIDE)
        x = F.interpolate(x, (h, w), mode="bicubic", antialias=True)
        top, left = (h - SIDE) // 2, (w - SIDE) // 2
        x = (x[..., top:top + SIDE, left:left + SIDE] / 2 + 0.5 - mean) / std
        seen = clip.vision_model(x, output_hidden_states=True)
        return gram(seen.hidden_states[LAYER]), F.normalize(clip.visual_projection(seen.pooler_output))

    ids = tokenizer(WANTED, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    wanted = F.normalize(clip.text_projection(clip.text_model(ids).pooler_output))
    wanted_gram = look(style)[0]
    terms = {
        "clip_similarity": lambda grams, embeds: 1 - (embeds * wanted).sum(1),
        "clip_style": lambda grams, embeds: ((grams - wanted_gram) ** 2).mean((1, 2)),
        "aesthetic": lambda grams, embeds: (TARGET - head(embeds)[:, 0]).relu(),
    }
    vae = AutoencoderKL.from_pretrained(golden.TESTDATA / "stable-diffusion", subfolder="vae").double().eval()
    taesd = AutoencoderTiny.from_pretrained(golden.TESTDATA / "taesd").double().eval()
    decoders = {"vae": lambda z: vae.decode(z / vae.config.scaling_factor).sample, "taesd": lambda z: taesd.decode(z).sample}

    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(10)).double()
    out = {"latents": latents}
    for name, decode in decoders.items():
        for term, loss in terms.items():
            z = latents.clone().requires_grad_()
            losses = loss(*look(decode(z)))
            out[f"{name}.{term}.loss"] = losses
            out[f"{name}.{term}.grad"], = torch.autograd.grad(losses.sum(), z)
    out = {name: t.detach().float().contiguous() for name, t in out.items()}
    save_file(out, FOLDER / "terms.safetensors")
    for f in FOLDER.glob("*.safetensors"):
        f.chmod(0o644)
    for name, t in out.items():
        print(f"{name:24} {tuple(t.shape)!s:16} rms {t.square().mean().sqrt():.4g}")


if __name__ == "__main__":
    main()
