#!/usr/bin/env python3
"""Values of the losses in numpy, float64, on the matrices of host/src/training/losses (module golden).

Entry (i, j) of M(r, c, o, f) is f(o + i c + j). The numbers printed here stand in the unit tests.
"""
import numpy as np


def M(r, c, o, f):
    return f(o + np.arange(r * c, dtype=np.float64).reshape(r, c))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def diagonal_ce(logits):
    """Mean cross-entropy with the right answer of row i in column i."""
    top = logits.max(1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return -np.mean(np.diag(log_p[:, : len(logits)]))


a, a2, b = unit(M(3, 4, 1, np.sin)), unit(M(3, 4, 1, np.cos)), unit(M(3, 4, 2.5, np.sin))
n = unit(M(6, 4, 40, np.sin))
queue = unit(M(5, 4, 60, np.sin))
B, C, K = 3, 2, 5
# rows 0 and 2 are of one class; row 1 was seen before as queue entry 3, row 0's class as entry 1
same = np.zeros((B, B), bool)
same[0, 2] = same[2, 0] = True
seen = np.zeros((B, K), bool)
seen[1, 3] = seen[0, 1] = seen[2, 1] = True


def mask(logits, where):
    return np.where(where, -np.inf, logits)


def mc(tau=(1, 1, 1), same=np.zeros((B, B), bool), queue=None, seen=None, symmetric=False):
    s = mask(a @ b.T / tau[0], same)
    l_b = diagonal_ce(s)
    if symmetric:
        back = s.T
        if queue is not None:
            back = np.concatenate([back, mask(b @ queue.T / tau[0], seen)], 1)
        l_b = (l_b, diagonal_ce(back))
    own = np.sum(a * b, 1, keepdims=True)
    others = np.stack([np.sum(n[c * B : (c + 1) * B] * b, 1) for c in range(C)], 1)
    logits = np.concatenate([own, others], 1) / tau[1]
    l_l = -np.mean(logits[:, 0] - np.log(np.exp(logits).sum(1)))
    l_d = diagonal_ce(mask(a @ a2.T / tau[2], same))
    return l_b, l_l, l_d


def nce(tau=1.0, same=np.zeros((B, B), bool), queue=None, seen=None):
    s = a @ b.T / tau
    false = -np.log(1 - sigmoid(s))
    keep = ~same & ~np.eye(B, dtype=bool)
    if queue is not None:
        false = np.concatenate([false, -np.log(1 - sigmoid(b @ queue.T / tau))], 1)
        keep = np.concatenate([keep, ~seen], 1)
    others = (false * keep).sum(1) / np.maximum(keep.sum(1), 1)
    return np.mean(-np.log(sigmoid(np.diag(s)))) + np.mean(others)


forward, back = mc(symmetric=True)[0]
print("MC both directions, mean", (forward + back) / 2)
forward, back = mc((0.5, 1, 1), queue=queue, seen=seen, symmetric=True)[0]
print("MC tau 0.5, image -> location with queue", back)
l_b, l_l, l_d = mc(same=same)
print("MC same class masked l_B, l_D", l_b, l_d)
print("NCE tau 0.2", nce(0.2))
print("NCE same class masked", nce(same=same))
print("NCE with queue", nce(same=same, queue=queue, seen=seen))

e, T, users, bg = M(3, 4, 1, np.sin), M(5, 4, 7, np.sin), M(2, 4, 70, np.sin), M(3, 4, 100, np.sin)
y, user, other, Q = np.array([4, 0, 2]), np.array([1, 0, 1]), np.array([1, 3, 4]), 5
i = np.arange(3)
z, zb = e @ T.T, bg @ T.T


def neg(x):
    return -np.log(x)


print("ssdl", np.mean(neg(sigmoid(z[i, y]))) + np.mean(neg(1 - sigmoid(zb[i, y]))))
print("slds", np.mean(neg(sigmoid(z[i, y]))) + np.mean(neg(1 - sigmoid(z[i, other]))))
print("cross-entropy", -np.mean(z[i, y] - np.log(np.exp(z).sum(1))))


def full(z, weight):
    p = sigmoid(z)
    out = neg(1 - p)
    out[i, y] = weight * neg(p[i, y])
    return out.sum() / (3 * Q)


print("full, positive weight 2048", full(z, 2048.0) + neg(1 - sigmoid(zb)).mean())
u = users[user]
base = full(z, Q) + neg(1 - sigmoid(zb)).mean()
known = np.array([True, False, True])
zu = u @ T.T
for name, k in (("all", np.ones(3, bool)), ("row 1 unknown", known)):
    p = sigmoid(zu[k])
    out = neg(1 - p)
    j = np.arange(k.sum())
    out[j, y[k]] = Q * neg(p[j, y[k]])
    user_terms = (
        np.mean(neg(sigmoid(np.sum(u * e, 1)))[k])
        + np.mean(neg(1 - sigmoid(np.sum(u * bg, 1)))[k])
        + out.sum() / (k.sum() * Q)
    )
    print("full with users,", name, base + user_terms)
