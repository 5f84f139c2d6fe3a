#!/usr/bin/env python3
"""Makes the quantized networks of others that the device's tests run, and what onnxruntime answers.

    pip install numpy onnx onnxruntime && tools/foreign_onnx.py

One small network with random weights, as onnxruntime's quantizer writes it in the forms people have:
QDQ per tensor and per channel, unsigned and signed, with layers left in f32, without the zero points
that are 0; in operators of its own (QOperator), and quantized while it runs. The last are ours: f32
layers inside an int8 graph, and f32 layers whose weights are stored as int8. The answers are those of onnxruntime without its optimisations, which is
what the file says word for word.
"""
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic,
                                      quantize_static)

HERE = Path(__file__).parent.parent / "device/tests/it/fixtures/foreign"
CLASSES, SIDE = 4, 16
RNG = np.random.default_rng(20261124)
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
FACTORS = [[37, 11], [1, 0], [7, 3]]


def pixels(a, b):
    count = SIDE * SIDE * 3
    flat = np.array([(i * a + i * i * b) % 256 for i in range(count)], np.uint8)
    return flat.reshape(SIDE, SIDE, 3).transpose(2, 0, 1)[None]


def real(p):
    return (p.astype(np.float32) / np.float32(255) - MEAN[:, None, None]) / STD[:, None, None]


def graph(nodes, constants, dtype, name):
    image = helper.make_tensor_value_info("image", dtype, [1, 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])
    made = helper.make_graph(nodes, name, [image], [logits], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def network():
    """conv → relu → depthwise → relu → pointwise, + , max pool, average, Gemm."""
    constants, nodes = [], []

    def const(name, *shape, scale=0.5):
        value = (RNG.standard_normal(shape) * scale).astype(np.float32)
        constants.append(numpy_helper.from_array(value, name))
        return name

    def op(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    x = op("Conv", ["image", const("w1", 8, 3, 3, 3), const("b1", 8)], "conv1", strides=[2, 2],
           pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    x = op("Relu", [x], "relu1")
    y = op("Conv", [x, const("w2", 8, 1, 3, 3), const("b2", 8)], "depthwise", group=8, pads=[1, 1, 1, 1],
           kernel_shape=[3, 3])
    y = op("Relu", [y], "relu2")
    y = op("Conv", [y, const("w3", 8, 8, 1, 1), const("b3", 8)], "pointwise", kernel_shape=[1, 1])
    x = op("Add", [x, y], "sum")
    x = op("MaxPool", [x], "largest", kernel_shape=[2, 2], strides=[2, 2])
    x = op("GlobalAveragePool", [x], "average")
    x = op("Flatten", [x], "flat")
    op("Gemm", [x, const("w4", CLASSES, 8), const("b4", CLASSES)], "logits", transB=1)
    return graph(nodes, constants, TensorProto.FLOAT, "small")


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.left = [{"image": real(RNG.integers(0, 256, (1, 3, SIDE, SIDE)).astype(np.uint8))} for _ in range(16)]

    def get_next(self):
        return self.left.pop() if self.left else None


def without_zero_points(model):
    """Leaves out each zero point that is 0 in the format a missing one means."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    formats = {t.name: t.data_type for t in model.graph.initializer}
    dropped = 0
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero = node.input[2]
        implied = node.op_type == "DequantizeLinear" or formats[zero] == TensorProto.UINT8
        if implied and not values[zero].any():
            del node.input[2]
            dropped += 1
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    assert dropped >= 4, dropped
    return model


def islands():
    """An int8 graph whose depthwise layer stayed f32, and one whose last pointwise layer did."""
    found = {}
    for left in ("depthwise", "pointwise"):
        constants, nodes = [], []

        def const(name, value):
            constants.append(numpy_helper.from_array(np.asarray(value), name))
            return name

        def op(kind, inputs, output, **attributes):
            nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
            return output

        def quantization(name, scale, zero):
            return [const(name + ".s", np.float32(scale)), const(name + ".z", np.int8(zero))]

        def conv(x, name, given, shape, scale, zero, **attributes):
            """`given`: scale and zero point of the input."""
            if name == left:
                x = op("DequantizeLinear", [x, *quantization(name + ".x", *given)], name + ".real")
                weights = const(name + ".w", (RNG.standard_normal(shape) * 0.3).astype(np.float32))
                bias = const(name + ".b", (RNG.standard_normal(shape[0]) * 0.3).astype(np.float32))
                y = op("Conv", [x, weights, bias], name, **attributes)
                y = op("Relu", [y], name + ".relu")
                return op("QuantizeLinear", [y, *quantization(name + ".y", scale, zero)], name + ".q")
            inputs = [
                x, *quantization(name + ".x", *given),
                const(name + ".w", RNG.integers(-127, 128, shape).astype(np.int8)),
                const(name + ".ws", (RNG.integers(16, 100, shape[0]) * 1.937e-4).astype(np.float32)),
                const(name + ".wz", np.int8(0)), *quantization(name + ".y", scale, zero),
                const(name + ".b", RNG.integers(-500, 500, shape[0]).astype(np.int32)),
            ]
            return op("QLinearConv", inputs, name, **attributes)

        x = conv("image", "conv1", (0.0179, -3), (8, 3, 3, 3), 0.0513, -128, strides=[2, 2], pads=[1, 1, 1, 1])
        y = conv(x, "depthwise", (0.0513, -128), (8, 1, 3, 3), 0.0797, -128, group=8, pads=[1, 1, 1, 1])
        y = conv(y, "pointwise", (0.0797, -128), (8, 8, 1, 1), 0.187, 5)
        a = op("DequantizeLinear", [x, *quantization("a", 0.0513, -128)], "a.real")
        b = op("DequantizeLinear", [y, *quantization("b", 0.187, 5)], "b.real")
        y = op("QuantizeLinear", [op("Add", [a, b], "sum"), *quantization("c", 0.2317, 0)], "residual")
        y = op("GlobalAveragePool", [op("DequantizeLinear", [y, *quantization("d", 0.2317, 0)], "d.real")], "pool")
        w4 = const("w4", (RNG.standard_normal((CLASSES, 8)) * 0.5).astype(np.float32))
        b4 = const("b4", (RNG.standard_normal(CLASSES) * 0.5).astype(np.float32))
        op("Gemm", [op("Flatten", [y], "flat"), w4, b4], "logits", transB=1)
        found[f"island-{left}"] = graph(nodes, constants, TensorProto.INT8, "island")
    return found


def stored():
    """f32 throughout, each weight an int8 initializer behind a DequantizeLinear of one scale an output."""
    constants, nodes = [], []

    def const(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(name, shape, axis, zero=False):
        inputs = [const(name + ".int8", RNG.integers(-127, 128, shape).astype(np.int8)),
                  const(name + ".scale", (RNG.integers(1, 100, shape[axis]) * 1.37e-4).astype(np.float32))]
        inputs += [const(name + ".zero", np.zeros(shape[axis], np.int8))] if zero else []
        return op("DequantizeLinear", inputs, name + ".f32", axis=axis)

    x = op("Conv", ["image", weight("w1", (8, 3, 3, 3), 0)], "conv1", strides=[2, 2], pads=[1, 1, 1, 1])
    x = op("Flatten", [op("GlobalAveragePool", [op("Relu", [x], "relu1")], "average")], "flat")
    x = op("Gemm", [x, weight("w2", (8, 24), 1), const("b2", RNG.standard_normal(24).astype(np.float32))], "hidden")
    x = op("MatMul", [op("Relu", [x], "relu2"), weight("w3", (24, 16), 1, zero=True)], "embedding")
    op("Gemm", [x, weight("w4", (CLASSES, 16), 0)], "logits", transB=1)
    return graph(nodes, constants, TensorProto.FLOAT, "stored")


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    source = network()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        onnx.save(source, folder / "f32.onnx")

        def static(name, form=QuantFormat.QDQ, activations=QuantType.QUInt8, **options):
            quantize_static(folder / "f32.onnx", folder / name, Pictures(), quant_format=form,
                            activation_type=activations, weight_type=QuantType.QInt8, **options)
            return onnx.load(folder / name)

        models = {
            "qdq-tensor-u8": static("a"),
            "qdq-channel-u8": static("b", per_channel=True),
            "qdq-tensor-s8": static("c", activations=QuantType.QInt8),
            "qdq-channel-s8": static("d", activations=QuantType.QInt8, per_channel=True),
            "qdq-mixed-s8": static("e", activations=QuantType.QInt8, per_channel=True,
                                   nodes_to_exclude=["depthwise", "logits"]),
            "qdq-no-zero-points": without_zero_points(static("f")),
            "qoperator": static("g", form=QuantFormat.QOperator),
        }
        quantize_dynamic(folder / "f32.onnx", folder / "h", weight_type=QuantType.QUInt8)
        models["dynamic"] = onnx.load(folder / "h")
    models |= islands()
    models["weights-int8"] = stored()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    expected = {}
    for name, model in models.items():
        # what the quantizer leaves besides the network
        del model.graph.value_info[:]
        del model.metadata_props[:]
        model.doc_string = ""
        data = model.SerializeToString(deterministic=True)
        (HERE / f"{name}.onnx").write_bytes(data)
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        integer = model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT8
        given = [pixels(*f) for f in FACTORS]
        given = [(p ^ 0x80).view(np.int8) if integer else real(p) for p in given]
        expected[name] = [[float(v) for v in session.run(None, {"image": x})[0][0]] for x in given]
        print(f"{name}: {len(data)} bytes, {sorted({n.op_type for n in model.graph.node})}")
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
