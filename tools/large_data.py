"""Writes made-up data of the sizes that are published, to see whether they are held: no photographs.

    python3 tools/large_data.py inat out/        # iNaturalist 2018: 436,000 + 24,400 rows, 8,142 classes
    python3 tools/large_data.py sinr out.csv     # SINR: 36 million occurrences, 47,000 classes
    csp-host data check out.csv
    csp-host train --data out/ --places-only --out run --device cpu
"""

import json
import pathlib
import random
import sys


def inat(out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    draw = random.Random(2)
    classes = 8142
    ranges = [(draw.uniform(-55, 70), draw.uniform(-180, 180), draw.uniform(1, 12)) for _ in range(classes)]
    often = [1 / (rank + 5) ** 0.9 for rank in range(classes)]
    for name, rows, first in [("train2018", 436_000, 0), ("val2018", 24_400, 1_000_000)]:
        images, annotations, locations = [], [], []
        for number, label in enumerate(draw.choices(range(classes), often, k=rows), first):
            lat, lon, spread = ranges[label]
            image = {"id": number, "width": 800, "height": 600, "license": 1}
            image["file_name"] = f"train_val2018/Animalia/{label}/{number:032x}.jpg"
            image["rights_holder"] = f"user {draw.randrange(20_000)}"
            images.append(image)
            annotations.append({"id": number, "image_id": number, "category_id": label})
            place = {"id": number, "lat": None, "lon": None, "loc_uncert": None}
            if draw.random() > 0.01:
                place["lat"] = round(max(-89.0, min(89.0, draw.gauss(lat, spread))), 6)
                place["lon"] = round((draw.gauss(lon, 2 * spread) + 180) % 360 - 180, 6)
                place["loc_uncert"] = draw.randrange(1, 20_000)
            place["date_c"] = round(draw.random(), 6)
            place["user_id"] = draw.randrange(20_000)
            locations.append(place)
        categories = [{"id": label, "name": f"{label}"} for label in range(classes)]
        whole = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (out / f"{name}.json").write_text(json.dumps(whole))
        (out / f"{name}_locations.json").write_text(json.dumps(locations))


def sinr(out: pathlib.Path) -> None:
    draw = random.Random(1)
    with out.open("w") as table:
        table.write("latitude,longitude,taxon_id,id,observed_on,user_id\n")
        for number in range(36_000_000):
            place = f"{draw.uniform(-60, 70):.6f},{draw.uniform(-180, 180):.6f}"
            day = f"2021-0{draw.randrange(1, 10)}-1{draw.randrange(10)}"
            table.write(f"{place},{draw.randrange(1000, 48_000)},{number},{day},{draw.randrange(50_000)}\n")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("inat", "sinr"):
        sys.exit(__doc__)
    {"inat": inat, "sinr": sinr}[sys.argv[1]](pathlib.Path(sys.argv[2]))
