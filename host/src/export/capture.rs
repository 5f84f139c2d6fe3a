//! One forward pass, recorded by burn's capture device instead of computed.

use std::collections::{BTreeMap, HashMap};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData},
};
use burn_capture::{CaptureBackend, TensorId};
use burn_ir::OperationIr;

use super::error::ExportError;

/// A recorded forward pass.
pub(super) struct Recording {
    /// Operations in the order they ran.
    pub operations: Vec<OperationIr>,
    /// The value fed.
    pub input: TensorId,
    /// The value returned.
    pub output: TensorId,
    /// Weights and other tensors with known numbers.
    pub values: BTreeMap<TensorId, TensorData>,
    /// Module paths of the weights, such as `backbone.stem.conv.weight`.
    pub names: HashMap<TensorId, String>,
}

/// Records `forward` for an input of a fixed shape. The module's parameters stay where they are.
pub(super) fn record<M: Module, const D: usize, const O: usize>(
    network: &str,
    module: &M,
    shape: [usize; D],
    forward: impl Fn(&M, Tensor<D>) -> Tensor<O>,
) -> Result<Recording, ExportError> {
    let capture_error = |reason: String| ExportError::Capture { network: network.into(), reason };
    let home = module.devices();
    let device = Device::capture();
    let mut boundary = None;
    let captured = device.capture_scope(|scope| {
        // A forward pass of a module in training mode would record batch statistics and dropout.
        let module = module.valid().to_device(&device);
        let mut names = Names::default();
        module.visit(&mut names);
        // The runtime input must come from outside the scope, else it is recorded as a constant.
        let input = Tensor::<D>::zeros(shape, &Device::flex()).to_device(&device);
        let output = forward(&module, input.clone());
        match (id(&input), id(&output)) {
            (Some(input), Some(output)) => {
                boundary = Some((input, output, names.names));
                scope.complete([input], [output])
            }
            _ => scope.complete([], []),
        }
    });
    // BatchNorm's running statistics are shared between clones: moving the clone moved them too.
    if let Some(home) = home.first() {
        let _ = module.clone().to_device(home);
    }
    let captured = captured.map_err(|error| capture_error(error.to_string()))?;
    let (input, output, names) =
        boundary.ok_or_else(|| capture_error("its result is not on the capture device".into()))?;
    let (Some(&input), Some(&output)) = (captured.graph.inputs.first(), captured.graph.outputs.first())
    else {
        return Err(capture_error(format!("its boundary {input} → {output} is lost")));
    };
    Ok(Recording { operations: captured.graph.operations, input, output, values: captured.values, names })
}

fn id<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id())
}

/// Collects the module path of every parameter.
#[derive(Default)]
struct Names {
    path: Vec<String>,
    names: HashMap<TensorId, String>,
}

impl ModuleVisitor for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(id) = id(&param.val()) {
            self.names.insert(id, self.path.join("."));
        }
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}
