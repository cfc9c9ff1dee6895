"""Makes model/testdata/unet2d-*: small UNet2DModel folders with random weights,
and beside each a fixture.safetensors with what PyTorch computes on them.

    pip install torch diffusers safetensors numpy
    python tools/golden/unet2d.py            # from the root of the repository

A fixture holds the inputs (sample, timestep, class), the output, a seed of the
output's shape, and the gradients of sum(output*seed): of the sample, of a class
vector, of some parameters in full (grad.NAME), and of every parameter its norm
and sum (grad_norms [P 2], rows in the order of the sorted names).

Everything is diffusers' own code in float64. Its sinusoids insist on float32,
so that one module is given a torch whose float32 is float64.
"""

import pathlib

import diffusers
import numpy
import torch
from diffusers import DDIMScheduler, UNet2DModel
from diffusers.models import embeddings
from safetensors.numpy import save_file

CONFIGS = {
    # Attention below, in the middle and above with two heads, a class vector,
    # an image that is not square.
    "attention": dict(
        sample_size=(8, 12), block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        class_embed_type="identity",
    ),
    # Scale and shift (whose middle attention has no norm), padding on one side,
    # class labels, one head, sines first, a centred input, a divided residual.
    "scale-shift": dict(
        sample_size=8, in_channels=2, out_channels=4, block_out_channels=(4, 8, 12), layers_per_block=2, norm_num_groups=2,
        down_block_types=("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift", downsample_padding=0, num_class_embeds=5, attention_head_dim=None,
        flip_sin_to_cos=False, freq_shift=1, center_input_sample=True, mid_block_scale_factor=1.5, norm_eps=1e-6,
    ),
    # A class timestep, heads that leave channels over, groups of its own for
    # the middle attention, another width of the time embedding.
    "class-timestep": dict(
        sample_size=4, block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4, attn_norm_num_groups=3,
        down_block_types=("AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D"),
        class_embed_type="timestep", attention_head_dim=3, time_embedding_dim=20, norm_eps=1e-3,
    ),
    # No middle at all.
    "no-middle": dict(
        sample_size=4, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, mid_block_type=None,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ),
}

FULL_GRADIENTS = [
    "conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_norm_out.weight", "conv_norm_out.bias",
    "time_embedding.linear_1.weight", "time_embedding.linear_2.bias", "class_embedding.weight",
    "class_embedding.linear_1.weight",
    "down_blocks.0.downsamplers.0.conv.weight", "up_blocks.0.upsamplers.0.conv.bias",
    "mid_block.resnets.0.norm2.weight", "mid_block.resnets.1.time_emb_proj.weight",
    "up_blocks.1.resnets.0.conv_shortcut.weight",
    *(f"mid_block.attentions.0.{layer}" for layer in
      ["group_norm.weight", "to_q.weight", "to_k.weight", "to_v.bias", "to_out.0.weight"]),
]


class Torch64:
    """torch, with float64 where float32 is asked for."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def make(name, config):
    torch.manual_seed(sum(name.encode()))
    model = UNet2DModel(**config)
    with torch.no_grad():
        for parameter in model.parameters():  # defaults leave norms at one and zero
            parameter += 0.2 * parameter.std().nan_to_num(1).clamp(min=0.3) * torch.randn_like(parameter)
    folder = pathlib.Path("model/testdata") / f"unet2d-{name}"
    model.save_pretrained(folder)
    DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction").save_pretrained(folder)

    model.double()
    height, width = config["sample_size"] if isinstance(config["sample_size"], tuple) else [config["sample_size"]] * 2
    sample = torch.randn(2, model.config.in_channels, height, width).double().requires_grad_()
    timestep = torch.tensor([3, 717])
    label = None
    if config.get("class_embed_type") == "identity":
        label = torch.randn(2, model.time_embedding.linear_2.out_features).double().requires_grad_()
    elif config.get("class_embed_type") == "timestep":
        label = torch.tensor([12, 250])
    elif "num_class_embeds" in config:
        label = torch.tensor([4, 1])
    output = model(sample, timestep, class_labels=label).sample
    seed = torch.randn(output.shape).double()
    (output * seed).sum().backward()

    gradients = {n: p.grad for n, p in model.named_parameters()}
    tensors = {
        "sample": sample, "timestep": timestep, "output": output, "seed": seed, "grad_sample": sample.grad,
        "grad_norms": torch.stack([torch.stack([gradients[n].norm(), gradients[n].sum()]) for n in sorted(gradients)]),
    }
    if label is not None:
        tensors["class"] = label
        if label.grad is not None:
            tensors["grad_class"] = label.grad
    tensors |= {f"grad.{n}": gradients[n] for n in FULL_GRADIENTS if n in gradients}
    arrays = {n: numpy.ascontiguousarray(t.detach().numpy().astype(numpy.float32)) for n, t in tensors.items()}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "made_by": "tools/golden/unet2d.py"}
    save_file(arrays, folder / "fixture.safetensors", metadata=versions)
    print(folder, sum(p.numel() for p in model.parameters()), "parameters, output norm", output.norm().item())


if __name__ == "__main__":
    torch.set_num_threads(1)
    embeddings.torch = Torch64()
    for name, config in CONFIGS.items():
        make(name, config)
