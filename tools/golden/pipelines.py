"""Writes model/testdata/stable-diffusion/pipelines.safetensors: the pictures that
diffusers' own pipelines make with that folder under other schedulers, predictions,
sizes and batches, and as a latent consistency model with a guidance embedding.

    pip install torch diffusers transformers safetensors numpy
    python tools/golden/pipelines.py     # from the root of the repository, after tiny_pipeline.py

StableDiffusionPipeline and LatentConsistencyModelPipeline are called as people
call them, in float64. The metadata's "cases" lists what each was asked: pipeline,
scheduler (its config as save_pretrained writes it), prompt, negative, guidance,
steps, height, width, images. By the name of a case there are

    NAME.noise            the latents that sampling starts from
    NAME.timesteps        that the network was asked at
    NAME.noises [K ...]   the fresh noise of each step but the last, where there is any
    NAME.latents          what sampling comes to
    NAME.image            of some the pictures, unclamped, in [-1, 1]

and cond_proj, the one weight [D 6] that the guidance embedding needs besides the
folder's, for cases with "shown": true.
"""

import json

import numpy
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_lcm
from safetensors.numpy import save_file

import golden

FOLDER = golden.TESTDATA / "stable-diffusion"
PROMPT, NEGATIVE = "a red apple on a table", "blurry, a dog"
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
V = dict(prediction_type="v_prediction")
LEADING = dict(timestep_spacing="leading", steps_offset=1)
TRAILING = dict(timestep_spacing="trailing")
DIM = 6  # of the guidance embedding
PICTURES = ("sd2", "euler", "lcm")  # cases whose pictures are kept

# name: scheduler, and what differs from a square picture in 4 steps under guidance 5
CASES = {
    "sd1": (DDIMScheduler(**SD, **LEADING, clip_sample=False, set_alpha_to_one=False), {}),
    "sd1-alpha-one": (DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=True, timestep_spacing="linspace"), dict(negative=NEGATIVE)),
    "sd2": (DDIMScheduler(**SD, **V, **LEADING, clip_sample=False, set_alpha_to_one=False), dict(negative=NEGATIVE, height=24, width=40, images=3)),
    "zero-snr": (DDIMScheduler(**SD, **V, **TRAILING, clip_sample=False, rescale_betas_zero_snr=True), dict(negative=NEGATIVE)),
    "no-guidance": (DDIMScheduler(**SD, **V, **LEADING, clip_sample=False), dict(guidance=1.0, images=2)),
    "euler": (EulerDiscreteScheduler(**SD, **V, **LEADING), dict(negative=NEGATIVE, height=48, width=32)),
    "turbo": (EulerDiscreteScheduler(**SD, **TRAILING), dict(steps=1, guidance=1.0)),
    "euler-karras": (EulerDiscreteScheduler(**SD, **V, use_karras_sigmas=True), {}),
    "heun": (HeunDiscreteScheduler(**SD, **V, **LEADING), {}),
    "dpm": (DPMSolverMultistepScheduler(**SD, **V, **LEADING), dict(negative=NEGATIVE, steps=6)),
    "dpm-karras": (DPMSolverMultistepScheduler(**SD, **V, use_karras_sigmas=True), dict(steps=6, height=24, width=40)),
    "unipc": (UniPCMultistepScheduler(**SD, **V, **LEADING), dict(steps=6)),
    "lcm-lora": (LCMScheduler(**SD, **V), dict(guidance=1.5, negative=NEGATIVE)),
    "lcm": (LCMScheduler(**SD, **V), dict(guidance=8.5, images=2, height=40, width=24, shown=True)),
}


def lcm_noise(made):
    """Noise for LCM's steps from a generator of its own, kept in made."""
    generator = torch.Generator().manual_seed(21)

    def randn_tensor(shape, **_):
        made.append(torch.randn(shape, generator=generator).double())
        return made[-1]

    return randn_tensor


def main():
    golden.setup()
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float64)
    # The same network, shown the scale of guidance.
    shown = UNet2DConditionModel.from_config({**pipe.unet.config, "time_cond_proj_dim": DIM})
    weights = pipe.unet.state_dict()
    cond_proj = (0.5 * torch.randn(shown.time_embedding.cond_proj.weight.shape, generator=torch.Generator().manual_seed(20))).half().double()
    weights["time_embedding.cond_proj.weight"] = cond_proj
    shown.load_state_dict(weights)
    shown = shown.double().eval()

    tensors, cases = {"cond_proj": cond_proj}, {}
    for i, (name, (scheduler, more)) in enumerate(CASES.items()):
        case = dict(prompt=PROMPT, negative="", guidance=5.0, steps=4, height=32, width=32, images=1, shown=False) | more
        parts = dict(vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, scheduler=scheduler,
                     safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        if case["shown"]:
            run, words = LatentConsistencyModelPipeline(**parts, unet=shown), {}
        else:
            run, words = StableDiffusionPipeline(**parts, unet=pipe.unet), dict(negative_prompt=case["negative"] or None)
        run.set_progress_bar_config(disable=True)
        noise = torch.randn(case["images"], 4, case["height"] // 4, case["width"] // 4, generator=torch.Generator().manual_seed(100 + i)).double()
        noises, timesteps = [], []
        scheduling_lcm.randn_tensor = lcm_noise(noises)

        def seen(_, step, timestep, kept):
            timesteps.append(float(timestep))
            return kept

        with torch.no_grad():
            latents = run(case["prompt"], num_inference_steps=case["steps"], guidance_scale=case["guidance"], height=case["height"], width=case["width"],
                          num_images_per_prompt=case["images"], latents=noise.clone(), output_type="latent", callback_on_step_end=seen, **words).images
            image = run.vae.decode(latents / run.vae.config.scaling_factor).sample
        assert latents.dtype == torch.float64, name
        tensors |= {f"{name}.noise": noise, f"{name}.timesteps": torch.tensor(timesteps), f"{name}.latents": latents}
        if name in PICTURES:
            tensors[f"{name}.image"] = image
        if noises:
            tensors[f"{name}.noises"] = torch.stack(noises)
        cases[name] = case | dict(pipeline=type(run).__name__, scheduler=scheduler.to_json_string())
        print(f"{name:15}{list(latents.shape)} latents {latents.norm():.4g} image {image.norm():.4g} at {timesteps}")
    arrays = {n: numpy.ascontiguousarray(v.numpy().astype(numpy.float32)) for n, v in tensors.items()}
    path = FOLDER / "pipelines.safetensors"
    save_file(arrays, path, metadata=dict(cases=json.dumps(cases), made_by="tools/golden/pipelines.py", torch=torch.__version__))
    path.chmod(0o644)
    print(path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
