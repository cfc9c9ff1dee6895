"""Makes model/testdata/torch: small files of torch.save, and in tensors.safetensors
what PyTorch reads from them.

    pip install torch safetensors numpy
    python tools/golden/torch_files.py           # from the root of the repository

state_dict.pth is a plain state dict: every element type that state dicts have,
parameters and buffers, a transposed and a sliced tensor, two that share their
numbers, one of no numbers and one of no axes. nested.ckpt holds one under
"state_dict"; protocol5.bin was written with pickle's newest protocol. The others
must be refused: module.pth is a whole module, legacy.bin is what torch.save
wrote before PyTorch 1.6, numpy.pt holds an array of numpy's, script.pt is a
TorchScript archive, optimizer.pt has entries that are no tensors.
"""

import collections
import pathlib

import numpy
import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path("model/testdata/torch")


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3)
        self.norm = torch.nn.BatchNorm2d(5)  # a buffer of whole numbers
        self.linear = torch.nn.Linear(7, 3, bias=False)
        self.tied = torch.nn.Linear(7, 3, bias=False)
        self.tied.weight = self.linear.weight


def state_dict():
    torch.manual_seed(3)
    tensors = collections.OrderedDict(Layers().state_dict())
    base = torch.randn(4, 6)
    tensors["transposed"] = base.t()
    tensors["sliced"] = base[1:, 1:6:2]
    tensors["permuted"] = torch.randn(2, 3, 5).permute(2, 0, 1)
    tensors["expanded"] = torch.arange(5).expand((1, -1))  # as CLIP's position_ids
    tensors["half"] = torch.randn(3, 3).half()
    tensors["bfloat"] = torch.randn(2, 7).bfloat16()
    tensors["double"] = torch.randn(3).double()
    tensors["none"] = torch.zeros(0, 4)
    tensors["scalar"] = torch.tensor(-2.5)
    tensors["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    for name, kind in dict(int=torch.int32, short=torch.int16, char=torch.int8, byte=torch.uint8, bool=torch.bool).items():
        tensors[name] = torch.tensor([0, 1], dtype=kind)
    return tensors


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    tensors = state_dict()
    torch.save(tensors, FOLDER / "state_dict.pth")
    torch.save({"epoch": 3, "state_dict": tensors, "note": "of a trainer"}, FOLDER / "nested.ckpt")
    torch.save(dict(tensors), FOLDER / "protocol5.bin", pickle_protocol=5)
    read = torch.load(FOLDER / "state_dict.pth", weights_only=True)
    save_file({n: t.detach().clone().contiguous() for n, t in read.items()}, FOLDER / "tensors.safetensors", metadata={"torch": torch.__version__, "made_by": "tools/golden/torch_files.py"})

    torch.save(torch.nn.Linear(2, 3), FOLDER / "module.pth")
    torch.save({"a": torch.ones(2)}, FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": numpy.ones(2)}, FOLDER / "numpy.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), FOLDER / "script.pt")
    torch.save({"a": torch.ones(2), "step": 7}, FOLDER / "optimizer.pt")
    for file in sorted(FOLDER.iterdir()):
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
