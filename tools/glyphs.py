"""Makes host/assets/glyphs.bin: the letters of the PNG plots, in grey levels.

DejaVu Sans (free to embed and to change: Bitstream Vera licence and public domain), printable ASCII,
Latin-1 and a few signs at 24 pixels. All little-endian u16: count, height, baseline; then for each glyph
code point, advance, width, left (i16), followed by height rows of width levels 0 to 15, two a byte, low
half first, the glyph padded to a whole byte.

    pip install pillow
    python tools/glyphs.py /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf host/assets/glyphs.bin
"""

import struct
import sys

from PIL import Image, ImageDraw, ImageFont

SIZE = 24
font = ImageFont.truetype(sys.argv[1], SIZE)
ascent, descent = font.getmetrics()
height = ascent + descent
codes = [*range(0x20, 0x7F), *range(0xA0, 0x100), 0x2013, 0x2026, 0x2212, 0x2265]
out = struct.pack("<HHH", len(codes), height, ascent)
for code in codes:
    char = chr(code)
    left, _, right, _ = font.getbbox(char)
    width = max(right - left, 0)
    image = Image.new("L", (max(width, 1), height), 0)
    ImageDraw.Draw(image).text((-left, 0), char, font=font, fill=255)
    levels = [round(v * 15 / 255) for v in image.tobytes()][: width * height]
    if len(levels) % 2:
        levels.append(0)
    out += struct.pack("<HHHh", code, round(font.getlength(char)), width, left)
    out += bytes(a | b << 4 for a, b in zip(levels[::2], levels[1::2]))
open(sys.argv[2], "wb").write(out)
print(len(out), "bytes,", len(codes), "glyphs,", height, "pixels high, baseline", ascent)
