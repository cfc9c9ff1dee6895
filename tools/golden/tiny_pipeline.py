"""Makes a Stable Diffusion pipeline with a few thousand random weights, and what
people put beside one:

    model/testdata/stable-diffusion  StableDiffusionPipeline.save_pretrained: UNet2DConditionModel,
                                     AutoencoderKL, CLIPTextModel, a tokenizer in the old layout,
                                     PNDMScheduler
    model/testdata/taesd             AutoencoderTiny for the same latents
    model/testdata/clip              CLIPModel with tokenizer and preprocessor_config.json

    pip install torch diffusers transformers safetensors numpy
    python tools/golden/tiny_pipeline.py     # from the root of the repository

All weights are f16. stable-diffusion/fixture.safetensors holds what PyTorch
computes with them in float64 (rows of one text or picture):

    ids, negative_ids [1 77]         PROMPT and NEGATIVE tokenised
    embeds, negative_embeds          their hidden states [1 77 16]
    noise [1 4 8 8]                  the latents that sampling starts from
    cond, uncond, guided             the denoiser at timestep 601 on noise, and with GUIDANCE
    timesteps [STEPS], latents       DDIM without noise in STEPS steps with GUIDANCE, of the scheduler's config
    image [1 3 32 32]                latents decoded by the pipeline, unclamped, in [-1, 1]
    encoded                          the mean of image encoded again, scaled
    taesd.image, taesd.encoded       the same by taesd
    clip.text, clip.image            embeddings of PROMPT and image, before they are normalised [1 12]
    similarity [1]                   their cosine
    grad_image, grad_latents         its gradient at image, and through the decoder at latents
    taesd.similarity, taesd.grad_latents
    grad_embeds                      the gradient at embeds of sum(cond*seed); seed has cond's shape

and in its metadata prompt, negative, guidance.
"""

import json
import shutil

import numpy
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.numpy import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

import golden
import vocabulary

PROMPT, NEGATIVE = "A photo of a RED apple, highly detailed!", "blurry"
GUIDANCE, STEPS = 7.5, 5


def half(model, seed, scale=1):
    """Every weight moved from its default, then rounded as the file has it."""
    for i in range(scale):
        golden.perturb(model, seed + 1000 * i)
    return model.half().eval()


def folder(name):
    path = golden.TESTDATA / name
    shutil.rmtree(path, ignore_errors=True)
    return path


def make():
    torch.manual_seed(1)
    words = len(vocabulary.learn()[0])
    ends = dict(bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1)
    text = dict(vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)

    sd = folder("stable-diffusion")
    vocabulary.save_old(sd / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    vae = AutoencoderKL(
        sample_size=32, block_out_channels=(8, 8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
    encoder = CLIPTextModel(CLIPTextConfig(**text, **ends, projection_dim=12))
    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1,
                              prediction_type="v_prediction")  # what a random network makes of noise stays bounded
    pipe = StableDiffusionPipeline(
        vae=half(vae, 2), text_encoder=half(encoder, 3), tokenizer=CLIPTokenizer.from_pretrained(sd / "tokenizer"), unet=half(unet, 4),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(sd)
    (sd / "tokenizer/tokenizer.json").unlink()  # save_pretrained writes the new layout
    vocabulary.save_old(sd / "tokenizer")
    path = sd / "scheduler/scheduler_config.json"  # Stable Diffusion's has a key of DDIM's, too
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clip_sample": False}, indent=2))

    taesd = half(AutoencoderTiny(
        encoder_block_out_channels=(8,) * 3, decoder_block_out_channels=(8,) * 3,
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1)), 5)
    taesd.save_pretrained(folder("taesd"))

    torch.manual_seed(6)
    clip = half(CLIPModel(CLIPConfig(
        text_config=CLIPTextConfig(**text, **ends).to_dict(), projection_dim=12,
        vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                                       image_size=24, patch_size=8).to_dict())), 6, 3)
    path = folder("clip")
    clip.save_pretrained(path)
    vocabulary.save_new(path)
    preprocess = dict(
        crop_size=24, do_center_crop=True, do_normalize=True, do_resize=True, feature_extractor_type="CLIPFeatureExtractor",
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711], resample=3, size=24)
    (path / "preprocessor_config.json").write_text(json.dumps(preprocess, indent=2))
    return pipe, taesd, clip, preprocess


def clip_pixels(image, config):
    """CLIPImageProcessor on floats, differentiably."""
    x = F.interpolate((image + 1) / 2, size=(config["size"],) * 2, mode="bicubic", antialias=True)
    mean, std = (torch.tensor(config[k], dtype=x.dtype)[:, None, None] for k in ("image_mean", "image_std"))
    return (x - mean) / std


def main():
    golden.setup()
    pipe, taesd, clip, preprocess = make()
    unet, vae, encoder = pipe.unet.double(), pipe.vae.double(), pipe.text_encoder.double()
    taesd, clip = taesd.double(), clip.double()
    scale = vae.config.scaling_factor

    ids = {n: pipe.tokenizer(t, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
           for n, t in (("ids", PROMPT), ("negative_ids", NEGATIVE))}
    t = dict(ids)
    t["embeds"], t["negative_embeds"] = (encoder(i).last_hidden_state.detach() for i in ids.values())
    embeds = t["embeds"].clone().requires_grad_()
    t["noise"] = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)).double()
    t["cond"] = unet(t["noise"], 601, encoder_hidden_states=embeds).sample
    t["seed"] = torch.randn(t["cond"].shape, generator=torch.Generator().manual_seed(8)).double()
    (t["grad_embeds"],) = torch.autograd.grad((t["cond"] * t["seed"]).sum(), embeds)
    t["uncond"] = unet(t["noise"], 601, encoder_hidden_states=t["negative_embeds"]).sample
    t["guided"] = t["uncond"] + GUIDANCE * (t["cond"] - t["uncond"])

    ddim = DDIMScheduler.from_pretrained(golden.TESTDATA / "stable-diffusion", subfolder="scheduler")
    ddim.alphas_cumprod = ddim.alphas_cumprod.double()
    ddim.final_alpha_cumprod = ddim.final_alpha_cumprod.double()
    ddim.set_timesteps(STEPS)
    t["timesteps"] = ddim.timesteps
    x = t["noise"]
    with torch.no_grad():
        for step in ddim.timesteps:
            cond, uncond = (unet(x, step, encoder_hidden_states=t[e]).sample for e in ("embeds", "negative_embeds"))
            x = ddim.step(uncond + GUIDANCE * (cond - uncond), step, x).prev_sample
    t["latents"] = x.clone().requires_grad_()

    t["clip.text"] = clip.text_projection(clip.text_model(ids["ids"]).pooler_output)
    def similarity(image):
        embedding = clip.visual_projection(clip.vision_model(clip_pixels(image, preprocess)).pooler_output)
        return embedding, F.cosine_similarity(embedding, t["clip.text"].detach())

    t["image"] = vae.decode(t["latents"] / scale).sample
    t["encoded"] = vae.encode(t["image"]).latent_dist.mean * scale
    t["clip.image"], t["similarity"] = similarity(t["image"])
    t["grad_image"], t["grad_latents"] = torch.autograd.grad(t["similarity"].sum(), (t["image"], t["latents"]))
    t["taesd.image"] = taesd.decode(t["latents"]).sample
    t["taesd.encoded"] = taesd.encode(t["taesd.image"]).latents
    _, t["taesd.similarity"] = similarity(t["taesd.image"])
    (t["taesd.grad_latents"],) = torch.autograd.grad(t["taesd.similarity"].sum(), t["latents"])

    arrays = {n: numpy.ascontiguousarray(v.detach().numpy().astype(numpy.float32)) for n, v in t.items()}
    save_file(arrays, golden.TESTDATA / "stable-diffusion/fixture.safetensors", metadata=dict(
        prompt=PROMPT, negative=NEGATIVE, guidance=str(GUIDANCE), made_by="tools/golden/tiny_pipeline.py", torch=torch.__version__))
    for n, v in t.items():
        print(n, list(v.shape), v.double().norm().item())
    for name in ("stable-diffusion", "taesd", "clip"):
        files = [f for f in (golden.TESTDATA / name).rglob("*") if f.is_file()]
        for f in files:
            f.chmod(0o644)
        print(name, sum(f.stat().st_size for f in files) // 1000, "kB", sorted(str(f.relative_to(golden.TESTDATA / name)) for f in files))


if __name__ == "__main__":
    main()
