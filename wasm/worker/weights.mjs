// The built-in networks' weights, as modules of the worker: they are there when
// the Go program asks, and reading them waits for nothing.
import avatars_16_guide_classifier from '../../model/builtin/avatars-16-guide/model.safetensors'
import avatars_16_judge_classifier from '../../model/builtin/avatars-16-judge/model.safetensors'
import avatars_16_s_embedder from '../../model/builtin/avatars-16-s/attribute_embedder.safetensors'
import avatars_16_s_unet from '../../model/builtin/avatars-16-s/diffusion_pytorch_model.fp16.safetensors'
import fashion_28_guide_classifier from '../../model/builtin/fashion-28-guide/model.safetensors'
import fashion_28_judge_classifier from '../../model/builtin/fashion-28-judge/model.safetensors'
import fashion_28_embedder from '../../model/builtin/fashion-28/attribute_embedder.safetensors'
import fashion_28_unet from '../../model/builtin/fashion-28/diffusion_pytorch_model.fp16.safetensors'

/** By their names in package builtin. */
export const weights = {
  'avatars-16-guide/model.safetensors': avatars_16_guide_classifier,
  'avatars-16-judge/model.safetensors': avatars_16_judge_classifier,
  'avatars-16-s/attribute_embedder.safetensors': avatars_16_s_embedder,
  'avatars-16-s/diffusion_pytorch_model.fp16.safetensors': avatars_16_s_unet,
  'fashion-28-guide/model.safetensors': fashion_28_guide_classifier,
  'fashion-28-judge/model.safetensors': fashion_28_judge_classifier,
  'fashion-28/attribute_embedder.safetensors': fashion_28_embedder,
  'fashion-28/diffusion_pytorch_model.fp16.safetensors': fashion_28_unet,
}
