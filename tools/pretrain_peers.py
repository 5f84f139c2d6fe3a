#!/usr/bin/env python3
"""The pre-training step of csp-host in PyTorch, twice; run by `csp-tools bench pretrain --python`.

vectorised: what a careful user of PyTorch writes. Rows stay in two tensors, position features of the
            rows are computed once, the three groups of places go through the encoder as one batch.
original:   the structure of the released CSP code, written anew from its description: a Dataset that
            hands out one sample at a time, a DataLoader that stacks them, coordinates taken to numpy and
            position features computed there for each of three forward passes, Adam.

Same model and loss: grid, 32 scales of 0.1 to 360 degrees, 128 -> 512 -> 256, leaky ReLU 0.2, dropout
1/2, LayerNorm; projection 2048 -> 256; MC-BLD with tau 0.07, 1, 1 and one random place a row.
Prints one JSON document. Needs torch and numpy.
"""
import argparse
import json
import resource
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["vectorised", "original"], required=True)
parser.add_argument("--rows", type=int, default=436_000)
parser.add_argument("--features", type=int, default=2048)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--threads", type=int, default=0)
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(0)
WARM = 3
SCALES = 0.1 * (3600.0 ** (np.arange(32) / 31.0))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out, self.norm = nn.Linear(128, 512), nn.Linear(512, 256), nn.LayerNorm(512)

    def forward(self, x):
        x = self.norm(F.dropout(F.leaky_relu(self.hidden(x), 0.2), 0.5, self.training))
        return F.dropout(F.leaky_relu(self.out(x), 0.2), 0.5, self.training)


def unit(x):
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)


def loss_of(a, a2, n, b):
    a, a2, n, b = unit(a), unit(a2), unit(n), unit(b)
    target = torch.arange(len(a))
    in_batch = F.cross_entropy(a @ b.T / 0.07, target)
    pairs = torch.stack([(a * b).sum(1), (n * b).sum(1)], 1)
    random = F.cross_entropy(pairs, torch.zeros(len(a), dtype=torch.long))
    return in_batch + random + F.cross_entropy(a @ a2.T, target)


def sphere(count):
    u, v = torch.rand(count, dtype=torch.float64), torch.rand(count, dtype=torch.float64)
    return torch.stack([360 * u - 180, torch.rad2deg(torch.asin(2 * v - 1))], 1)


def features_torch(places):
    angles = places.unsqueeze(2) / torch.from_numpy(SCALES)
    return torch.stack([angles.sin(), angles.cos()], 3).flatten(1).float()


def features_numpy(places):
    """Coordinates to numpy and back, as the original does for every forward pass."""
    places = np.asarray(places.detach().cpu().numpy(), dtype=float)
    angles = np.repeat(places[:, :, None, None], 32, axis=2).repeat(2, axis=3) / SCALES[None, None, :, None]
    angles[..., 0], angles[..., 1] = np.sin(angles[..., 0]), np.cos(angles[..., 1])
    return torch.FloatTensor(angles.reshape(len(places), -1))


images = torch.empty(args.rows, args.features).uniform_(-1, 1)
places = sphere(args.rows)
encoder, projection = Encoder(), nn.Linear(args.features, 256)
adam = torch.optim.Adam([*encoder.parameters(), *projection.parameters()], lr=1e-3)


def vectorised():
    rows = features_torch(places)
    while True:
        order = torch.randperm(args.rows)
        for at in range(0, args.rows - args.batch + 1, args.batch):
            batch = order[at : at + args.batch]
            x = rows[batch]
            e = encoder(torch.cat([x, x, features_torch(sphere(args.batch))]))
            a, a2, n = e.split(args.batch)
            yield loss_of(a, a2, n, projection(images[batch]))


class Samples(torch.utils.data.Dataset):
    """A row at a time, each with what the original hands out: place, feature, class, user."""

    def __init__(self):
        self.places, self.images = places.float().numpy(), images.numpy()
        self.classes = np.random.default_rng(0).integers(0, 8142, args.rows)

    def __len__(self):
        return args.rows

    def __getitem__(self, i):
        return (
            torch.from_numpy(self.places[i].copy()),
            torch.from_numpy(self.images[i].copy()),
            torch.tensor(self.classes[i]),
            torch.tensor(-1),
        )


def original():
    while True:
        loader = torch.utils.data.DataLoader(Samples(), batch_size=args.batch, shuffle=True, drop_last=True)
        for where, image, _, _ in loader:
            first = encoder(features_numpy(where))
            random = encoder(features_numpy(sphere(len(where)).float()))
            second = encoder(features_numpy(where))
            yield loss_of(first, second, random, projection(image))


times, cpu, losses = [], [], (vectorised if args.mode == "vectorised" else original)()
for step in range(WARM + args.steps):
    begun, cpu_begun = time.perf_counter(), time.process_time()
    adam.zero_grad()
    loss = next(losses)
    loss.backward()
    adam.step()
    value = loss.item()
    if step >= WARM:
        times.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - cpu_begun)
step_s = statistics.median(times)
print(
    json.dumps(
        {
            "who": f"PyTorch {torch.__version__.split('+')[0]}, {args.mode}",
            "device": f"cpu, {torch.get_num_threads()} threads",
            "batch": args.batch,
            "rows": args.rows,
            "step_s": step_s,
            "cpu_s": statistics.median(cpu),
            "rows_per_s": args.batch / step_s,
            "loss": value,
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
