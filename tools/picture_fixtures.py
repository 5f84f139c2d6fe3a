"""Makes models/src/picture/data: small JPEG files of every kind, and what libjpeg makes of them at 1/2.

    python tools/picture_fixtures.py models/src/picture/data

Needs Pillow and numpy. libjpeg-turbo (Pillow's `draft`) is the referee of decoding at reduced scale.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

W, H = 64, 48
y, x = np.mgrid[0:H, 0:W]
scene = np.stack(
    [
        128 + 100 * np.sin(x / 9.0) * np.cos(y / 7.0),
        np.clip(3 * x + y, 0, 255),
        np.where((x - 40) ** 2 + (y - 20) ** 2 < 120, 220, 40 + y),
    ],
    axis=-1,
)
rgb = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8), "RGB")


def save(name, image, **options):
    image.save(out / name, "JPEG", quality=90, **options)


save("444.jpg", rgb, subsampling=0)
save("420.jpg", rgb, subsampling=2)
save("422.jpg", rgb, subsampling=1)
save("progressive.jpg", rgb, subsampling=2, progressive=True)
save("grey.jpg", rgb.convert("L"))
save("cmyk.jpg", rgb.convert("CMYK"))
save("rgb.jpg", rgb, keep_rgb=True)

for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # stored so that it is the same upright scene in each
    stored = {
        1: rgb,
        2: rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: rgb.transpose(Image.Transpose.ROTATE_180),
        4: rgb.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: rgb.transpose(Image.Transpose.TRANSPOSE),
        6: rgb.transpose(Image.Transpose.ROTATE_90),
        7: rgb.transpose(Image.Transpose.TRANSVERSE),
        8: rgb.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    save(f"upright-{orientation}.jpg", stored, subsampling=0, exif=exif)

for name in ["444", "420", "grey"]:
    half = Image.open(out / f"{name}.jpg")
    half.draft("RGB", (W // 2, H // 2))
    assert half.size == (W // 2, H // 2), half.size
    (out / f"{name}.half.rgb").write_bytes(half.convert("RGB").tobytes())

# the tables every baseline JPEG without its own means, as libjpeg writes them
buffer = io.BytesIO()
rgb.save(buffer, "JPEG")
jpeg = buffer.getvalue()
at, tables = 2, b""
while jpeg[at + 1] != 0xDA:
    length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
    if jpeg[at + 1] == 0xC4:
        tables += jpeg[at : at + 2 + length]
    at += 2 + length
(out / "standard.dht").write_bytes(tables)
