"""Makes a UNet2DConditionModel of Stable Diffusion 1.5's size with random weights,
stored as float16, and what PyTorch computes on them in float32: the prediction for
one latent of 64 x 64 and, unless --forward is given, the gradient of <prediction,
seed> at the latent. Nothing of it is committed: the weights are 1.7 GB.

    pip install torch diffusers safetensors
    python tools/golden/sd15.py FOLDER [--forward]
    SDO_SD15=FOLDER go test ./model -run FullSize -v -timeout 2h    # on the CPU
    SDO_SD15=FOLDER go test ./engine -run FullSize -v -timeout 2h   # through WebGPU
"""

import argparse
import pathlib
import time

import safetensors.torch
import torch
from diffusers import UNet2DConditionModel

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--forward", action="store_true")
args = parser.parse_args()

torch.manual_seed(15)
unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
print(sum(p.numel() for p in unet.parameters()), "parameters")
unet.half().save_pretrained(args.folder, variant="fp16", max_shard_size="10GB")
unet.float().requires_grad_(False)  # the rounded weights

sample = torch.randn(1, 4, 64, 64).requires_grad_(not args.forward)
condition = torch.randn(1, 77, 768)
seed = torch.randn(1, 4, 64, 64)
timestep = torch.tensor([501.0])
tensors = {"sample": sample.detach(), "condition": condition, "seed": seed, "timestep": timestep}

start = time.time()
prediction = unet(sample, timestep, condition).sample
tensors["output"] = prediction.detach()
print(f"forward {time.time() - start:.1f} s with {torch.get_num_threads()} threads, torch {torch.__version__}")
if not args.forward:
    start = time.time()
    prediction.backward(seed)
    tensors["grad_sample"] = sample.grad
    print(f"backward {time.time() - start:.1f} s")
safetensors.torch.save_file(tensors, args.folder / "fixture.safetensors")
