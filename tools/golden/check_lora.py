"""Opens what `sdo tune` wrote for a Stable Diffusion pipeline in diffusers, and
compares its samples with those of `sdo sample --lora`.

    pip install torch diffusers transformers peft safetensors numpy
    make build
    python tools/golden/check_lora.py [FOLDER]   # from the root of the repository

Without a folder it trains a LoRA of the tiny pipeline of tiny_pipeline.py first.
Of the untuned pipeline, of PEFT's folder (PeftModel over the UNet) and of
kohya-ss' file (the pipeline's load_lora_weights) it prints the largest difference
of a picture from ours, in units of -1..1, and by how much the adapter changes the
pictures. It fails where the former is above 1e-3.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import peft
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

MODEL = pathlib.Path("model/testdata/stable-diffusion")
SEED, STEPS, GUIDANCE, PROMPT, NEGATIVE, IMAGES = 11, 4, 3.0, "a photo of a red apple", "blurry", 2
RECIPE = f"""version: 1
name: tiny-tuning
model: {MODEL}
prompt: {PROMPT}
sampler: {{name: ddim, num_inference_steps: 3, timestep_spacing: trailing}}
objective: [{{term: region_color, region: [0, 0, 32, 32], color: "#2040c0"}}]
variables:
  parameters: {{lora: {{rank: 4, alpha: 8, targets: [to_q, to_k, to_v, to_out.0, conv1, proj_in]}}}}
optimizer: {{name: adam, lr: 0.02}}
updates: 12
guards: {{latent_norm: none, early_stop: false}}
tune: {{batch_size: 2, eval_images: 2, eval_every: 12}}
"""


def normal(seed, stream, count):
    """graph.Normal: Philox4x32-10 and Box-Muller."""
    block = numpy.arange((count + 3) // 4, dtype=numpy.uint64)
    c = [block, numpy.zeros_like(block), numpy.full_like(block, stream), numpy.zeros_like(block)]
    key, mask = [seed & 0xFFFFFFFF, seed >> 32], numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * numpy.uint64(0xD2511F53), c[2] * numpy.uint64(0xCD9E8D57)
        c = [(p1 >> numpy.uint64(32)) ^ c[1] ^ numpy.uint64(key[0]), p1 & mask,
             (p0 >> numpy.uint64(32)) ^ c[3] ^ numpy.uint64(key[1]), p0 & mask]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    u = [((r >> numpy.uint64(9)).astype(float) + 0.5) / (1 << 23) for r in c]
    pairs = []
    for a, b in ((0, 1), (2, 3)):
        radius, angle = numpy.sqrt(-2 * numpy.log(u[a])), 2 * numpy.pi * u[b]
        pairs += [radius * numpy.cos(angle), radius * numpy.sin(angle)]
    return numpy.stack(pairs, 1).reshape(-1)[:count]


def sdo(*args):
    subprocess.run(["bin/sdo", *map(str, args), "--device", "cpu", "--quiet"], check=True, stdout=subprocess.DEVNULL)


def ours(out, *lora):
    sdo("sample", "--model", MODEL, "--prompt", PROMPT, "--negative-prompt", NEGATIVE, "--guidance-scale", GUIDANCE,
        "--steps", STEPS, "--seed", SEED, "--num-images", IMAGES, "--out", out, *lora)
    return load_file(pathlib.Path(out) / "samples.safetensors")["samples"].double()


def theirs(pipeline):
    shape = (pipeline.unet.config.in_channels, *[pipeline.unet.config.sample_size] * 2)
    noise = torch.stack([torch.from_numpy(normal(SEED, i, int(numpy.prod(shape)))).reshape(shape) for i in range(IMAGES)])
    latents = pipeline(PROMPT, negative_prompt=NEGATIVE, guidance_scale=GUIDANCE, num_inference_steps=STEPS, latents=noise,
                       num_images_per_prompt=IMAGES, output_type="latent").images
    with torch.no_grad():
        return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample


def fresh():
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float64)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)  # what stands in for PNDM
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tuned = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "tuned"
        if len(sys.argv) == 1:
            (folder / "recipe.yaml").write_text(RECIPE)
            sdo("tune", folder / "recipe.yaml", "--out", tuned)
        before, after = ours(folder / "before"), ours(folder / "after", "--lora", tuned)
        kohya = ours(folder / "kohya", "--lora", tuned / "lora_kohya.safetensors")

        def peft_model(p):
            p.unet = peft.PeftModel.from_pretrained(p.unet, tuned).double().merge_and_unload()

        def file(p):
            p.load_lora_weights(tuned, weight_name="lora_kohya.safetensors")
            p.unet.double()

        bad = 0
        for name, load, want in (("untuned", lambda p: None, before), ("PEFT, PeftModel", peft_model, after),
                                 ("kohya, load_lora_weights", file, kohya)):
            pipeline = fresh()
            load(pipeline)
            got = theirs(pipeline)
            off, moved = (got - want).abs().max(), (got - before).abs().max()
            print(f"{name:26} differs from ours by {off:.2g} at most; from the untuned pictures by {moved:.3g}")
            bad += off > 1e-3 or (name != "untuned" and moved < 0.01)
        sys.exit(bad)


if __name__ == "__main__":
    main()
