"""Makes model/testdata/unet2d-*: small UNet2DModel folders with random weights,
some with an adapter, and beside each a fixture.safetensors with what PyTorch
computes on them (see golden.py).

    pip install torch diffusers transformers peft safetensors numpy
    python tools/golden/unet2d.py [NAME ...]   # from the root of the repository
"""

import sys

import peft
import torch
from diffusers import DDIMScheduler, UNet2DModel

import golden

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
    # Consistency models': resampling residual blocks in every kind of block, the
    # timestep looked up in a table.
    "resnet": dict(
        sample_size=(12, 8), block_out_channels=(4, 8, 8), layers_per_block=1, norm_num_groups=2, attention_head_dim=4,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"), downsample_type="resnet",
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"), upsample_type="resnet",
        resnet_time_scale_shift="scale_shift", act_fn="gelu", time_embedding_type="learned", num_train_timesteps=9, num_class_embeds=3,
        add_attention=False,
    ),
    # NCSN++: FIR filters, pictures beside the network, noise levels as Fourier
    # features, which also divide the output.
    "ncsnpp": dict(
        sample_size=8, block_out_channels=(8, 32), layers_per_block=1, norm_num_groups=None, attention_head_dim=None,
        down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"), up_block_types=("SkipUpBlock2D", "SkipUpBlock2D"),
        time_embedding_type="fourier", mid_block_type=None, norm_eps=1e-6,
    ),
    # The one block of NCSN++ that takes no fewer channels.
    "ncsnpp-attention": dict(
        sample_size=4, in_channels=1, out_channels=1, block_out_channels=(32,), layers_per_block=1, norm_num_groups=None,
        down_block_types=("SkipDownBlock2D",), up_block_types=("AttnSkipUpBlock2D",), mid_block_type=None, act_fn="relu",
    ),
}
# Stored as float16; timesteps that are none of 0 to 999.
MORE = {"resnet": dict(variant="fp16", time=(3, 8)), "ncsnpp": dict(variant="fp16", time=(0.75, 3.5)), "ncsnpp-attention": dict(variant="fp16")}
# Adapters of the others are of lora.py.
TARGETS = {
    "resnet": ["to_q", "to_out.0", "time_emb_proj", "downsamplers.0.conv1", "upsamplers.0.conv2", "conv_in"],
    "ncsnpp": ["to_v", "resnet_down.conv1", "skip_conv", "conv_out"],
}
FULL = [
    "conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_norm_out.weight", "conv_norm_out.bias",
    "time_embedding.linear_1.weight", "time_embedding.linear_2.bias", "class_embedding.weight",
    "class_embedding.linear_1.weight", "time_proj.weight",
    "down_blocks.0.downsamplers.0.conv.weight", "up_blocks.0.upsamplers.0.conv.bias", "up_blocks.0.upsamplers.0.conv1.bias",
    "down_blocks.0.skip_conv.weight", "up_blocks.0.skip_conv.weight", "up_blocks.0.skip_norm.weight", "down_blocks.0.resnet_down.conv_shortcut.weight",
    "mid_block.resnets.0.norm2.weight", "mid_block.resnets.1.time_emb_proj.weight",
    "up_blocks.1.resnets.0.conv_shortcut.weight",
    *(f"mid_block.attentions.0.{layer}" for layer in
      ["group_norm.weight", "to_q.weight", "to_k.weight", "to_v.bias", "to_out.0.weight"]),
]


def make(name, config, more, targets=None):
    torch.manual_seed(sum(name.encode()))
    model = UNet2DModel(**config)
    golden.perturb(model)
    folder = golden.TESTDATA / f"unet2d-{name}"
    if more.get("variant"):
        model.half()
    model.save_pretrained(folder, variant=more.get("variant"))
    DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction").save_pretrained(folder)

    model.double()
    height, width = config["sample_size"] if isinstance(config["sample_size"], tuple) else [config["sample_size"]] * 2
    inputs = {
        "sample": torch.randn(2, model.config.in_channels, height, width),
        "timestep": torch.tensor(more.get("time", (3, 717))),
    }
    varies = ["sample"]
    if config.get("class_embed_type") == "identity":
        inputs["class"] = torch.randn(2, model.time_embedding.linear_2.out_features)
        varies.append("class")
    elif config.get("class_embed_type") == "timestep":
        inputs["class"] = torch.tensor([12, 250])
    elif config.get("num_class_embeds"):
        inputs["class"] = torch.tensor([config["num_class_embeds"] - 1, 1])

    def forward(model, sample, timestep, **rest):
        return model(sample, timestep, class_labels=rest.get("class")).sample

    lora = peft.LoraConfig(r=2, lora_alpha=3, target_modules=targets) if targets else None
    golden.record(folder, model, forward, inputs, varies, FULL, lora, "tools/golden/unet2d.py")


if __name__ == "__main__":
    golden.setup()
    for name, config in CONFIGS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            make(name, config, MORE.get(name, {}), TARGETS.get(name))
