#!/usr/bin/env python3
"""Measures the image networks of a bundle with onnxruntime, one thread, each in a process of its own.

    pip install numpy onnx onnxruntime
    tools/onnx_peers.py model.cspm [--runs 30] [--network location]

With --form it measures in its own process and needs no onnx but for u8: `csp-tools bench infer` runs it so
on an emulated ARM. `u8` is the int8 network with unsigned activations (zero points + 128, the same weights): what
onnxruntime is fastest with on x86. Prints one JSON document: a list as `csp-device bench` gives it.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time
import zipfile


def unsigned(model):
    """The int8 network with uint8 activations."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    zeros = set()
    for node in graph.node:
        places = {"QLinearConv": (2, 7), "QuantizeLinear": (2,), "DequantizeLinear": (2,), "MatMulInteger": (2,)}
        zeros |= {node.input[i] for i in places.get(node.op_type, ()) if i < len(node.input)}
    for tensor in graph.initializer:
        if tensor.name in zeros:
            value = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.uint8), tensor.name))
    del graph.value_info[:]
    return model


def measure(bundle: pathlib.Path, form: str, runs: int, warm_up: int, threads: int) -> dict:
    import numpy as np
    import onnxruntime as ort

    files = zipfile.ZipFile(bundle)
    manifest = json.loads(files.read("manifest.json"))
    integer = manifest["image_format"] == "int8"
    name = "image.f32.onnx" if form == "f32" and integer else "image.onnx"
    data = files.read("location.onnx" if form == "location" else name)
    if form == "u8":
        import onnx
        data = unsigned(onnx.load_from_string(data)).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start
    given = manifest["input"]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, given["height"], given["width"]), dtype=np.uint8)
    features = np.linspace(-1, 1, session.get_inputs()[0].shape[1], dtype=np.float32)[None]
    x = {"f32": pixels.astype(np.float32) / 127.5 - 1, "s8": (pixels ^ 0x80).view(np.int8), "u8": pixels,
         "location": features}[form]
    feed = {session.get_inputs()[0].name: x}
    for _ in range(warm_up):
        session.run(None, feed)
    times, busy = [], time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    busy = time.process_time() - busy
    times.sort()
    if not times:
        return {}
    at = lambda part: times[round((len(times) - 1) * part)] * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "engine": f"onnxruntime {ort.__version__}" + ("" if form == "location" else f" {form}"),
        "threads": threads,
        "median_ms": at(0.5), "p90_ms": at(0.9), "best_ms": at(0),
        "cpu_ms": busy / runs * 1e3, "load_ms": load * 1e3,
        # without Python and its modules: what the session added
        "peak_rss_kib": peak - base,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", choices=["image", "location"], default="image")
    parser.add_argument("--form", choices=["f32", "s8", "u8", "location"], help="only this one, in this process")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.bundle, args.form, args.runs, args.warm_up, args.threads)))
        return 0
    integer = json.loads(zipfile.ZipFile(args.bundle).read("manifest.json"))["image_format"] == "int8"
    report = []
    forms = ["location"] if args.network == "location" else ["f32", "u8", "s8"] if integer else ["f32"]
    if integer and "image.f32.onnx" not in zipfile.ZipFile(args.bundle).namelist():
        forms = [form for form in forms if form != "f32"]
    for form in forms:
        command = [sys.executable, __file__, str(args.bundle), "--form", form, "--runs", str(args.runs),
                   "--warm-up", str(args.warm_up), "--threads", str(args.threads)]
        report.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
