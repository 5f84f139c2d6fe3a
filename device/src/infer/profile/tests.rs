//! Graphs that make tract panic, abort or hang, made from the fixtures.

use std::path::Path;

use tract_onnx::{
    pb::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType},
    prelude::Framework,
};

use super::*;

fn load(name: &str) -> ModelProto {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name);
    tract_onnx::onnx().proto_model_for_path(path).unwrap()
}

fn contract(dtype: Dtype) -> Contract {
    Contract { dtype, input: vec![1, 3, 16, 16], classes: 4 }
}

/// Changes a fixture; the check must refuse it with a text that names `at` and contains `problem`.
fn refuse(name: &str, at: &str, problem: &str, change: impl FnOnce(&mut ModelProto)) {
    let dtype = if name == "image.onnx" { Dtype::I8 } else { Dtype::F32 };
    let mut model = load(name);
    check(&model, &contract(dtype)).unwrap();
    change(&mut model);
    let error = check(&model, &contract(dtype)).expect_err(problem);
    assert!(error.at.contains(at) && error.problem.contains(problem), "{error}");
}

fn node<'m>(model: &'m mut ModelProto, output: &str) -> &'m mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.output[0] == output).unwrap()
}

fn tensor<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut TensorProto {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn set_ints(node: &mut NodeProto, name: &str, ints: &[i64]) {
    node.attribute.retain(|attribute| attribute.name != name);
    node.attribute.push(AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..Default::default()
    });
}

#[test]
fn windows_have_bounds() {
    let f32 = "image.f32.onnx";
    let conv = |name: &'static str, ints: &'static [i64]| {
        move |model: &mut ModelProto| set_ints(node(model, "conv1"), name, ints)
    };
    refuse(f32, "conv1", "strides", conv("strides", &[0, 1]));
    refuse(f32, "conv1", "strides", conv("strides", &[1]));
    refuse(f32, "conv1", "dilations", conv("dilations", &[0, 0]));
    refuse(f32, "conv1", "larger than its input", conv("dilations", &[16, 16]));
    refuse(f32, "conv1", "pads", conv("pads", &[65536, 0, 0, 0]));
    refuse(f32, "conv1", "pads", conv("pads", &[-1, 0, 0, 0]));
    refuse(f32, "conv1", "pads", conv("pads", &[3, 0, 0, 0]));
    refuse(f32, "conv1", "kernel_shape", conv("kernel_shape", &[5, 5]));
    refuse(f32, "depthwise", "groups", |model| {
        let group = node(model, "depthwise").attribute.iter_mut().find(|a| a.name == "group").unwrap();
        group.i = 0;
    });
}

#[test]
fn quantization_is_finite_and_complete() {
    let int8 = "image.onnx";
    for scale in [0.0, -1.0, f32::MIN_POSITIVE / 2.0, f32::NAN] {
        let at = if scale.is_nan() { "conv1.xs" } else { "conv1" };
        refuse(int8, at, if scale.is_nan() { "NaN" } else { "scale" }, |model| {
            tensor(model, "conv1.xs").raw_data = scale.to_le_bytes().to_vec();
        });
    }
    refuse(int8, "conv1", "inputs", |model| node(model, "conv1").input.truncate(2));
    refuse(int8, "conv1", "I8", |model| tensor(model, "conv1.xz").data_type = 2);
    refuse(int8, "conv1", "2 scales", |model| {
        let scales = tensor(model, "conv1.ws");
        scales.dims = vec![2];
        scales.raw_data.truncate(8);
    });
    refuse(int8, "x.s", "1 to", |model| {
        let scale = tensor(model, "x.real.s");
        scale.dims = vec![0];
        scale.raw_data.clear();
        scale.name = "x.s".into();
    });
}

#[test]
fn weights_fill_their_shape_and_are_in_the_file() {
    let f32 = "image.f32.onnx";
    refuse(f32, "w1", "bytes", |model| {
        tensor(model, "w1").raw_data.pop();
    });
    refuse(f32, "w1", "1 to", |model| tensor(model, "w1").dims = vec![1 << 40, 1 << 40]);
    refuse(f32, "w1", "dimension -8", |model| tensor(model, "w1").dims = vec![-8, 3, 3, 3]);
    refuse(f32, "w1", "another file", |model| tensor(model, "w1").data_location = Some(1));
    refuse(f32, "w1", "not supported", |model| tensor(model, "w1").data_type = 10);
    refuse(f32, "w1", "fill", |model| tensor(model, "w1").raw_data.clear());
}

#[test]
fn the_graph_is_ordered_and_ends() {
    let f32 = "image.f32.onnx";
    refuse(f32, "graph output", "no node gives", |model| {
        model.graph.as_mut().unwrap().output[0].name = "elsewhere".into();
    });
    refuse(f32, "node", "not defined before", |model| model.graph.as_mut().unwrap().node.reverse());
    refuse(f32, "relu1", "not defined before", |model| node(model, "relu1").input[0] = "logits".into());
    refuse(f32, "relu1", "defined twice", |model| node(model, "relu1").output[0] = "conv1".into());
    refuse(f32, "graph input", "2 inputs", |model| {
        let graph = model.graph.as_mut().unwrap();
        let second = graph.input[0].clone();
        graph.input.push(second);
    });
    refuse(f32, "relu1", "not in the profile", |model| node(model, "relu1").op_type = "Loop".into());
    refuse(f32, "relu1", "domain", |model| node(model, "relu1").domain = "com.microsoft".into());
    refuse(f32, "relu1", "attribute", |model| set_ints(node(model, "relu1"), "x", &[1]));
    refuse(f32, "opset_import", "operator set 7", |model| model.opset_import[0].version = 7);
    refuse(f32, "model", "no graph", |model| model.graph = None);
    refuse(f32, "graph", "nodes", |model| {
        let graph = model.graph.as_mut().unwrap();
        let one = graph.node[0].clone();
        graph.node.resize(MAX_NODES + 1, one);
    });
}

#[test]
fn joined_values_agree() {
    let join = |inputs: [&'static str; 2], axis: Option<i64>| {
        move |model: &mut ModelProto| {
            let node = node(model, "relu1");
            node.op_type = "Concat".into();
            node.input = inputs.map(String::from).to_vec();
            node.attribute = (axis.into_iter())
                .map(|i| AttributeProto {
                    name: "axis".into(),
                    r#type: AttributeType::Int as i32,
                    i,
                    ..Default::default()
                })
                .collect();
        }
    };
    let f32 = "image.f32.onnx";
    refuse(f32, "relu1", "axis", join(["conv1", "conv1"], None));
    refuse(f32, "relu1", "axis 4 of 4", join(["conv1", "conv1"], Some(4)));
    refuse(f32, "relu1", "beside", join(["conv1", "w1"], Some(1)));
    // twice the channels is fine here, and too many for what comes next
    refuse(f32, "", "", join(["conv1", "conv1"], Some(1)));
}

#[test]
fn a_slice_lies_within() {
    let cut = |starts: &'static [i64], ends: &'static [i64]| {
        move |model: &mut ModelProto| {
            let graph = model.graph.as_mut().unwrap();
            for (name, bounds) in [("starts", starts), ("ends", ends)] {
                graph.initializer.push(TensorProto {
                    name: name.into(),
                    dims: vec![bounds.len() as i64],
                    data_type: 7,
                    raw_data: bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect(),
                    ..Default::default()
                });
            }
            let node = node(model, "relu1");
            node.op_type = "Slice".into();
            node.input = ["conv1", "starts", "ends"].map(String::from).to_vec();
        }
    };
    let f32 = "image.f32.onnx";
    refuse(f32, "relu1", "each dimension", cut(&[0, 0], &[1, 1]));
    refuse(f32, "relu1", "0 to 9999 of", cut(&[0; 4], &[1, 9999, 1, 1]));
    refuse(f32, "relu1", "-1 to 1 of", cut(&[0, -1, 0, 0], &[1; 4]));
    refuse(f32, "relu1", "1 to 1 of", cut(&[0, 1, 0, 0], &[1; 4]));
    // one channel is fine here, and too few for what comes next
    refuse(f32, "", "", cut(&[0; 4], &[1; 4]));
    refuse(f32, "relu1", "not I64", |model| {
        let node = node(model, "relu1");
        node.op_type = "Slice".into();
        node.input = ["conv1"; 3].map(String::from).to_vec();
    });
}

#[test]
fn no_node_grows_without_bound() {
    // [1, 16384, 1] + [1, 1, 16384] would be a gigabyte
    let f32 = "image.f32.onnx";
    refuse(f32, "residual", "1 to", |model| {
        let mut constant = |name: &str, dims: [i64; 4]| {
            let data = vec![0; (dims.iter().product::<i64>() * 4) as usize];
            let graph = model.graph.as_mut().unwrap();
            let dims = dims.to_vec();
            graph.initializer.push(TensorProto {
                name: name.into(),
                dims,
                data_type: 1,
                raw_data: data,
                ..Default::default()
            });
        };
        constant("tall", [1, 1, 16384, 1]);
        constant("wide", [1, 1, 1, 16384]);
        node(model, "residual").input = vec!["tall".into(), "wide".into()];
    });
}

#[test]
fn a_small_file_cannot_fill_the_memory() {
    // 512 numbers, four times sixteen of them side by side: 128 MiB of f32 from a hundred bytes
    let grow = |model: &mut ModelProto, from: &str| {
        let axis = AttributeProto {
            name: "axis".into(),
            r#type: AttributeType::Int as i32,
            i: 1,
            ..Default::default()
        };
        let nodes = &mut model.graph.as_mut().unwrap().node;
        for step in 0..4 {
            let input = if step == 0 { from.to_string() } else { format!("grow{}", step - 1) };
            let grown = NodeProto {
                name: format!("grow{step}"),
                op_type: "Concat".into(),
                input: vec![input; 16],
                output: vec![format!("grow{step}")],
                attribute: vec![axis.clone()],
                ..Default::default()
            };
            nodes.push(grown);
        }
    };
    refuse("image.f32.onnx", "grow3", "in memory at once", |model| grow(model, "conv1"));
    // of a constant: what tract would compute when it loads
    refuse("image.f32.onnx", "grow3", "follow from constants", |model| {
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.push(TensorProto {
            name: "seed".into(),
            dims: vec![1, 512],
            data_type: 1,
            raw_data: vec![0; 2048],
            ..Default::default()
        });
        grow(model, "seed");
    });
}

#[test]
fn weights_may_be_dequantized_constants_and_nothing_else() {
    let load = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/foreign").join(name);
        tract_onnx::onnx().proto_model_for_path(path).unwrap()
    };
    let mut model = load("qdq-channel-s8.onnx");
    check(&model, &contract(Dtype::F32)).unwrap();
    // the weights of a layer from the picture
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let conv = nodes.iter_mut().find(|node| node.output[0] == "relu2").unwrap();
    conv.input[1] = "relu1".into();
    let error = check(&model, &contract(Dtype::F32)).unwrap_err();
    assert!(error.problem.contains("not constant"), "{error}");
}
