#!/usr/bin/env python3
"""What torch says about the image networks, for csp-host to be held against.

    pip install torch torchvision timm safetensors
    tools/backbone_referee.py fixture host/src/training/published/referee.json
    tools/backbone_referee.py files DIR && csp-tools check-backbones DIR

`fixture`: networks whose weights follow a formula of tensor name and index, so that nothing but inputs'
names and outputs has to be kept. `files`: randomly initialised networks saved as users have them
(torch.save and safetensors), beside the features and logits they give.

The formula: u(name, n) = the top 24 bits, as a fraction, of a 64-bit mix of n and FNV-1a(name); weights
are ±sqrt(6 / inputs)·u, and norms get the spread that trained ones have.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np
import timm
import torch
import torchvision

CLASSES = 10
MASK = (1 << 64) - 1


def uniform(name: str, count: int) -> np.ndarray:
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        x ^= x >> np.uint64(31)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(29)
    return (x >> np.uint64(40)).astype(np.float64) / 2**24


def formula(name: str, shape: tuple) -> np.ndarray:
    u = uniform(name, int(np.prod(shape))).reshape(shape)
    if len(shape) >= 2:
        values = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = 0.5 + u
    elif name.endswith(".weight"):
        values = 0.2 + 0.6 * u
    else:
        values = 0.4 * (u - 0.5)
    return values.astype(np.float32)


def ignored(name: str) -> bool:
    return name.endswith("num_batches_tracked") or name.startswith("AuxLogits.")


def build(library: str, name: str):
    if library == "timm":
        return timm.create_model(name, num_classes=CLASSES).eval()
    options = {"init_weights": False} if name == "inception_v3" else {}
    return getattr(torchvision.models, name)(num_classes=CLASSES, **options).eval()


def answers(module, image: torch.Tensor) -> dict:
    """Pooled features and logits."""
    head = [m for m in module.modules() if isinstance(m, torch.nn.Linear) and m.out_features == CLASSES][-1]
    pooled = []
    handle = head.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.no_grad():
        logits = module(image)
    handle.remove()
    return {"features": pooled[0][0].double().numpy(), "logits": logits[0].double().numpy()}


NETWORKS = [
    ("torchvision", "mobilenet_v2", "mobilenet-v2", 64),
    ("torchvision", "resnet18", "resnet-18", 64),
    ("torchvision", "resnet50", "resnet-50", 64),
    ("torchvision", "inception_v3", "inception-v3", 96),
    ("timm", "mobilenetv2_100", "mobilenet-v2", 64),
    ("timm", "resnet18", "resnet-18", 64),
    ("timm", "resnet50", "resnet-50", 64),
    ("timm", "inception_v3", "inception-v3", 96),
]


def picture(side: int) -> torch.Tensor:
    u = uniform("image", 3 * side * side).reshape(1, 3, side, side)
    return torch.from_numpy((4 * u - 2).astype(np.float32))


def fixture() -> list:
    entries = []
    for library, name, kind, side in NETWORKS:
        module = build(library, name)
        state = module.state_dict()
        listing = []
        for key, tensor in state.items():
            if ignored(key):
                continue
            state[key] = torch.from_numpy(formula(key, tuple(tensor.shape)))
            listing.append(f"{key} {list(tensor.shape)}\n")
        digest = hashlib.sha256("".join(sorted(listing)).encode()).hexdigest()
        twin = [e for e in entries if e["kind"] == kind and e["tensors"] == digest]
        if twin:
            twin[0]["libraries"].append(library)
            continue
        module.load_state_dict(state)
        got = answers(module, picture(side))
        spread = got["features"].std()
        print(f"{library} {name}: features ±{spread:.3f}, logits {np.abs(got['logits']).max():.2f}", file=sys.stderr)
        step = max(1, len(got["features"]) // 64)
        transformed = {}
        if name == "inception_v3":
            module.transform_input = True
            features = answers(module, picture(side))["features"]
            transformed = {"transformed": [round(float(v), 6) for v in features[::step]]}
        entries.append({
            "libraries": [library], "kind": kind, "side": side, "tensors": digest,
            "every": step,
            "features": [round(float(v), 6) for v in got["features"][::step]],
            "logits": [round(float(v), 6) for v in got["logits"]],
            **transformed,
        })
    return entries


def files(folder: pathlib.Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    index = []
    for library, name, kind, side in NETWORKS:
        module = build(library, name)
        # a fresh norm does nothing: give it what a trained one might have
        for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            with torch.no_grad():
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
                norm.weight.uniform_(0.3, 0.9)
                norm.bias.normal_(0, 0.1)
        image = torch.randn(1, 3, side, side)
        got = answers(module, image)
        state = module.state_dict()
        stem = f"{library}-{name}"
        torch.save(state, folder / f"{stem}.pth")
        save_file({k: v.contiguous() for k, v in state.items()}, folder / f"{stem}.safetensors")
        index.append({
            "kind": kind, "side": side, "files": [f"{stem}.safetensors", f"{stem}.pth"],
            "image": image.flatten().tolist(),
            "features": got["features"].tolist(), "logits": got["logits"].tolist(),
        })
    (folder / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fixture", path]:
            lines = ",\n".join(json.dumps(entry) for entry in fixture())
            pathlib.Path(path).write_text(f"[\n{lines}\n]\n")
        case ["files", folder]:
            files(pathlib.Path(folder))
        case _:
            sys.exit(__doc__)
