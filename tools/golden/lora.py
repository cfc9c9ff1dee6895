"""Makes model/testdata/lora: an adapter with random numbers over the network of
unet2d-attention, in the files of PEFT and of kohya-ss' trainers, and in
fixture.safetensors what PyTorch computes with it.

    pip install torch diffusers peft safetensors numpy
    python tools/golden/lora.py                  # from the root of the repository
    python tools/golden/lora.py check FOLDER     # open a folder this program's tests or commands wrote

The folder peft is what PeftModel.save_pretrained writes; kohya.safetensors holds
the same numbers under kohya-ss' names. The fixture holds the inputs of
unet2d-attention's, the output, and the gradient of sum(output*seed) at every A
and B. check opens a PEFT folder over the same network and compares its output
with the fixture's; the difference is rounding, below 1e-6.
"""

import json
import pathlib
import sys

import numpy
import peft
import torch
from diffusers import UNet2DModel
from safetensors.numpy import load_file, save_file

import golden

UNET, FOLDER = golden.TESTDATA / "unet2d-attention", golden.TESTDATA / "lora"
TARGETS = ["mid_block.attentions.0.to_q", "to_out.0", "time_emb_proj", "downsamplers.0.conv", "mid_block.resnets.0.conv1",
           "conv_shortcut", "conv_out"]


def compute(model):
    """Output and inputs of a network in float64, on the inputs of its fixture."""
    inputs = {n: torch.from_numpy(a).double() for n, a in load_file(UNET / "fixture.safetensors").items()}
    output = model.double()(inputs["sample"], inputs["timestep"], class_labels=inputs["class"]).sample
    return output, inputs


def make():
    torch.manual_seed(11)
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS)
    model = peft.get_peft_model(UNet2DModel.from_pretrained(UNET), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # which start at zero
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(FOLDER / "peft")
    (FOLDER / "peft/README.md").unlink()
    (FOLDER / "peft/adapter_model.safetensors").chmod(0o644)

    kohya = {}
    for name, tensor in load_file(FOLDER / "peft/adapter_model.safetensors").items():
        module, part = name.removeprefix("base_model.model.").split(".lora_")
        module = "lora_unet_" + module.replace(".", "_")
        kohya[f"{module}.lora_{dict(A='down', B='up')[part[0]]}.weight"] = tensor
        kohya[f"{module}.alpha"] = numpy.array(3, numpy.float32)
    save_file(kohya, FOLDER / "kohya.safetensors", metadata={"ss_network_dim": "2", "ss_network_alpha": "3"})

    output, inputs = compute(model)
    (output * inputs["seed"]).sum().backward()
    tensors = {"output": output}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            tensors["grad." + name.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad
    arrays = {n: numpy.ascontiguousarray(t.detach().numpy().astype(numpy.float32)) for n, t in tensors.items()}
    versions = {"torch": torch.__version__, "peft": peft.__version__, "made_by": "tools/golden/lora.py"}
    save_file(arrays, FOLDER / "fixture.safetensors", metadata=versions)
    plain, _ = compute(UNet2DModel.from_pretrained(UNET))
    print(FOLDER, len(arrays) - 1, "tensors, output norm", output.norm().item(), "changed by", (output - plain).norm().item())


def check(folder):
    config = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
    model = peft.PeftModel.from_pretrained(UNet2DModel.from_pretrained(UNET), folder)
    output, _ = compute(model)
    want = torch.from_numpy(load_file(FOLDER / "fixture.safetensors")["output"]).double()
    difference = ((output - want).norm() / want.norm()).item()
    print(folder, "rank", config["r"], "alpha", config["lora_alpha"], "relative difference", difference)
    sys.exit(difference > 1e-6)


if __name__ == "__main__":
    golden.setup()
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    make()
