"""Makes model/testdata/autoencoder-*: small AutoencoderKL and AutoencoderTiny
folders with random weights, and beside each a decoder.safetensors and an
encoder.safetensors with what PyTorch computes on them (see golden.py). Latents
are as a denoiser has them: the scaling that a pipeline does is in the graphs.

    pip install torch diffusers transformers safetensors numpy
    python tools/golden/autoencoder.py [NAME ...]   # from the root of the repository
"""

import shutil
import sys

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file

import golden

DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
KL = {
    # Stable Diffusion's, on a picture that is not square.
    "kl-sd": (dict(block_out_channels=(8, 12), layers_per_block=2, norm_num_groups=4, down_block_types=(DOWN, DOWN), up_block_types=(UP, UP)), (2, 6, 10)),
    # Attention at every layer but none in the middle, Stable Diffusion 3's shift
    # and missing convolutions, three levels, another number of channels.
    "kl-attention": (dict(
        in_channels=2, out_channels=5, block_out_channels=(4, 4, 6), layers_per_block=1, norm_num_groups=2, latent_channels=3,
        down_block_types=("Attn" + DOWN, DOWN, "Attn" + DOWN), up_block_types=("Attn" + UP, "Attn" + UP, UP), act_fn="mish",
        mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.0609,
    ), (1, 12, 8)),
    # One level, a mean and a deviation for every channel; the attention under the
    # names and in the shapes of files of 2022.
    "kl-old": (dict(
        block_out_channels=(6,), norm_num_groups=3, act_fn="gelu", scaling_factor=0.13025, latents_mean=(0.1, -0.2, 0.3, 1.5), latents_std=(0.5, 1.5, 2, 0.7),
    ), (2, 5, 3)),
}
TINY = {
    "tiny-sd": (dict(encoder_block_out_channels=(6,) * 3, decoder_block_out_channels=(6,) * 3, num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1)), (2, 12, 8)),
    # Three times larger would not fit the encoder: one level, no blocks at all in
    # one list, other activations, a scale and a shift.
    "tiny-odd": (dict(
        in_channels=4, out_channels=1, encoder_block_out_channels=(5, 5), decoder_block_out_channels=(7, 7), num_encoder_blocks=(0, 1),
        num_decoder_blocks=(1, 0), act_fn="gelu", latent_channels=2, scaling_factor=0.5, shift_factor=0.2, latent_magnitude=2,
    ), (1, 10, 6)),
}
FULL = [f"{side}.{name}" for side in ("encoder", "decoder") for name in (
    "conv_in.weight", "conv_out.bias", "conv_norm_out.weight", "mid_block.resnets.1.conv1.weight", "mid_block.attentions.0.to_q.weight",
    "mid_block.attentions.0.to_out.0.bias", "down_blocks.0.downsamplers.0.conv.weight", "up_blocks.0.upsamplers.0.conv.weight",
    "layers.0.weight", "layers.2.conv.2.weight", "layers.5.weight")] + ["quant_conv.weight", "post_quant_conv.bias"]


def old_names(path):
    """The attention's layers as diffusers before 0.18 called them, two of them 1x1 convolutions."""
    tensors = {}
    for name, tensor in load_file(path).items():
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        if name.endswith(("query.weight", "proj_attn.weight")):
            tensor = tensor[:, :, None, None]
        tensors[name] = tensor.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def make(name, config, picture, kind):
    torch.manual_seed(sum(name.encode()))
    model = kind(**config)
    golden.perturb(model, 1)
    if kind is AutoencoderTiny:
        # ReLU's gradient jumps where a rounded weight moves a sum over zero, so
        # weights are numbers that f16 holds, as TAESD's are.
        model.half()
    folder = golden.TESTDATA / f"autoencoder-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if name == "kl-old":
        old_names(folder / "diffusion_pytorch_model.safetensors")

    c = model.config
    scale, shift, mean, std = c.scaling_factor, c.shift_factor or 0, 0, 1
    if c.get("latents_mean"):
        mean, std = (torch.tensor(c[k], dtype=torch.float64)[:, None, None] for k in ("latents_mean", "latents_std"))

    def decode(model, latents):
        return model.decode(latents * std / scale + shift + mean).sample

    def encode(model, images):
        z = model.encode(images)
        z = z.latent_dist.mean if kind is AutoencoderKL else z.latents
        return (z - shift - mean) * scale / std

    n, height, width = picture
    factor = 2 ** (len(config.get("encoder_block_out_channels") or config["block_out_channels"]) - 1)
    latents = torch.randn(n, c.latent_channels, height // factor, width // factor)
    images = torch.randn(n, c.in_channels, height, width)
    made_by = "tools/golden/autoencoder.py"
    golden.record(folder, model, decode, {"latents": 2 * latents * scale}, ["latents"], FULL, None, made_by, "decoder.safetensors")
    model.zero_grad()
    golden.record(folder, model, encode, {"images": images}, ["images"], FULL, None, made_by, "encoder.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    golden.setup()
    for configs, kind in ((KL, AutoencoderKL), (TINY, AutoencoderTiny)):
        for name, (config, picture) in configs.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                make(name, config, picture, kind)
