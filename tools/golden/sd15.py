"""Makes a pipeline of Stable Diffusion 1.5's size with random weights, stored as
float16 where it stores them so, and what PyTorch computes on them in float32.
Nothing of it is committed: the weights are 2 GB.

FOLDER/unet, vae, text_encoder, scheduler   as StableDiffusionPipeline.save_pretrained writes them;
                                            it predicts v, so that what it makes of noise stays bounded
FOLDER/tokenizer                            the small vocabulary of vocabulary.py
FOLDER/unet.safetensors                     the prediction for one latent of 64 x 64 and, unless --forward
                                            is given, the gradient of <prediction, seed> at the latent
FOLDER/pipeline.safetensors                 a picture of 256 x 256 in STEPS steps of DDIM with guidance

    pip install torch diffusers transformers safetensors
    python tools/golden/sd15.py FOLDER [--forward]
    SDO_SD15=FOLDER go test ./model ./engine -run FullSize -v -timeout 2h
"""

import argparse
import pathlib
import time

import safetensors.torch
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import vocabulary

PROMPT, NEGATIVE, GUIDANCE, STEPS = "a photo of an astronaut riding a horse on mars", "blurry", 7.5, 2


def unet_part(folder, forward):
    torch.manual_seed(15)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    print(sum(p.numel() for p in unet.parameters()), "parameters")
    unet.half().save_pretrained(folder / "unet", variant="fp16", max_shard_size="10GB")
    unet.float().requires_grad_(False)  # the rounded weights

    sample = torch.randn(1, 4, 64, 64).requires_grad_(not forward)
    condition = torch.randn(1, 77, 768)
    seed = torch.randn(1, 4, 64, 64)
    timestep = torch.tensor([501.0])
    tensors = {"sample": sample.detach(), "condition": condition, "seed": seed, "timestep": timestep}

    start = time.time()
    prediction = unet(sample, timestep, condition).sample
    tensors["output"] = prediction.detach()
    print(f"forward {time.time() - start:.1f} s with {torch.get_num_threads()} threads, torch {torch.__version__}")
    if not forward:
        start = time.time()
        prediction.backward(seed)
        tensors["grad_sample"] = sample.grad
        print(f"backward {time.time() - start:.1f} s")
    safetensors.torch.save_file(tensors, folder / "unet.safetensors")


@torch.no_grad()
def pipeline_part(folder):
    torch.manual_seed(16)
    vae = AutoencoderKL(
        sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        projection_dim=768, hidden_act="quick_gelu"))
    vocabulary.save_old(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder.config.bos_token_id, encoder.config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type="v_prediction")
    pipe = StableDiffusionPipeline(
        vae=vae.half().eval(), text_encoder=encoder.half().eval(), tokenizer=tokenizer,
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", variant="fp16", torch_dtype=torch.float16), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder, variant="fp16", max_shard_size="10GB")
    vocabulary.save_old(folder / "tokenizer")
    pipe.to(torch.float32)

    noise = torch.randn(1, 4, 32, 32)
    seen = {}
    keep = lambda pipe, step, timestep, kwargs: seen.update(latents=kwargs["latents"]) or kwargs
    start = time.time()
    image = pipe(PROMPT, negative_prompt=NEGATIVE, guidance_scale=GUIDANCE, num_inference_steps=STEPS, height=256, width=256,
                 latents=noise, output_type="pt", callback_on_step_end=keep).images
    print(f"pipeline {time.time() - start:.1f} s")
    tensors = {"noise": noise, "timesteps": pipe.scheduler.timesteps.float(), "latents": seen["latents"]}
    tensors["image"] = vae.decode(seen["latents"] / vae.config.scaling_factor).sample
    assert torch.allclose(image, (tensors["image"] / 2 + 0.5).clamp(0, 1), atol=1e-5)
    for name, text in (("embeds", PROMPT), ("negative_embeds", NEGATIVE)):
        ids = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        tensors[name] = encoder(ids).last_hidden_state
    for name, value in tensors.items():
        print(name, list(value.shape), value.norm().item())
    safetensors.torch.save_file(tensors, folder / "pipeline.safetensors", metadata=dict(
        prompt=PROMPT, negative=NEGATIVE, guidance=str(GUIDANCE), torch=torch.__version__))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--forward", action="store_true")
    args = parser.parse_args()
    unet_part(args.folder, args.forward)
    pipeline_part(args.folder)
