#!/usr/bin/env python3
"""Makes host/assets/land-110m.bin from Natural Earth's 1:110m land polygons (public domain).

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python3 tools/coastline.py package/land-110m.json host/assets/land-110m.bin

The input is TopoJSON whose rings run on across the antimeridian; here they are cut there, and the
ring around the south pole is closed along the map's lower edge, so that every ring is a plain
polygon in the longitude-latitude rectangle. Format, little-endian: number of rings u16; for each
ring its number of points u16, then (longitude, latitude) as i16 in 1/100 degree. A ring is closed:
its last point is joined to its first. A point is on land if it is inside an odd number of rings.
"""
import json
import struct
import sys


def rings_of(topology):
    sx, sy = topology["transform"]["scale"]
    tx, ty = topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * sx + tx, y * sy + ty))
        arcs.append(points)

    def join(indices):
        ring = []
        for i in indices:
            ring += arcs[i][:-1] if i >= 0 else arcs[~i][:0:-1]
        return ring

    for geometry in topology["objects"]["land"]["geometries"]:
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        for polygon in polygons:
            yield from map(join, polygon)


def unwrapped(ring):
    """The ring with every step shorter than half a turn."""
    out = [ring[0]]
    for lon, lat in ring[1:]:
        last = out[-1][0]
        out.append((lon - 360 * round((lon - last) / 360), lat))
    turn = round((ring[0][0] - out[-1][0]) / 360)
    if turn:  # it goes around a pole
        pole = -90 if sum(lat for _, lat in ring) < 0 else 90
        out += [(ring[0][0] - 360 * turn, ring[0][1])]
        out += [(out[-1][0], pole), (ring[0][0], pole)]
    return out


def clipped(ring, limit, sign):
    """Sutherland-Hodgman against sign * lon <= sign * limit."""
    out = []
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1]):
        in0, in1 = sign * x0 <= sign * limit, sign * x1 <= sign * limit
        if in0:
            out.append((x0, y0))
        if in0 != in1:
            out.append((limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)))
    return out


def main(source, target):
    rings = []
    for ring in rings_of(json.load(open(source))):
        ring = unwrapped(ring)
        for shift in (-360, 0, 360):
            piece = [(lon + shift, lat) for lon, lat in ring]
            piece = clipped(clipped(piece, 180, 1), -180, -1)
            points = [(round(lon * 100), round(lat * 100)) for lon, lat in piece]
            points = [p for i, p in enumerate(points) if p != points[i - 1]]
            if len(points) >= 3:
                rings.append(points)
    with open(target, "wb") as out:
        out.write(struct.pack("<H", len(rings)))
        for ring in rings:
            out.write(struct.pack("<H", len(ring)))
            out.write(b"".join(struct.pack("<hh", *p) for p in ring))
    print(f"{len(rings)} rings, {sum(map(len, rings))} points")


main(*sys.argv[1:])
