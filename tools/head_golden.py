"""Writes the golden embeddings of the location heads, evaluated in f64 by numpy alone.

    python tools/head_golden.py > models/src/nn/head/tests/golden.rs

Every weight tensor, in (out, in) row order, is sin(n + 1) / 2 for the flat index n; the features are
Space2Vec-grid's with 2 scales from 0.1 to 360 degrees at 34.05 N 118.25 W; two hidden layers of 8.
"""

import numpy as np


def ramp(*shape):
    return 0.5 * np.sin(np.arange(1, np.prod(shape) + 1)).reshape(shape)


def features():
    scales = [0.1, 360.0]
    return np.array([f(x / t) for x in (-118.25, 34.05) for t in scales for f in (np.sin, np.cos)])


def linear(x, width):
    return ramp(width, len(x)) @ x + ramp(width)


def norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def ffn(act=leaky, skip=True, place="last", output=True, hidden=2):
    x = features()
    for _ in range(hidden):
        z = linear(x, 8)
        if place == "before":
            z = norm(z)
        z = act(z)
        if skip:
            z = z + x
        x = norm(z) if place == "last" else z
    z = linear(x, 4)
    return act(z) if output else z


def siren(first=30.0, other=1.0):
    x = features()
    for w0 in (first, other):
        x = np.sin(w0 * linear(x, 8))
    return linear(x, 4)


CASES = {
    "plain": ffn(),
    "no-skip": ffn(skip=False),
    "norm-before": ffn(place="before"),
    "no-norm": ffn(place="none"),
    "linear-output": ffn(output=False),
    "sigmoid": ffn(act=lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ffn(act=np.tanh),
    "no-hidden": ffn(hidden=0),
    "siren": siren(),
    "siren-2": siren(5.0, 2.0),
}

print("//! Written by `tools/head_golden.py`.\n")
print("pub(super) const CASES: &[(&str, &[f64])] = &[")
for name, values in CASES.items():
    print(f'    ("{name}", &[{", ".join(f"{v:.10f}" for v in values)}]),')
print("];")
