"""Small GeoTIFFs by another writer, for the tests of host/src/data/geotiff.rs. Synthetic pixels.

    pip install tifffile numpy; python3 tools/geotiff_fixtures.py host/tests/fixtures/geotiff
"""
import sys
import numpy, tifffile

out = sys.argv[1]
keys = lambda model, *crs: [1, 1, 0, 2 + len(crs) // 4, 1024, 0, 1, model, 1025, 0, 1, 1, *crs]


def write(name, pixels, keys, scale, tie, **how):
    tags = [(33550, "d", 3, scale, True), (33922, "d", 6, tie, True), (34735, "H", len(keys), keys, True)]
    tifffile.imwrite(f"{out}/{name}", pixels, extratags=tags, software="", metadata=None, **how)


y, x = numpy.mgrid[0:8, 0:8]
rgb = numpy.stack([x * 30, y * 30, x * 0 + 7], -1).astype("u1")
write("rgb8_deflate_4326.tif", rgb, keys(2, 2048, 0, 1, 4326), (0.001, 0.001, 0.0), (0.0, 0.0, 0.0, 11.0, 47.0, 0.0),
      photometric="rgb", compression="deflate", predictor=True)
bands = numpy.stack([x * 500, y * 500, x * 0 + 160, x * 0 + 9, x * 0 + 9]).astype("<u2")
write("u16_5band_planar_32733.tif", bands, keys(1, 3072, 0, 1, 32733), (10.0, 10.0, 0.0), (0.0, 0.0, 0.0, 333000.0, 6248000.0, 0.0),
      photometric="minisblack", planarconfig="separate", byteorder="<")
write("u16_rgb_32633_big_endian.tif", numpy.moveaxis(bands[:3] * 16, 0, -1).astype(">u2"), keys(1, 3072, 0, 1, 32633),
      (10.0, 10.0, 0.0), (0.0, 0.0, 0.0, 333000.0, 6248000.0, 0.0), photometric="rgb", byteorder=">", tile=(16, 16))
