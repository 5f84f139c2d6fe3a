"""Writes an annotation JSON like iNaturalist 2021's with N synthetic images, to measure reading.

    python3 tools/inat_json.py 500000 /tmp/inat/train.json
    /usr/bin/time -v csp-host data check /tmp/inat/train.json --places-only
"""
import json, os, random, sys

n, path = int(sys.argv[1]), sys.argv[2]
os.makedirs(os.path.dirname(path), exist_ok=True)
rng = random.Random(1)
classes = 10_000
with open(path, "w") as out:
    out.write('{"info": {"year": 2021}, "images": [')
    for i in range(n):
        c = rng.randrange(classes)
        placed = rng.random() > 0.02
        image = {
            "id": i, "width": 500, "height": 375,
            "file_name": f"train/{c:05d}_Animalia_Annelida_Clitellata_Haplotaxida_Synthetica_species{c}/{rng.getrandbits(128):032x}.jpg",
            "license": 0, "rights_holder": f"Person {rng.randrange(n // 20)}", "date": f"20{rng.randrange(10, 21)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)} 00:00:00+00:00",
            "latitude": round(rng.uniform(-60, 70), 5) if placed else None, "longitude": round(rng.uniform(-180, 180), 5) if placed else None,
            "location_uncertainty": rng.randrange(1, 5000) if placed else None,
        }
        out.write((", " if i else "") + json.dumps(image))
    out.write('], "categories": [')
    for c in range(classes):
        category = {"id": c, "name": f"Synthetica species{c}", "common_name": f"s{c}", "supercategory": "Animalia", "kingdom": "Animalia", "phylum": "Annelida",
                    "class": f"C{c % 20}", "order": f"O{c % 100}", "family": f"F{c % 500}", "genus": f"G{c % 3000}", "specific_epithet": f"species{c}", "image_dir_name": f"{c:05d}"}
        out.write((", " if c else "") + json.dumps(category))
    out.write('], "annotations": [')
    rng = random.Random(2)
    for i in range(n):
        out.write((", " if i else "") + json.dumps({"id": i, "image_id": i, "category_id": rng.randrange(classes)}))
    out.write('], "licenses": []}')
