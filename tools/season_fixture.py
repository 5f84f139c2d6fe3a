"""Writes a small checkpoint of geo_net with dates, and what it answers.

    python tools/season_fixture.py        (needs torch and numpy)

Into host/tests/fixtures/location/dated: geo_net.pth as geo_prior's code and TorchSpatial would write it with
use_date_feats, places.csv, and geo_net.csv with embeddings and scores in f64. A day's place in the year is
computed by Python's calendar; the last row has no date, which our convention reads as the middle of the
year's circle (0, 0).
"""

import csv
import datetime

import numpy as np
import torch

import location_fixtures as fixtures
import torchspatial_referee as referee

OUT = fixtures.OUT / "dated"
ROWS = [
    (34.05, -118.25, "2023-01-01"), (34.05, -118.25, "2023-07-02"), (34.05, -118.25, "2024-02-29"),
    (-33.8688, 151.2093, "2024-12-31"), (-90.0, 12.5, "2023-03-01"), (69.65, 18.96, "2023-12-31"),
    (0.5, 180.0, ""),
]


def year_fraction(text):
    day = datetime.date.fromisoformat(text)
    days = (datetime.date(day.year + 1, 1, 1) - datetime.date(day.year, 1, 1)).days
    return (day.timetuple().tm_yday - 1) / days


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "places.csv", "w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([("lat", "lon", "date"), *ROWS])
    fixtures.RANDOM = torch.Generator().manual_seed(11)
    tensors = fixtures.fcnet(6) | fixtures.classes()
    params = fixtures.BASE | {"spa_enc_type": "geo_net", "use_date_feats": True}
    torch.save({"epoch": 1, "state_dict": tensors, "optimizer": {"state": {}}, "params": params}, OUT / "geo_net.pth")
    weights = {referee.bare(key): tensor.double().numpy() for key, tensor in tensors.items()}
    lat, lon = np.array([row[:2] for row in ROWS]).T
    place = np.stack([lon / 180, lat / 90], 1)
    date = np.array([2 * year_fraction(row[2]) - 1 if row[2] else np.nan for row in ROWS])[:, None]
    season = np.nan_to_num(np.concatenate([np.sin(np.pi * date), np.cos(np.pi * date)], 1))
    features = np.concatenate([np.sin(np.pi * place), np.cos(np.pi * place), season], 1)
    e = referee.embedding(features, params, weights)
    scores = 1 / (1 + np.exp(-e @ weights["class_emb.weight"].T))
    np.savetxt(OUT / "geo_net.csv", np.concatenate([e, scores], 1), "%.12g", ",")


if __name__ == "__main__":
    main()
