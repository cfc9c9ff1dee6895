"""Makes model/testdata/unet2d-condition-*: small UNet2DConditionModel folders with
random weights and an adapter, and beside each a fixture.safetensors with what
PyTorch computes on them (see golden.py).

    pip install torch diffusers transformers peft safetensors numpy
    python tools/golden/unet2d_condition.py [NAME ...]   # from the root of the repository
"""

import sys

import peft
import torch
from diffusers import UNet2DConditionModel

import golden

CROSS, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
CONFIGS = {
    # Stable Diffusion 1's: convolutions around the transformers, heads that leave
    # a channel over, a picture that is odd at every level.
    "sd1": (dict(
        sample_size=(10, 13), in_channels=4, out_channels=4, block_out_channels=(8, 12, 12), layers_per_block=1, norm_num_groups=4,
        down_block_types=(CROSS, CROSS, "DownBlock2D"), up_block_types=("UpBlock2D", UP, UP), cross_attention_dim=10, attention_head_dim=(2, 3, 5),
    ), dict(tokens=5)),
    # Stable Diffusion 2's: linear projections, heads by level, two layers; a single
    # residual block in the middle, as distilled networks have it.
    "sd2": (dict(
        sample_size=4, block_out_channels=(8, 16), layers_per_block=2, norm_num_groups=2, mid_block_type="UNetMidBlock2D",
        down_block_types=(CROSS, "DownBlock2D"), up_block_types=("UpBlock2D", UP), cross_attention_dim=6, attention_head_dim=(2, 4),
        use_linear_projection=True, upcast_attention=True, class_embed_type="timestep",
    ), dict(tokens=7)),
    # Latent consistency: the guidance scale beside the timestep. No middle, lists
    # for layers and transformers, which read the condition twice in one level.
    "lcm": (dict(
        sample_size=(4, 6), block_out_channels=(8, 8), layers_per_block=(1, 2), norm_num_groups=4, mid_block_type=None,
        down_block_types=(CROSS, CROSS), up_block_types=(UP, UP), cross_attention_dim=6, attention_head_dim=2,
        only_cross_attention=(False, True), transformer_layers_per_block=((2,), (1, 1)),
        reverse_transformer_layers_per_block=((1, 1, 1), (1, 2)), time_cond_proj_dim=9, downsample_padding=0, flip_sin_to_cos=False,
        freq_shift=1, num_class_embeds=3,
    ), dict(tokens=3, guidance=4.5, variant="fp16")),
    # DeepFloyd's: attention to pixels and condition together, resampling residual
    # blocks, GELU, the prompt in the time embedding, too, and projected.
    "simple": (dict(
        sample_size=8, in_channels=3, out_channels=6, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), cross_attention_dim=32, attention_head_dim=4,
        act_fn="gelu", resnet_time_scale_shift="scale_shift", resnet_skip_time_act=True, resnet_out_scale_factor=1.41421,
        time_embedding_act_fn="gelu", timestep_post_act="mish", encoder_hid_dim=6, encoder_hid_dim_type="text_proj",
        addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_norm="group_norm", mid_block_only_cross_attention=True,
        mid_block_scale_factor=1.41421, conv_in_kernel=1, conv_out_kernel=5,
    ), dict(tokens=4, variant="fp16")),
    # Fourier features of the timestep, a projected class beside it, plain
    # attention blocks.
    "fourier": (dict(
        sample_size=4, block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4, center_input_sample=True,
        down_block_types=("AttnDownBlock2D", CROSS), up_block_types=(UP, "AttnUpBlock2D"), cross_attention_dim=6, attention_head_dim=(4, 2),
        time_embedding_type="fourier", time_embedding_dim=20, class_embed_type="projection", projection_class_embeddings_input_dim=5,
        class_embeddings_concat=True, act_fn="mish", mid_block_scale_factor=2,
    ), dict(tokens=4, time=(0.5, 2.25), variant="fp16")),
}
FULL = ["conv_in.weight", "conv_out.bias", "time_embedding.cond_proj.weight", "encoder_hid_proj.weight", "add_embedding.pool.positional_embedding",
        "add_embedding.norm1.weight", "class_embedding.linear_1.bias", "conv_norm_out.weight"]
FULL += [f"down_blocks.0.attentions.0.{n}" for n in (
    "norm.weight", "proj_in.weight", "proj_out.bias", "transformer_blocks.0.norm1.bias", "transformer_blocks.0.attn1.to_q.weight",
    "transformer_blocks.0.attn2.to_k.weight", "transformer_blocks.0.attn2.to_v.weight", "transformer_blocks.0.ff.net.2.bias")]
FULL += [f"mid_block.attentions.0.{n}" for n in ("to_q.weight", "add_k_proj.weight", "add_v_proj.bias", "norm_cross.weight")]
TARGETS = ["attn1.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0", "ff.net.0.proj", "proj_in", "mid_block.attentions.0.add_k_proj",
           "mid_block.resnets.0.conv1", "mid_block.resnets.0.time_emb_proj", "conv_out"]


def guidance_embedding(scale, width):
    """What LatentConsistencyModelPipeline shows a network of its guidance scale."""
    from diffusers import LatentConsistencyModelPipeline

    torch.set_default_dtype(torch.float64)  # of a logarithm in there
    try:
        w = torch.tensor([scale - 1])
        return LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, embedding_dim=width, dtype=torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)


def make(name, config, more, targets=TARGETS):
    torch.manual_seed(sum(name.encode()))
    model = UNet2DConditionModel(**config)
    golden.perturb(model)
    folder = golden.TESTDATA / f"unet2d-condition-{name}"
    if "variant" in more:
        model.half()
    model.save_pretrained(folder, variant=more.get("variant"))
    height, width = config["sample_size"] if isinstance(config["sample_size"], tuple) else [config["sample_size"]] * 2
    wide = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    wide = wide[0] if isinstance(wide, tuple) else wide
    inputs = {
        "sample": torch.randn(2, model.config.in_channels, height, width),
        "timestep": torch.tensor(more.get("time", (3, 717))),
        "condition": torch.randn(2, more["tokens"], wide),
    }
    varies = ["sample", "condition"]
    kind = config.get("class_embed_type")
    if kind in ("projection", "simple_projection"):
        inputs["class"] = torch.randn(2, config["projection_class_embeddings_input_dim"])
        varies.append("class")
    elif kind == "timestep":
        inputs["class"] = torch.tensor([12, 250])
    elif kind == "identity":
        inputs["class"] = torch.randn(2, model.time_embedding.linear_2.out_features)
        varies.append("class")
    elif config.get("num_class_embeds"):
        inputs["class"] = torch.tensor([config["num_class_embeds"] - 1, 0])
    if "guidance" in more:
        inputs["guidance"] = torch.tensor([more["guidance"]])

    def forward(model, sample, timestep, condition, **rest):
        cond = None
        if "guidance" in rest:
            cond = guidance_embedding(rest["guidance"].item(), config["time_cond_proj_dim"]).expand(len(sample), -1)
        return model(sample, timestep, condition, class_labels=rest.get("class"), timestep_cond=cond).sample

    modules = [n for n, _ in model.named_modules()]
    targets = [t for t in targets if any(n == t or n.endswith("." + t) for n in modules)]
    lora = peft.LoraConfig(r=2, lora_alpha=3, target_modules=targets) if targets else None
    golden.record(folder, model, forward, inputs, varies, FULL, lora, "tools/golden/unet2d_condition.py")


if __name__ == "__main__":
    golden.setup()
    for name, (config, more) in CONFIGS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            make(name, config, more)
