"""What the programs here that make fixtures of networks share.

A fixture is a folder as diffusers or transformers writes it, and beside it a
fixture.safetensors with what PyTorch computes on it in float64 (package
model/modeltest reads it):

    NAME          an input of the network, such as sample, timestep, condition,
                  or a setting of the call, such as guidance
    output        what it gives; output.NAME where it gives several
    seed          numbers of the output's shape; seed.NAME
    grad_NAME     the gradient of sum(output*seed) at an input
    grad.NAME     the same at a parameter, in full, for some
    grad_norms    [P 2] norm and sum of the gradient at every parameter that has
                  one, rows in the order of the sorted names
    lora.output, lora.grad.NAME
                  the output and the gradients at every A and B with the adapter
                  of the folder lora/ (PEFT's files), on the same inputs and seeds
"""

import pathlib
import warnings

import numpy
import torch
from safetensors.numpy import save_file

TESTDATA = pathlib.Path("model/testdata")


class Torch64:
    """torch, with float64 where float32 is asked for."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def setup():
    """float64 everywhere in diffusers: its sinusoids insist on float32."""
    from diffusers.models import embeddings

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    embeddings.torch = Torch64()


def perturb(model, seed=None):
    """Moves every parameter away from its default, norms' ones and zeros, too."""
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # frequencies stay as they are drawn
                size = 0.2 * parameter.std().nan_to_num(1).clamp(min=0.3)
                parameter += size * torch.randn(parameter.shape, generator=generator)


def _array(tensor):
    return numpy.ascontiguousarray(tensor.detach().numpy().astype(numpy.float32))


def _named(prefix, outputs):
    """{"output": x} or {"output.a": x, "output.b": y}."""
    if not isinstance(outputs, dict):
        return {prefix: outputs}
    return {f"{prefix}.{name}": tensor for name, tensor in outputs.items()}


def _backward(outputs, seeds):
    if not isinstance(outputs, dict):
        outputs, seeds = {"": outputs}, {"": seeds}
    sum((outputs[name] * seeds[name]).sum() for name in outputs).backward()


def record(folder, model, forward, inputs, varies=("sample",), full=(), lora=None, made_by="", file="fixture.safetensors"):
    """Writes folder/file.

    forward(model, **inputs) gives a tensor or a dict of tensors. inputs are
    tensors by name, of which those in varies have gradients. full names the
    parameters whose gradients are kept whole. lora is a peft.LoraConfig, whose
    adapter is drawn and saved to folder/lora.
    """
    import diffusers
    import transformers

    folder = pathlib.Path(folder)
    model = model.double().eval()
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
    for name in varies:
        inputs[name].requires_grad_()
    outputs = forward(model, **inputs)
    if isinstance(outputs, dict):
        seeds = {n: torch.randn(t.shape).double() for n, t in outputs.items()}
    else:
        seeds = torch.randn(outputs.shape).double()
    _backward(outputs, seeds)

    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    tensors = dict(inputs) | _named("output", outputs) | _named("seed", seeds)
    tensors |= {f"grad_{n}": inputs[n].grad for n in varies}
    if gradients:
        tensors["grad_norms"] = torch.stack([torch.stack([gradients[n].norm(), gradients[n].sum()]) for n in sorted(gradients)])
    tensors |= {f"grad.{n}": gradients[n] for n in full if n in gradients}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__, "made_by": made_by}
    changed = 0.0
    if lora is not None:
        import peft

        versions["peft"] = peft.__version__
        adapted = peft.get_peft_model(model, lora).double()
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:  # which start at zero
                    parameter += 0.2 * torch.randn_like(parameter)
                if "lora_" in name:  # as the file holds them
                    parameter.copy_(parameter.float())
        adapted.float().save_pretrained(folder / "lora")
        adapted.double()
        (folder / "lora/README.md").unlink(missing_ok=True)
        (folder / "lora/adapter_model.safetensors").chmod(0o644)
        lora_outputs = forward(adapted, **{n: t.detach() for n, t in inputs.items()})
        _backward(lora_outputs, seeds)
        tensors |= _named("lora.output", lora_outputs)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                tensors["lora.grad." + name.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad
        first = lora_outputs if not isinstance(lora_outputs, dict) else next(iter(lora_outputs.values()))
        plain = outputs if not isinstance(outputs, dict) else next(iter(outputs.values()))
        changed = ((first - plain).norm() / plain.norm()).item()
    save_file({n: _array(t) for n, t in tensors.items()}, folder / file, metadata=versions)
    norms = {n: round(t.norm().item(), 4) for n, t in _named("output", outputs).items()}
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(folder, sum(p.numel() for p in model.parameters()), "parameters,", norms, f"changed {changed:.3f} by LoRA, {size // 1000} kB")
