#!/usr/bin/env python3
"""Holds the ONNX files of a bundle against the ONNX checker and onnxruntime.

    pip install numpy onnx onnxruntime
    csp-tools dump-logits model.cspm table.csv --split val --limit 500 -o dump
    tools/onnx_referee.py dump [--twin model.u8.onnx] [--twin model.qdq.onnx]

A twin is what `csp-host export --activations u8` or `--format qdq` writes beside the same bundle: it has
to answer as the bundle's int8 network does, up to the rounding of what is rounded elsewhere.

The dump holds the bundle, the pixels fed (after decoding and resizing, so that no second picture
decoder is involved) and the logits the device's engine answered. Exit code 1 if a file is not valid
ONNX or onnxruntime answers differently beyond the bounds below.
"""
import argparse
import json
import pathlib
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime as ort

# f32: both engines sum in another order.
F32_RELATIVE = 1e-4
# int8: the kernels round as onnxruntime does, (float)acc * scale to the nearest even: the same bits. Only
# a last layer in f32 sums in another order.
INT8_RELATIVE = 1e-5
# With --optimise onnxruntime itself rounds residual sums in another way, one step of an activation.
INT8_RELATIVE_RMS = 0.05
INT8_TOP1 = 0.99


def session(model: bytes, optimise: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # weights stored as int8 are computed with in f32, not their inputs rounded to 8 bits too
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if not optimise:
        # as the file says, node by node: with optimisation onnxruntime replaces DQ-Add-Q by its own operator
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, inputs: np.ndarray, optimise: bool) -> np.ndarray:
    s = session(model, optimise)
    name = s.get_inputs()[0].name
    return np.concatenate([s.run(None, {name: x[None]})[0] for x in inputs])


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict:
    off = np.abs(ours - theirs)
    # a softmax does not see the mean of a row
    centred = theirs - theirs.mean(axis=1, keepdims=True)
    return {
        "n": len(ours),
        "max_difference": float(off.max()),
        "relative_max": float(off.max() / max(1.0, np.abs(theirs).max())),
        "relative_rms": float(np.sqrt((off**2).mean() / max((centred**2).mean(), 1e-12))),
        "identical_rows": float((off.max(axis=1) == 0).mean()),
        "top1_agreement": float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=pathlib.Path, help="directory of csp-tools dump-logits")
    parser.add_argument("--optimise", action="store_true", help="let onnxruntime rewrite the graph")
    parser.add_argument("--twin", type=pathlib.Path, action="append", default=[], help="another form of image.onnx")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    bundle = zipfile.ZipFile(args.dump / "model.cspm")
    manifest = json.loads(bundle.read("manifest.json"))
    given, classes = manifest["input"], len(manifest["labels"])
    pixels = np.fromfile(args.dump / "pixels.u8", np.uint8).reshape(-1, given["height"], given["width"], 3)
    planar = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    mean, std = (np.array(given[k], np.float32).reshape(3, 1, 1) for k in ("mean", "std"))
    feeds = {
        "image.f32.onnx": (planar.astype(np.float32) / np.float32(255) - mean) / std,
        "image.onnx": (planar ^ 0x80).view(np.int8),
    }
    if manifest["image_format"] == "f32":
        feeds["image.onnx"] = feeds.pop("image.f32.onnx")
    features = args.dump / "features.f32"
    if features.exists() and "location.onnx" in bundle.namelist():
        raw = np.fromfile(features, np.float32)
        width = onnx.load_from_string(bundle.read("location.onnx")).graph.input[0].type.tensor_type.shape.dim[1]
        feeds["location.onnx"] = raw.reshape(-1, width.dim_value)

    report, failed = {}, []
    for name in [n for n in bundle.namelist() if n.endswith(".onnx")]:
        model = bundle.read(name)
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        report[name] = {"checker": "ok", "bytes": len(model)}
        ours = args.dump / f"{name}.logits.f32"
        if name not in feeds or not ours.exists():
            continue
        figures = compare(
            np.fromfile(ours, np.float32).reshape(-1, classes), run(model, feeds[name], args.optimise)
        )
        report[name] |= figures
        integer = feeds[name].dtype == np.int8
        if integer and args.optimise:
            fits = figures["relative_rms"] <= INT8_RELATIVE_RMS and figures["top1_agreement"] >= INT8_TOP1
        else:
            fits = figures["relative_max"] <= (INT8_RELATIVE if integer else F32_RELATIVE)
        report[name]["verdict"] = "agrees" if fits else "DIFFERS"
        if not fits:
            failed.append(name)
    for path in args.twin:
        model = path.read_bytes()
        proto = onnx.load_from_string(model)
        onnx.checker.check_model(proto, full_check=True)
        unsigned = proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        theirs = run(model, planar if unsigned else (planar ^ 0x80).view(np.int8), args.optimise)
        ours = np.fromfile(args.dump / "image.onnx.logits.f32", np.float32).reshape(-1, classes)
        figures = compare(ours, theirs)
        # operators of floats round a sum once more before they requantize it
        exact = not args.optimise and not any(node.op_type == "Conv" for node in proto.graph.node)
        rounded = figures["relative_rms"] <= INT8_RELATIVE_RMS and figures["top1_agreement"] >= INT8_TOP1
        fits = figures["relative_max"] <= INT8_RELATIVE if exact else rounded
        verdict = "agrees" if fits else "DIFFERS"
        report[path.name] = {"checker": "ok", "bytes": len(model)} | figures | {"verdict": verdict}
        if not fits:
            failed.append(path.name)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        for name, figures in report.items():
            print(name)
            for key, value in figures.items():
                print(f"  {key:<16} {value:.3g}" if isinstance(value, float) else f"  {key:<16} {value}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
