"""Places of map coordinates by pyproj (PROJ), for the tests of host/src/data/projection.rs.

    pip install pyproj; python3 tools/utm_referee.py
"""
from pyproj import Transformer

CASES = [
    (32631, 500000.0, 0.0), (32631, 166021.4431, 0.0), (32633, 333041.0, 6248112.0), (32633, 899999.0, 7100000.0),
    (32635, 421184.7, 5150000.5), (32760, 700123.25, 5408765.75), (32755, 310878.0, 8253485.0), (32701, 440000.0, 1200000.0),
    (32601, 510000.0, 9300000.0), (32721, 250000.0, 9999999.0), (32618, 583960.0, 4507523.0), (25832, 691608.0, 5334760.0),
    (3857, -8238310.24, 4970071.58), (3857, 20037508.0, -15000000.0),
]
for epsg, x, y in CASES:
    lon, lat = Transformer.from_crs(epsg, 4326, always_xy=True).transform(x, y)
    print(f"({epsg}, {x}, {y}, {lat:.10f}, {lon:.10f}),")
