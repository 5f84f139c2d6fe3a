//! The graphics processors that a graphics API offers.

use serde::Serialize;

/// One processor as a graphics API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// What to give to `--device`.
    pub device: String,
    /// Its name.
    pub name: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `software`, `other`.
    pub kind: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Fewest and most lanes of a group that works in step, where the driver tells.
    pub subgroup: Option<[u32; 2]>,
    /// The how-manieth of its kind.
    #[serde(skip)]
    pub index: usize,
}

impl Adapter {
    /// What to know before training on it. Of a driver that chooses how many lanes work in step, for each kernel
    /// anew, nobody here knows whether every kernel expects that (cubecl 0.11 sums over the most there can be).
    pub fn remark(&self) -> Option<String> {
        let [fewest, most] = self.subgroup?;
        (self.kind != SOFTWARE && fewest != most).then(|| {
            format!(
                "its driver lets {fewest} to {most} lanes work in step, untried here: csp-host self-check --device {} \
                 --large before training on it",
                self.device
            )
        })
    }
}

/// The processors of an API (`vulkan`, `metal`), software renderers last.
///
/// # Errors
/// A sentence: this build is without the API, or the driver failed.
#[cfg(any(feature = "vulkan", feature = "metal"))]
pub fn adapters(api: &str) -> Result<Vec<Adapter>, String> {
    use burn::tensor::wgpu::wgpu::{
        Backends, DeviceType, Instance, InstanceDescriptor, MAXIMUM_SUBGROUP_MAX_SIZE,
        MINIMUM_SUBGROUP_MIN_SIZE,
    };
    let backends = match api {
        #[cfg(feature = "vulkan")]
        "vulkan" => Backends::VULKAN,
        #[cfg(feature = "metal")]
        "metal" => Backends::METAL,
        _ => return Err(without(api)),
    };
    let mut found = Vec::new();
    let all = super::quietly(|| {
        let mut description = InstanceDescriptor::new_without_display_handle();
        description.backends = backends;
        let instance = Instance::new(description);
        wait(instance.enumerate_adapters(backends)).into_iter().map(|a| a.get_info()).collect::<Vec<_>>()
    });
    for info in all.map_err(|_| format!("the {api} driver failed"))? {
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => SOFTWARE,
            DeviceType::Other => "other",
        };
        let index = found.iter().filter(|other: &&Adapter| other.kind == kind).count();
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
        let subgroup = [info.subgroup_min_size, info.subgroup_max_size];
        // elsewhere, and of a driver that does not tell, these are the bounds of all there are
        let told = api == "vulkan" && subgroup != [MINIMUM_SUBGROUP_MIN_SIZE, MAXIMUM_SUBGROUP_MAX_SIZE];
        let subgroup = told.then_some(subgroup);
        found.push(Adapter { device: String::new(), name: info.name, kind, driver, subgroup, index });
    }
    found.sort_by_key(|adapter| adapter.kind == SOFTWARE);
    let mut gpus = 0;
    for adapter in &mut found {
        adapter.device = if adapter.kind == SOFTWARE {
            format!("{api}:software")
        } else {
            gpus += 1;
            format!("{api}:{}", gpus - 1)
        };
    }
    Ok(found)
}

/// The processors of an API.
///
/// # Errors
/// This build is without any.
#[cfg(not(any(feature = "vulkan", feature = "metal")))]
pub fn adapters(api: &str) -> Result<Vec<Adapter>, String> {
    Err(without(api))
}

/// The kind of a CPU that plays GPU.
pub const SOFTWARE: &str = "software";

fn without(api: &str) -> String {
    format!("this csp-host was built without {api} (cargo feature `{api}`)")
}

/// Waits for a future that is ready without a runtime, as wgpu's are outside of browsers.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn wait<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Waker};
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
        std::thread::yield_now();
    }
}
