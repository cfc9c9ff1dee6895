"""Draws random valid configs of the classes that package model reads, and writes
each as save_pretrained does with what PyTorch computes on it (see golden.py).

    pip install torch diffusers transformers peft safetensors numpy
    python tools/golden/random_configs.py OUT [COUNT [SEED]]   # from the root of the repository
    SDO_RANDOM_CONFIGS=OUT go test ./model -run RandomConfigs -v

A config is valid when diffusers builds the network and it runs. Left out is what
package model refuses by name: blocks of the latent upscaler (K...), dual and
gated attention, conditions on images, SDXL's. Eight folders of COUNT 84 and
SEED 7 are committed as model/testdata/random-*.
"""

import pathlib
import random
import shutil
import sys

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

import autoencoder
import golden
import unet2d
import unet2d_condition

pick = random.choice
ACTIVATIONS = ["silu", "silu", "silu", "swish", "gelu", "mish", "relu"]
MODULES = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "time_emb_proj", "conv_in", "conv_out", "ff.net.0.proj", "ff.net.2", "conv_shortcut"]


def maybe(probability, value, otherwise=None):
    return value if random.random() < probability else otherwise


def common(levels, groups):
    """What both UNets have."""
    channels = tuple(groups * pick([1, 2, 2, 3, 4] if groups > 2 else [2, 3, 4, 5, 6]) for _ in range(levels))
    side = 2 ** (levels - 1)
    config = dict(
        block_out_channels=channels, norm_num_groups=groups, act_fn=pick(ACTIVATIONS), norm_eps=pick([1e-5, 1e-6, 1e-3]),
        center_input_sample=maybe(0.2, True, False), flip_sin_to_cos=pick([True, False]), freq_shift=pick([0, 1]),
        downsample_padding=pick([0, 1]), mid_block_scale_factor=pick([1, 1, 1.4142, 2.0]), dropout=pick([0.0, 0.1]),
        resnet_time_scale_shift=pick(["default", "default", "scale_shift"]), time_embedding_dim=maybe(0.3, pick([6, 10, 16])),
        sample_size=pick([2 * side, 4 * side, (4 * side, 2 * side), (3 * side, 4 * side)]),
    )
    return config, channels


def draw_unet2d():
    levels = pick([1, 2, 2, 3, 3, 4])
    config, channels = common(levels, pick([1, 2, 4]))
    down = ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "UNetResDownBlock2D", "UNetResAttnDownBlock2D"]
    up = ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "UNetResUpBlock2D", "UNetResAttnUpBlock2D"]
    config |= dict(
        in_channels=pick([1, 2, 3, 4]), out_channels=pick([1, 3, 6]), layers_per_block=pick([1, 1, 2, 3]),
        down_block_types=tuple(pick(down) for _ in channels), up_block_types=tuple(pick(up) for _ in channels),
        mid_block_type=maybe(0.8, "UNetMidBlock2D"), add_attention=maybe(0.7, True, False), attention_head_dim=pick([None, 1, 2, 3]),
        downsample_type=pick(["conv", "resnet"]), upsample_type=pick(["conv", "resnet"]), attn_norm_num_groups=maybe(0.2, 1),
        time_embedding_type=pick(["positional", "positional", "fourier", "learned"]),
    )
    if random.random() < 0.25:  # NCSN++
        config |= dict(
            in_channels=3, out_channels=3, norm_num_groups=None, block_out_channels=tuple(pick([8, 16]) for _ in channels),
            down_block_types=("SkipDownBlock2D",) * levels, up_block_types=("SkipUpBlock2D",) * levels,
        )
    more = {}
    if config["time_embedding_type"] == "learned":
        config["num_train_timesteps"], more["time"] = 10, (9, 4)
    elif config["time_embedding_type"] == "fourier":
        more["time"] = (0.5, 1.75)
    if config["time_embedding_type"] == "positional" or config["time_embedding_type"] == "learned":
        config |= pick([{}, {}, dict(class_embed_type="timestep" if not more else None), dict(class_embed_type="identity"), dict(num_class_embeds=4)])
    return config, more


def draw_condition():
    levels = pick([1, 2, 2, 3, 3])
    config, channels = common(levels, pick([2, 4]))
    down = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"]
    up = ["CrossAttnUpBlock2D"] * 3 + ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"]
    layers = pick([1, 1, 2, tuple(pick([1, 2]) for _ in channels)])
    each = layers if isinstance(layers, tuple) else (layers,) * levels
    width = pick([4, 6, 9])
    config |= dict(
        in_channels=pick([3, 4, 9]), out_channels=pick([3, 4, 8]), layers_per_block=layers,
        down_block_types=tuple(pick(down) for _ in channels), up_block_types=tuple(pick(up) for _ in channels),
        mid_block_type=pick(["UNetMidBlock2DCrossAttn", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "UNetMidBlock2DSimpleCrossAttn", None]),
        cross_attention_dim=pick([width, (width,) * levels]), attention_head_dim=pick([1, 2, tuple(pick([1, 2]) for _ in channels)]),
        only_cross_attention=pick([False, False, True, tuple(pick([True, False]) for _ in channels)]),
        use_linear_projection=pick([True, False]), upcast_attention=pick([True, False]),
        transformer_layers_per_block=pick([1, 1, 2, tuple(pick([1, 2]) for _ in channels)]),
        resnet_skip_time_act=maybe(0.3, True, False), resnet_out_scale_factor=pick([1.0, 1.4142]),
        time_embedding_type=pick(["positional", "positional", "fourier"]), time_embedding_act_fn=maybe(0.2, pick(["silu", "gelu"])),
        timestep_post_act=maybe(0.2, pick(["silu", "mish"])), time_cond_proj_dim=maybe(0.3, pick([4, 7])), conv_in_kernel=pick([1, 3, 3, 5]),
        conv_out_kernel=pick([1, 3, 3]), mid_block_only_cross_attention=pick([None, True, False]), cross_attention_norm=maybe(0.1, "layer_norm"),
        sample_size=pick([config["sample_size"], 5, (7, 6), (9, 8)]),
    )
    if random.random() < 0.15:
        config["transformer_layers_per_block"] = tuple(tuple(pick([1, 2]) for _ in range(n)) for n in each)
        config["reverse_transformer_layers_per_block"] = tuple(tuple(pick([1, 2]) for _ in range(n + 1)) for n in reversed(each))
    if random.random() < 0.2:
        config |= dict(encoder_hid_dim=pick([5, 8]), cross_attention_dim=width)
    if random.random() < 0.15:
        config |= dict(addition_embed_type="text", addition_embed_type_num_heads=1, cross_attention_dim=width)
    config |= pick([{}, {}, dict(class_embed_type="timestep"), dict(class_embed_type="identity"), dict(num_class_embeds=3),
                    dict(class_embed_type="projection", projection_class_embeddings_input_dim=5),
                    dict(class_embed_type="simple_projection", projection_class_embeddings_input_dim=5)])
    if (config.get("class_embed_type") or config.get("num_class_embeds")) and config.get("addition_embed_type") is None:
        config["class_embeddings_concat"] = maybe(0.3, True, False)
    more = dict(tokens=pick([1, 3, 5]))
    if config["time_embedding_type"] == "fourier":
        more["time"] = (0.5, 1.75)
        if config.get("time_embedding_dim") is not None:
            config["time_embedding_dim"] = 12
    if config["time_cond_proj_dim"]:
        more["guidance"] = pick([1.0, 3.5, 8.0])
    return config, more


def draw_kl():
    levels = pick([1, 2, 3])
    groups = pick([1, 2])
    channels = tuple(groups * pick([2, 3, 4]) for _ in range(levels))
    side = 2 ** (levels - 1)
    config = dict(
        in_channels=pick([1, 3]), out_channels=pick([1, 3]), block_out_channels=channels, norm_num_groups=groups, layers_per_block=pick([1, 2]),
        down_block_types=tuple(pick(["DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"]) for _ in channels),
        up_block_types=tuple(pick(["UpDecoderBlock2D", "UpDecoderBlock2D", "AttnUpDecoderBlock2D"]) for _ in channels),
        act_fn=pick(ACTIVATIONS), latent_channels=pick([2, 4]), scaling_factor=pick([0.18215, 0.13025, 1.0]), shift_factor=pick([None, 0.1]),
        use_quant_conv=pick([True, False]), use_post_quant_conv=pick([True, False]), mid_block_add_attention=pick([True, False]),
        sample_size=pick([16, 32]), force_upcast=pick([True, False]),
    )
    return config, (2, side * pick([3, 4]), side * pick([2, 5])), AutoencoderKL


def draw_tiny():
    levels = pick([1, 2, 3])
    e, d = pick([4, 6]), pick([4, 6])
    side = 2 ** (levels - 1)
    config = dict(
        in_channels=pick([1, 3]), out_channels=pick([1, 3]), encoder_block_out_channels=(e,) * levels, decoder_block_out_channels=(d,) * levels,
        num_encoder_blocks=tuple(pick([1, 2]) for _ in range(levels)), num_decoder_blocks=tuple(pick([1, 2]) for _ in range(levels)),
        act_fn=pick(["relu", "gelu", "mish", "swish"]), latent_channels=pick([2, 4]), scaling_factor=pick([1.0, 0.5]), shift_factor=pick([0.0, 0.2]),
        latent_magnitude=pick([2, 3]), latent_shift=pick([0.5, 0.25]),
    )
    return config, (2, side * pick([3, 4]), side * pick([2, 5])), AutoencoderTiny


def draw(i):
    """Returns what makes one fixture and the folder it makes."""
    kind = ["unet2d", "condition", "unet2d", "condition", "condition", "kl", "tiny"][i % 7]
    targets = random.sample(MODULES, 4) if random.random() < 0.3 else []
    if kind == "unet2d":
        config, more = draw_unet2d()
        attends = config["mid_block_type"] and config["add_attention"] or any("Attn" in b for b in config["down_block_types"])
        targets = [t for t in targets if not t.startswith("ff") and (attends or not t.startswith("to_"))]
        return (lambda: unet2d.make(f"{i:02}", config, more, targets)), f"unet2d-{i:02}"
    if kind == "condition":
        config, more = draw_condition()
        return (lambda: unet2d_condition.make(f"{i:02}", config, more, targets)), f"unet2d-condition-{i:02}"
    config, picture, model = draw_kl() if kind == "kl" else draw_tiny()
    return (lambda: autoencoder.make(f"{i:02}", config, picture, model)), f"autoencoder-{i:02}"


def main(out, count=49, seed=1):
    golden.setup()
    golden.TESTDATA = pathlib.Path(out)
    golden.TESTDATA.mkdir(parents=True, exist_ok=True)
    random.seed(int(seed))
    refused = 0
    for i in range(int(count)):
        while True:
            make, folder = draw(i)
            try:
                make()
                break
            except (ValueError, RuntimeError, TypeError, AssertionError, ZeroDivisionError) as e:
                refused += 1
                print("not valid:", str(e).splitlines()[0][:150])
                shutil.rmtree(golden.TESTDATA / folder, ignore_errors=True)
    print(count, "configs,", refused, "draws that diffusers refused")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    main(*sys.argv[1:])
