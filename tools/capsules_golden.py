"""The golden values of GeoCLIP's capsules in models/src/nn/head/tests.rs, by torch in f64.

    python tools/capsules_golden.py        (needs torch)

As in GeoCLIP's location encoder: Equal Earth, then for each spread cosines and sines of 2π times given
directions, a stack of linear layers with ReLU, a last linear layer; the outputs of the capsules are summed.
The weights of a layer are ½ sin(n + 1 + 10 l) for the flat index n, (out, in) row by row, of layer l, counted
through all capsules.
"""

import math

import torch

DIRECTIONS = [[0.5, -1.5], [0.25, 0.75], [3.0, -2.0], [-1.25, 4.5], [20.0, 3.25], [-17.5, 8.125]]
CAPSULES, HIDDEN, LAYERS, OUT = 3, 5, 3, 4
LAT, LON = 34.05, -118.25


def equal_earth(lat, lon):
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    theta = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(lat)))
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * math.sqrt(3) * math.radians(lon) * math.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return torch.tensor([x, y], dtype=torch.float64) * 66.50336 / 180


def filled(inputs, outputs, index):
    layer = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
    for tensor in (layer.weight, layer.bias):
        n = torch.arange(tensor.numel(), dtype=torch.float64)
        tensor.data = (0.5 * torch.sin(n + 1 + 10 * index)).reshape(tensor.shape)
    return layer


def main(extra):
    place, index, total = equal_earth(LAT, LON), 0, 0
    per = len(DIRECTIONS) // CAPSULES
    for capsule in range(CAPSULES):
        rows = torch.tensor(DIRECTIONS[capsule * per : (capsule + 1) * per], dtype=torch.float64)
        angles = 2 * math.pi * rows @ place
        x = torch.cat([torch.cos(angles), torch.sin(angles), torch.tensor(extra, dtype=torch.float64)])
        modules, width = [], len(x)
        for _ in range(LAYERS):
            modules += [filled(width, HIDDEN, index), torch.nn.ReLU()]
            index, width = index + 1, HIDDEN
        modules.append(filled(width, OUT, index))
        index += 1
        total = total + torch.nn.Sequential(*modules)(x)
    print(extra, ", ".join(f"{value:.10f}" for value in total.tolist()))


main([])
# with a season: a quarter into the year
angle = math.pi * (2 * 0.25 - 1)
main([math.sin(angle), math.cos(angle)])
