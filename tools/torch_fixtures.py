"""Writes the small checkpoints that the reader of torch files is tested on.

    python tools/torch_fixtures.py        (needs torch)

Into host/tests/fixtures/torch: the same tensors as a bare state dict, in the format before torch 1.6, and
nested in a training checkpoint with optimizer and settings.
"""

from collections import OrderedDict
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parent.parent / "host" / "tests" / "fixtures" / "torch"


def tensors():
    table = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    return OrderedDict(
        [
            ("a.weight", table),
            ("a.bias", torch.tensor([1.5, 2.5], dtype=torch.float64)),
            ("turned", table.t()),
            ("part", table[1:, 1:]),
            ("steps", torch.tensor(7)),
            ("half", torch.tensor([0.1, -2.0], dtype=torch.float16)),
            ("brain", torch.tensor([0.1], dtype=torch.bfloat16)),
        ]
    )


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), OUT / "bare.pth")
    torch.save(tensors(), OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    nested = {
        "epoch": 3,
        "state_dict": OrderedDict(("module." + name, tensor) for name, tensor in tensors().items()),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "params": {"kind": "grid", "radius": 0.5, "layers": 1, "norm": True, "range": [-180, 180], "none": None},
    }
    torch.save(nested, OUT / "nested.pth")
    torch.save({"params": {"kind": "grid"}}, OUT / "empty.pth")
    torch.save({"bomb": torch.zeros(1).expand(1 << 15, 1 << 15)}, OUT / "repeated.pth")
    # "twenty-one-letters-is/data.pkl" makes the first entry of the zip's directory as long as its last records
    torch.save(tensors(), OUT / "twenty-one-letters-is.pth")


if __name__ == "__main__":
    main()
