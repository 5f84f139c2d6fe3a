#!/usr/bin/env python3
"""Golden numbers for the quantizer, computed a second time in numpy and scipy.

    pip install numpy scipy
    tools/quantizer_referee.py gate        # host/src/export/gate.rs
    tools/quantizer_referee.py entropy     # host/src/export/quantize/entropy.rs
    tools/quantizer_referee.py equalise    # host/src/export/quantize/equalise/tests.rs

Written from the papers, not from the Rust code: Newcombe (Statistics in Medicine 17, 1998, method 10),
McNemar's exact test, Migacz (GTC 2017) and Nagel et al. (ICCV 2019, eq. 11).
"""
import sys

import numpy as np


def gate() -> None:
    from scipy import stats

    def wilson(hits, n):
        interval = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
        return interval.low, interval.high

    def newcombe(both, only_f32, only_int8, neither):
        table = np.array([[both, only_f32], [only_int8, neither]], float)
        n, rows, columns = table.sum(), table.sum(1), table.sum(0)
        p1, p2 = rows[0] / n, columns[0] / n
        (l1, u1), (l2, u2) = wilson(rows[0], n), wilson(columns[0], n)
        margins, det = rows.prod() * columns.prod(), np.linalg.det(table)
        det = max(det - n / 2, 0) if det > 0 else det
        phi = 0.0 if margins == 0 else det / np.sqrt(margins)
        # the correlated lengths of the two half intervals, by the law of cosines
        half = lambda a, b: np.sqrt(np.array([a, b]) @ [[1, -phi], [-phi, 1]] @ [a, b])
        return max(p1 - p2 - half(p1 - l1, u2 - p2), -1), min(p1 - p2 + half(u1 - p1, p2 - l2), 1)

    tables = [(1, 1, 7, 12), (59, 6, 16, 80), (140, 8, 2, 5), (17, 3, 0, 0), (20, 0, 0, 0), (0, 0, 5, 0), (180, 20, 0, 0)]
    for table in tables:
        low, high = newcombe(*table)
        trials = table[1] + table[2]
        chance = stats.binomtest(table[1], trials, alternative="greater").pvalue if trials else 1.0
        print(f"({list(table)}, {float(low)!r}, {float(high)!r}, {float(chance)!r}),")


def entropy() -> None:
    bins, levels, shares = 4096, 256, 128

    def divergence(counts, start, stop):
        kept = counts[start:stop].astype(float)
        p = kept.copy()
        p[0] += counts[:start].sum()
        p[-1] += counts[stop:].sum()
        q = np.zeros_like(p)
        edges = np.arange(levels + 1) * len(p) // levels
        for a, b in zip(edges, edges[1:]):
            filled = p[a:b] > 0
            if filled.any():
                q[a:b][filled] = max(kept[a:b].sum() / filled.sum(), 1e-4)
        if p.sum() == 0 or q.sum() == 0:
            return np.inf
        p, q, some = p / p.sum(), q / q.sum(), p > 0
        with np.errstate(divide="ignore"):
            return float((p[some] * np.log(p[some] / q[some])).sum())

    cases = [(0.0, 8.0, 0.5, 0), (0.0, 8.0, 0.25, 1000), (-4.0, 12.0, 0.5, 50), (-3.0, 3.0, 0.2, 0), (0.0, 6.0, 1e6, 0)]
    for low, high, width, outliers in cases:
        width_of_bin = (high - low) / bins
        centres = low + width_of_bin * (np.arange(bins) + 0.5)
        counts = (1e6 * np.exp(-np.abs(centres) / width)).astype(np.int64)
        counts[-1] += outliers
        zero = min(int(max(-low / width_of_bin, 0)), bins - 1)
        best = (np.inf, low, high)
        for share in range(shares, 0, -1):
            within = -(-max(zero, bins - zero) * share // shares)
            start, stop = max(zero - within, 0), min(zero + within, bins)
            if stop - start < levels:
                break
            d = divergence(counts, start, stop)
            if d < best[0]:
                best = (d, low + width_of_bin * start, low + width_of_bin * stop)
        print(f"({low!r}, {high!r}, {width!r}, {outliers}, ({best[1]!r}, {best[2]!r})),")


def equalise() -> None:
    def weights(seed, *shape):
        i = np.arange(np.prod(shape))
        return (((i * 37 + seed * 11) % 101 - 50) / 50 * (1 + i * 7 % 13)).reshape(shape)

    w0, w1, w2 = weights(0, 4, 3, 1, 1), weights(1, 4, 1, 3, 3), weights(2, 2, 4, 1, 1)
    largest = lambda w, axis: np.abs(w).max(axis=tuple(a for a in range(4) if a != axis))
    for _ in range(1000):
        # a depthwise filter reads the channel of its own number
        s = np.sqrt(largest(w0, 0) / largest(w1, 0))
        w0, w1 = w0 / s[:, None, None, None], w1 * s[:, None, None, None]
        s = np.sqrt(largest(w1, 0) / largest(w2, 1))
        w1, w2 = w1 / s[:, None, None, None], w2 * s[None, :, None, None]
    for name, w in [("W0", w0), ("W1", w1), ("W2", w2)]:
        numbers = ", ".join(f"{x:.6}" for x in largest(w, 0))
        print(f"const {name}: [f32; {len(w)}] = [{numbers}];")


if __name__ == "__main__":
    {"gate": gate, "entropy": entropy, "equalise": equalise}[sys.argv[1]]()
