"""Independent evaluation of a location encoder of the original's lab, in f64 by numpy alone.

    python tools/torchspatial_referee.py places OUT.csv [--n 1000] [--seed 0]
    python tools/torchspatial_referee.py compare CKPT.pth.tar OUR.csv

`places` writes places uniform on the sphere, with poles, date line and (0, 0) among them. `compare` reads
the checkpoint with a pickle reader of its own (no torch), computes features, network and scores, and holds
them against the CSV of

    csp-host location embed CKPT.pth.tar --places OUT.csv --scores -o OUR.csv

It prints one JSON document; exit code 1 when a difference is above 1e-5.
"""

import argparse
import collections
import csv
import json
import math
import pickle
import sys
import zipfile

import numpy as np

TOLERANCE = 1e-5
DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8"}


def checkpoint(path):
    archive = zipfile.ZipFile(path)
    root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))[: -len("data.pkl")]

    def tensor(storage, offset, size, stride, *_):
        kind, key = storage
        flat = np.frombuffer(archive.read(f"{root}data/{key}"), DTYPES[kind])[offset:]
        steps = [s * flat.itemsize for s in stride]
        return np.lib.stride_tricks.as_strided(flat, size, steps).astype(np.float64)

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            known = {
                ("collections", "OrderedDict"): collections.OrderedDict,
                ("torch._utils", "_rebuild_tensor_v2"): tensor,
                ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            }
            return known.get((module, name), name)

        def persistent_load(self, pid):
            return pid[1], pid[2]

    return Reader(archive.open(root + "data.pkl")).load()


def bare(name):
    while True:
        for outer in ("module.", "_orig_mod.", "loc_enc.", "spa_enc.", "position_encoder."):
            if name.startswith(outer):
                name = name[len(outer):]
                break
        else:
            return name


def frequencies(p):
    count = p["frequency_num"]
    low, high = p["min_radius"], p["max_radius"]
    # these two classes of TorchSpatial compute 1 / max_radius^(s / (F - 1)); sphere2vec's do as all others
    if p["spa_enc_type"].lower() in ("sphere2vec-spherem+", "sphere2vec-dfs"):
        low = 1.0
    return 1 / (low * np.exp(np.arange(count) * math.log(high / low) / (count - 1)))


def normalised(x, extent):
    west, east, south, north = extent
    return np.stack([(x[:, 0] - west) / (east - west), (x[:, 1] - south) / (north - south)], 1) * 2 - 1


def grid(x, p, w):
    angle = x[:, :, None] * frequencies(p)
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(len(x), -1)


def theory(x, p, w):
    a = np.array([[1, 0], [-0.5, math.sqrt(3) / 2], [-0.5, -math.sqrt(3) / 2]])
    angle = (x @ a.T)[:, None, :] * frequencies(p)[:, None]
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(len(x), -1)


def sphere(terms):
    def features(x, p, w):
        f = frequencies(p)
        lon, lat = np.deg2rad(x[:, :1]), np.deg2rad(x[:, 1:])
        return np.stack(terms(lon * f, lat * f, lon + 0 * f, lat + 0 * f), -1).reshape(len(x), -1)

    return features


s, c = np.sin, np.cos


def grid_terms(L, P):
    return [s(P), c(P), s(L), c(L)]


def mixed(L, P, l, p):
    return [c(P) * c(l), c(p) * c(L), c(P) * s(l), c(p) * s(L)]


def dfs(x, p, w):
    f = frequencies(p)
    L, P = np.deg2rad(x[:, :1]) * f, np.deg2rad(x[:, 1:]) * f
    rows, columns = np.concatenate([s(L), c(L)], 1), np.concatenate([s(P), c(P)], 1)
    products = (rows[:, :, None] * columns[:, None, :]).reshape(len(x), -1)
    return np.concatenate([products, np.stack(grid_terms(L, P), -1).reshape(len(x), -1)], 1)


def wrap(x, p, w):
    u = x / [180, 90] * np.pi
    return np.concatenate([s(u), c(u)], 1)


def xyz(x, p, w):
    lon, lat = np.deg2rad(x[:, 0]), np.deg2rad(x[:, 1])
    return np.stack([c(lat) * c(lon), c(lat) * s(lon), s(lat)], 1)


def nerf(x, p, w):
    count = w["ffn.layers.0.linear.weight"].shape[1] // 6
    angle = xyz(x, p, w)[:, :, None] * np.pi * 2.0 ** np.arange(count)
    return np.concatenate([s(angle), c(angle)], 1).reshape(len(x), -1)


def rff(x, p, w):
    angle = normalised(x, p["map_range"]) @ w["dirvec"] + w["shift"]
    return math.sqrt(2 / w["dirvec"].shape[1]) * c(angle)


def harmonics(x, p, w):
    """Real Y_lm in closed form, with SatCLIP's factor pi where m = 0."""
    count = math.isqrt(w["ffn.layers.0.linear.weight"].shape[1])
    phi, theta = np.deg2rad(x[:, 0]) + np.pi, np.deg2rad(x[:, 1]) + np.pi / 2
    columns = []
    for l in range(count):
        for m in range(-l, l + 1):
            a = abs(m)
            slope = np.polynomial.legendre.leg2poly([0] * l + [1])
            for _ in range(a):
                slope = np.polynomial.polynomial.polyder(slope)
            size = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - a) / math.factorial(l + a))
            around = math.pi if m == 0 else math.sqrt(2) * (c(a * phi) if m > 0 else s(a * phi))
            columns.append(size * s(theta) ** a * np.polynomial.polynomial.polyval(c(theta), slope) * around)
    return np.stack(columns, 1)


def tile(x, p, w):
    """The one cell that covers everything unless a size is given, which TorchSpatial never does."""
    assert len(w["embedding.weight"]) == 1
    return np.repeat(w["embedding.weight"], len(x), 0)


ENCODERS = {
    ("gridcell", "gridcellnorm", "space2vec-grid"): grid,
    ("theory", "space2vec-theory"): theory,
    ("theorynorm",): lambda x, p, w: theory(np.deg2rad(x), p, w),
    ("sphere", "sphere2vec-spherec"): sphere(lambda L, P, l, p: [s(P), c(P) * c(L), c(P) * s(L)]),
    ("spheregrid", "sphere2vec-spherec+"): sphere(lambda L, P, l, p: grid_terms(L, P) + [c(P) * c(L), c(P) * s(L)]),
    ("spheremixscale", "sphere2vec-spherem"): sphere(lambda L, P, l, p: [s(P)] + mixed(L, P, l, p)),
    ("spheregridmixscale", "sphere2vec-spherem+"): sphere(lambda L, P, l, p: grid_terms(L, P) + mixed(L, P, l, p)),
    ("dft", "sphere2vec-dfs"): dfs,
    ("wrap", "wrap_ffn", "geo_net", "geo_net_fft"): wrap,
    ("xyz",): xyz,
    ("nerf",): nerf,
    ("rff",): rff,
    ("naive",): lambda x, p, w: normalised(x, p["map_range"]),
    ("spherical_harmonics",): harmonics,
    ("tile_ffn",): tile,
}



def encoder(p):
    # geo_prior's files name none: they have but one
    kind = p.get("spa_enc_type", "geo_net").lower()
    return next(f for names, f in ENCODERS.items() if kind in names)


erf = np.vectorize(math.erf)
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def embedding(x, p, w):
    if "feats.0.weight" in w:
        relu = ACTIVATIONS["relu"]
        x = relu(x @ w["feats.0.weight"].T + w["feats.0.bias"])
        block = 2
        while f"feats.{block}.w1.weight" in w:
            y = relu(x @ w[f"feats.{block}.w1.weight"].T + w[f"feats.{block}.w1.bias"])
            x = x + relu(y @ w[f"feats.{block}.w2.weight"].T + w[f"feats.{block}.w2.bias"])
            block += 1
        return x
    act = ACTIVATIONS[p["spa_f_act"]]
    last = max(int(name.split(".")[2]) for name in w if name.startswith("ffn.layers."))
    for i in range(last + 1):
        layer = f"ffn.layers.{i}"
        y = act(x @ w[f"{layer}.linear.weight"].T + w[f"{layer}.linear.bias"])
        if i < last:
            if p["skip_connection"] and y.shape == x.shape:
                y = y + x
            if p["use_layn"]:
                y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
                y = y * w[f"{layer}.layernorm.weight"] + w[f"{layer}.layernorm.bias"]
        x = y
    return x


def compare(path, ours):
    held = checkpoint(path)
    p = held["params"]
    w = {bare(name): tensor for name, tensor in held["state_dict"].items()}
    encode = encoder(p)
    rows = list(csv.reader(open(ours)))
    table = np.array(rows[1:], dtype=np.float64)
    x = table[:, [1, 0]]
    e = embedding(encode(x, p, w), p, w)
    logits = e @ w["class_emb.weight"].T
    scores = 1 / (1 + np.exp(-logits))
    off = [np.abs(table[:, 2 : 2 + e.shape[1]] - e), np.abs(table[:, 2 + e.shape[1] :] - scores)]
    assert off[1].shape == scores.shape, "no scores: csp-host location embed --scores"
    report = {
        "checkpoint": path.split("/")[-1],
        "encoder": p.get("spa_enc_type"),
        "places": len(x),
        "max_abs_embedding": float(np.abs(e).max()),
        "max_diff_embedding": float(off[0].max()),
        "max_diff_scores": float(off[1].max()),
        "same_best_class": float((table[:, 2 + e.shape[1] :].argmax(1) == scores.argmax(1)).mean()),
        "within_1e-5": bool(max(o.max() for o in off) <= TOLERANCE),
    }
    print(json.dumps(report, indent=2))
    return report["within_1e-5"]


def places(out, n, seed):
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(2 * rng.random(n) - 1))
    lon = 360 * rng.random(n) - 180
    special = [(90, 0), (90, 180), (-90, -180), (-90, 12.5), (0, 180), (0, -180), (51.5, 180), (51.5, -180), (0, 0)]
    for i, (a, b) in enumerate(special):
        lat[i], lon[i] = a, b
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lat", "lon"])
        writer.writerows((repr(float(a)), repr(float(b))) for a, b in zip(lat, lon))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("places")
    make.add_argument("out")
    make.add_argument("--n", type=int, default=1000)
    make.add_argument("--seed", type=int, default=0)
    hold = verbs.add_parser("compare")
    hold.add_argument("checkpoint")
    hold.add_argument("ours")
    args = parser.parse_args()
    if args.verb == "places":
        places(args.out, args.n, args.seed)
    elif not compare(args.checkpoint, args.ours):
        sys.exit(1)


if __name__ == "__main__":
    main()
