#!/usr/bin/env python3
"""Measures the image networks of a bundle with onnxruntime, one thread, each in a process of its own.

    pip install numpy onnx onnxruntime
    tools/onnx_peers.py model.cspm [--runs 30] [--json]

`u8` is the int8 network with unsigned activations (zero points + 128, the same weights): what
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


def measure(bundle: pathlib.Path, form: str, runs: int) -> dict:
    import numpy as np
    import onnx
    import onnxruntime as ort

    files = zipfile.ZipFile(bundle)
    manifest = json.loads(files.read("manifest.json"))
    integer = manifest["image_format"] == "int8"
    name = "image.f32.onnx" if form == "f32" and integer else "image.onnx"
    data = files.read(name)
    if form == "u8":
        data = unsigned(onnx.load_from_string(data)).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start
    given = manifest["input"]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, given["height"], given["width"]), dtype=np.uint8)
    x = {"f32": pixels.astype(np.float32) / 127.5 - 1, "s8": (pixels ^ 0x80).view(np.int8), "u8": pixels}[form]
    feed = {session.get_inputs()[0].name: x}
    for _ in range(3):
        session.run(None, feed)
    times, busy = [], time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    busy = time.process_time() - busy
    times.sort()
    at = lambda part: times[round((len(times) - 1) * part)] * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "engine": f"onnxruntime {ort.__version__} {form}",
        "median_ms": at(0.5), "p90_ms": at(0.9), "best_ms": at(0),
        "cpu_ms": busy / runs * 1e3, "load_ms": load * 1e3,
        # without Python and its modules: what the session added
        "peak_rss_kib": peak - base,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--form", choices=["f32", "s8", "u8"], help="only this one, in this process")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.bundle, args.form, args.runs)))
        return 0
    integer = json.loads(zipfile.ZipFile(args.bundle).read("manifest.json"))["image_format"] == "int8"
    report = []
    for form in ["f32", "u8", "s8"] if integer else ["f32"]:
        command = [sys.executable, __file__, str(args.bundle), "--runs", str(args.runs), "--form", form]
        report.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
