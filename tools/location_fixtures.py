"""Writes small checkpoints of location encoders with random weights, and what they answer.

    python tools/location_fixtures.py        (needs torch and numpy)

Into host/tests/fixtures/location: NAME.pth in the layout of csp, sphere2vec and TorchSpatial, and NAME.csv
with places, embeddings and scores as tools/torchspatial_referee.py computes them in f64.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

import torchspatial_referee as referee

OUT = Path(__file__).resolve().parent.parent / "host" / "tests" / "fixtures" / "location"
CLASSES, HIDDEN, EMBEDDING = 3, 6, 4
BASE = {
    "frequency_num": 2,
    "min_radius": 0.1,
    "max_radius": 360.0,
    "freq_init": "geometric",
    "num_hidden_layer": 1,
    "hidden_dim": HIDDEN,
    "num_filts": EMBEDDING,
    "spa_f_act": "leakyrelu",
    "use_layn": True,
    "skip_connection": True,
    "dropout": 0.5,
    "map_range": [-180, 180, -90, 90],
    "loc_encode": "encode_cos_sin",
    "use_date_feats": False,
    "date_encode": "encode_cos_sin",
    "num_classes": CLASSES,
    "rbf_kernel_size": 1.0,
}
SPHERE = {"min_radius": 0.01, "max_radius": 1.0}


def draw(shape):
    return torch.randn(shape, generator=RANDOM) * 0.7


def ffn(inputs, hidden=1, norm=True, width=HIDDEN):
    tensors, widths = {}, [inputs] + [width] * hidden + [EMBEDDING]
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        tensors[f"spa_enc.ffn.layers.{i}.linear.weight"] = draw((b, a))
        tensors[f"spa_enc.ffn.layers.{i}.linear.bias"] = draw(b)
        if norm and i < hidden:
            tensors[f"spa_enc.ffn.layers.{i}.layernorm.weight"] = 1 + draw(b)
            tensors[f"spa_enc.ffn.layers.{i}.layernorm.bias"] = draw(b)
    return tensors


def classes(user=True):
    tensors = {"class_emb.weight": draw((CLASSES, EMBEDDING))}
    if user:
        tensors["user_emb.weight"] = draw((1, EMBEDDING))
    return tensors


def fcnet(inputs):
    tensors = {"feats.0.weight": draw((EMBEDDING, inputs)), "feats.0.bias": draw(EMBEDDING)}
    for block in range(2, 6):
        for part in ("w1", "w2"):
            tensors[f"feats.{block}.{part}.weight"] = draw((EMBEDDING, EMBEDDING))
            tensors[f"feats.{block}.{part}.bias"] = draw(EMBEDDING)
    return tensors


def twice(tensors):
    """As csp writes the pair of pre-training: every tensor under two names, and the image's projection."""
    both = {f"loc_enc.{name}": tensor for name, tensor in tensors.items()}
    return both | tensors | {"img_dec.weight": draw((EMBEDDING, 5)), "img_dec.bias": draw(EMBEDDING)}


def models():
    yield "gridcell", twice(ffn(8) | classes()), {"spa_enc_type": "gridcell"}
    yield "theory-2-layers-skip", ffn(12, 2) | classes(), {
        "spa_enc_type": "Space2Vec-theory", "num_hidden_layer": 2, "spa_f_act": "gelu",
    }
    yield "theorynorm", ffn(12) | classes(), {"spa_enc_type": "theorynorm", **SPHERE}
    for name, width in [("C", 3), ("C+", 6), ("M", 5), ("M+", 8)]:
        yield f"sphere{name}", ffn(2 * width) | classes(), {"spa_enc_type": f"Sphere2Vec-sphere{name}", "spa_f_act": "relu", **SPHERE}
    yield "dfs-no-norm", ffn(24, norm=False) | classes(), {
        "spa_enc_type": "dft", "use_layn": False, "skip_connection": False, **SPHERE,
    }
    random = {"spa_enc.position_encoder.dirvec": 5 * draw((2, 7)), "spa_enc.position_encoder.shift": draw(7)}
    yield "rff", random | ffn(7) | classes(), {
        "spa_enc_type": "rff", "frequency_num": 7, "map_range": [-162, -59, 20, 56], "spa_f_act": "sigmoid",
    }
    yield "geo_net", fcnet(4) | classes(), {"spa_enc_type": "geo_net"}
    yield "wrap_ffn", ffn(4) | classes(user=False), {"spa_enc_type": "wrap_ffn", "spa_f_act": "tanh"}
    yield "xyz-wide-skip", ffn(3, width=3) | classes(), {"spa_enc_type": "xyz", "hidden_dim": 3}
    yield "nerf", ffn(18) | classes(), {"spa_enc_type": "NeRF", "frequency_num": 64, "freq_init": "nerf"}
    yield "naive", ffn(2) | classes(), {"spa_enc_type": "naive"}
    # the lab's two code bases have other scales under these two names
    yield "spheregridmixscale", ffn(16) | classes(), {"spa_enc_type": "spheregridmixscale", **SPHERE}
    yield "sphere-dfs", ffn(24) | classes(), {"spa_enc_type": "Sphere2Vec-dfs", **SPHERE, "max_radius": 3.0}
    yield "spherical_harmonics", ffn(25) | classes(), {"spa_enc_type": "spherical_harmonics"}
    cell = {"spa_enc.position_encoder.embedding.weight": draw((1, EMBEDDING))}
    yield "tile_ffn", cell | ffn(EMBEDDING) | classes(), {"spa_enc_type": "tile_ffn"}
    yield "geo_prior", fcnet(4) | classes(), {"spa_enc_type": None}
    compiled = {f"_orig_mod.spa_enc.module.{name}": tensor for name, tensor in ffn(3).items()}
    yield "xyz-compiled", compiled | classes(), {"spa_enc_type": "xyz"}


def refused():
    good = ffn(8) | classes()
    without = {name: tensor for name, tensor in good.items() if not name.endswith("layers.1.linear.bias")}
    yield "tensor-missing", without, {"spa_enc_type": "gridcell"}
    yield "tensor-left-over", good | {"spa_enc.post_linear.weight": draw((2, 2))}, {"spa_enc_type": "gridcell"}
    yield "other-encoder", good, {"spa_enc_type": "theory"}
    yield "unknown-encoder", good, {"spa_enc_type": "voronoi"}
    yield "anchors-elsewhere", good, {"spa_enc_type": "rbf"}
    yield "random-scales", good, {"spa_enc_type": "gridcell", "freq_init": "random"}
    yield "norm-denied", good, {"spa_enc_type": "gridcell", "use_layn": False}
    yield "activation", good, {"spa_enc_type": "gridcell", "spa_f_act": "swish"}
    yield "no-params", good, None
    last = {name: tensor for name, tensor in ffn(8, width=EMBEDDING).items() if ".layers.1." not in name}
    yield "layer-lost", last | classes(), {"spa_enc_type": "gridcell", "hidden_dim": EMBEDDING}
    block = {name: tensor for name, tensor in fcnet(4).items() if ".5." not in name}
    yield "block-lost", block | classes(), {"spa_enc_type": "geo_net"}
    broken = good["spa_enc.ffn.layers.1.linear.weight"].clone()
    broken[2, 3] = float("nan")
    yield "not-a-number", good | {"spa_enc.ffn.layers.1.linear.weight": broken}, {"spa_enc_type": "gridcell"}
    yield "narrow-classes", good | {"class_emb.weight": draw((CLASSES, 2))}, {"spa_enc_type": "gridcell"}
    yield "first-layer-lost", {n: t for n, t in good.items() if ".layers.0.linear" not in n}, {"spa_enc_type": "gridcell"}
    tiles = {"spa_enc.position_encoder.embedding.weight": draw((6, EMBEDDING))}
    yield "tiles", tiles | ffn(EMBEDDING) | classes(), {"spa_enc_type": "tile_ffn"}
    yield "namespace", good, argparse.Namespace(spa_enc_type="gridcell")
    yield "numpy-radius", good, {"spa_enc_type": "gridcell", "min_radius": np.float64(0.1)}


def settled(settings):
    """All settings; as they are where they are no dictionary. None takes one away."""
    if not isinstance(settings, dict):
        return settings
    return {name: value for name, value in (BASE | settings).items() if value is not None}


def save(name, tensors, params):
    held = {"epoch": 1, "state_dict": tensors, "optimizer": {"state": {}}}
    torch.save(held if params is None else held | {"params": params}, OUT / f"{name}.pth")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    referee.places(OUT / "places.csv", 12, 1)
    x = np.array(list(csv.reader(open(OUT / "places.csv")))[1:], dtype=np.float64)
    for name, tensors, settings in models():
        params = settled(settings)
        save(name, tensors, params)
        weights = {referee.bare(key): tensor.double().numpy() for key, tensor in tensors.items()}
        encode = referee.encoder(params)
        e = referee.embedding(encode(x[:, [1, 0]], params, weights), params, weights)
        scores = 1 / (1 + np.exp(-e @ weights["class_emb.weight"].T))
        np.savetxt(OUT / f"{name}.csv", np.concatenate([e, scores], 1), "%.12g", ",")
    for name, tensors, settings in refused():
        save(f"refused-{name}", tensors, settled(settings))


RANDOM = torch.Generator().manual_seed(7)
if __name__ == "__main__":
    main()
