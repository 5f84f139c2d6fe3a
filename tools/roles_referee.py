"""Draws the roles of training rows independently of csp-host, for comparison.

    python3 tools/roles_referee.py                        # the golden of host/src/training/roles.rs
    python3 tools/roles_referee.py TABLE.csv ROWS.json SEED LABELS   # against the rows.json of a run
"""
import csv, hashlib, json, math, sys


def draw(seed, purpose, key):
    return hashlib.sha256(seed.to_bytes(8, "little") + purpose.encode() + key).digest()


def cell(row, place, deg):
    if place is None:
        return ("row", row)
    return ("cell", math.floor(place[0] / deg), math.floor(place[1] / deg))


def key(unit, seed, purpose):
    if unit[0] == "row":
        return draw(seed, purpose, unit[1].to_bytes(8, "little"))
    a, b = (int(v).to_bytes(4, "little", signed=True) for v in unit[1:])
    return draw(seed, purpose, bytes(4) + a + b)


def roles(rows, fraction, seed, share=0.15, max_rows=1500, deg=1.0):
    """rows: (index, place or None, class or None) of the training split."""
    by_class = {}
    for i, _, c in rows:
        if c is not None:
            by_class.setdefault(c, []).append(i)
    granted = {}
    for c, members in by_class.items():
        n = min(max(round(len(members) * fraction), 1), len(members))  # half to even
        members.sort(key=lambda i: draw(seed, "labels", i.to_bytes(8, "little")))
        granted.update({i: c for i in members[:n]})
    want = min(math.floor(len(granted) * share + 0.5), max_rows)
    units, left = {}, {}
    for i, place, _ in rows:
        if i in granted:
            u = units.setdefault(cell(i, place, deg), {})
            u[granted[i]] = u.get(granted[i], 0) + 1
            left[granted[i]] = left.get(granted[i], 0) + 1
    held, count = set(), 0
    for u in sorted(units, key=lambda u: key(u, seed, "holdout")):
        size = sum(units[u].values())
        if count < want and all(left[c] > n for c, n in units[u].items()) and count + size <= want + (want + 1) // 2:
            for c, n in units[u].items():
                left[c] -= n
            count += size
            held.add(u)
    out = {"labelled": [], "holdout": [], "unlabelled": [], "shielded": []}
    for i, place, _ in rows:
        inside = cell(i, place, deg) in held
        role = ("holdout" if inside else "labelled") if i in granted else ("shielded" if inside else "unlabelled")
        out[role].append(i)
    return out


def golden():
    """The data set of the tests in roles.rs: digest of the four lists at 20 % and seed 1."""
    rows = [(i, (i % 6 + 0.5, i // 6 % 5 + 0.5), i * 7 % 3) for i in range(600) if i % 4 != 3]
    # every seventh row is made to have no place, to draw rows as well as cells
    rows = [(i, None if i % 7 == 0 else p, c) for i, p, c in rows]
    found = roles(rows, 0.2, 1)
    hash = hashlib.sha256()
    for role in ("labelled", "holdout", "unlabelled", "shielded"):
        hash.update(len(found[role]).to_bytes(8, "little"))
        for i in found[role]:
            hash.update(i.to_bytes(8, "little"))
    return hash.hexdigest(), {k: len(v) for k, v in found.items()}


if len(sys.argv) == 1:
    print(*golden())
else:
    table, run, seed, fraction = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    rows = []
    for i, r in enumerate(csv.DictReader(open(table))):
        if r["split"] == "train":
            rows.append((i, (float(r["lat"]), float(r["lon"])) if r["lat"] else None, r["label"] or None))
    ours, theirs = roles(rows, fraction, seed), json.load(open(run))
    same = {role: ours[role] == theirs[role] for role in ours}
    print(same, {role: len(v) for role, v in ours.items()})
    sys.exit(0 if all(same.values()) else 1)
