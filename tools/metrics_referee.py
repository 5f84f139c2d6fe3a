"""Independent values for the tests of host/src/evaluation: numpy, scipy and scikit-learn.

    pip install numpy scipy scikit-learn
    python tools/metrics_referee.py
"""

import numpy as np
from scipy.stats import binomtest

print("# Wilson intervals (per_class.rs)")
for hits, n in [(0, 10), (7, 10), (50, 50), (431, 577)]:
    ci = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    print(hits, n, repr(ci.low), repr(ci.high))

print("# expected calibration error (reliability.rs)")
i = np.arange(400)
confidence = 0.1 + 0.9 * ((i * 37 % 400) + 0.5) / 400
right = (i * 53 % 101) / 101 < confidence**2
edges = np.linspace(0, 1, 16)
which = np.digitize(confidence, edges, right=True)
ece = 0.0
for b in range(1, 16):
    inside = which == b
    if inside.any():
        ece += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
print(repr(float(ece)))

print("# spatial self-information (geography/ssi.rs), straight from the formulas, in matrices")
# centre and neighbours: a spiral in latitude and longitude, every third a hit
n = 60
t = np.arange(n)
lat = np.radians(-33.0 + 0.09 * t * np.sin(0.7 * t))
lon = np.radians(150.0 + 0.09 * t * np.cos(0.7 * t))
marks = np.where(t % 3 == 0, 2.0, 1.0)
radius = 0.05


def xyz(lat, lon):
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)


def background(lat0, lon0, density):
    step = 1 / np.sqrt(density)
    points = []
    for i in range(1, int(np.ceil(radius / step)) + 1):
        count = int(np.ceil(2 * np.pi * i))
        angle = -np.pi + 2 * np.pi / count * np.arange(count)
        theta = np.full(count, np.pi / 2 - step * i)
        points.append(xyz(theta, angle))
    p = np.concatenate(points)
    turn = np.pi / 2 - lat0
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_z = np.array([[np.cos(lon0), -np.sin(lon0), 0], [np.sin(lon0), np.cos(lon0), 0], [0, 0, 1]])
    return p @ about_y.T @ about_z.T


def ssi(values, points):
    d = np.arccos(np.clip(points @ points.T, -1, 1))
    np.fill_diagonal(d, np.inf)
    w = np.zeros_like(d)
    near = np.argsort(d, axis=1, kind="stable")[:, :4]
    np.put_along_axis(w, near, 1.0, axis=1)
    x = values - values.mean()
    moran = x @ w @ x
    cs, ns = np.unique(values, return_counts=True)
    N, common = ns.sum(), cs[np.argmax(ns)]
    m = values.mean()
    mu = var = 0.0
    for ci, ni in zip(cs, ns):
        for cj, nj in zip(cs, ns):
            coef = (ci - m) * (cj - m)
            if ci == cj:
                mu += coef * ((ni - 1) * 4 * ni / N - 1)
                if ci != common:
                    var += (ci - common) ** 4 * 2 * (ni - 1) * 4 * ni / N * (1 - 4 * (2 * ni - 1) / (3 * N))
            else:
                mu += coef * min(ni, nj) * 4 * max(ni, nj) / N
                if ci != common and cj != common:
                    k = coef - 2 * (ci - m) * (common - m) + (common - m) ** 2
                    var += k**2 * min(ni, nj) * (4 * max(ni, nj) / N) * (1 - 4 * max(ni, nj) / N)
    return 0.5 * (moran - mu) ** 2 / var + 0.5 * np.log(2 * np.pi * var), len(points)


p = xyz(lat, lon)
arc = np.arccos(np.clip(p @ p[0], -1, 1))
inside = arc <= radius
print("inside", inside.sum())
density = np.ceil(5 * inside.sum() / (np.pi * radius**2))
points = np.concatenate([p[inside], background(lat[0], lon[0], density)])
zeros = np.zeros(len(points) - inside.sum())
print("unmarked", ssi(np.concatenate([np.ones(inside.sum()), zeros]), points))
print("marked", ssi(np.concatenate([marks[inside], zeros]), points))

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

print("# area under the curve (auc.rs)")
i = np.arange(300)
score = (i * 37 % 101 // 5).astype(float)
print(repr(float(roc_auc_score((i * 53 % 97) < 20 + 2.5 * score, score))))

print("# ridge logistic regression without intercept (add_class.rs)")
i = np.arange(40)
x = np.stack([np.sin(0.9 * i), np.cos(0.4 * i), np.sin(0.15 * i + 1)], 1)
y = (i % 4 == 0).astype(int)
w = np.where(y == 1, 1.0, 0.5)
fit = LogisticRegression(C=1 / 0.3, fit_intercept=False, tol=1e-12, max_iter=10000).fit(x, y, sample_weight=w)
print([repr(float(v)) for v in fit.coef_[0]])
