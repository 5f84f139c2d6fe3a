//! Which processor trains.
//!
//! # Several devices of one machine
//! `--device vulkan:0,vulkan:1`: burn moves tensors between them, each computes its share of a step, and
//! the gradients are summed (`stages::pretrain::spread`).
//!
//! # Several machines
//! What a sweep trains, one run for a ratio and a seed, depends on nothing else: give each machine its
//! `--labels` with the same data, settings and kind of device, bring the folders `runs/labels-…` together
//! in one, and the same sweep with all ratios reads them and writes the table.
//!
//! One run across machines is what burn's remote devices are for (burn-remote 0.22.1: a server offers its
//! devices by WebSocket or Iroh, `Device::remote_options(&host).init()` is one of them here). They are not
//! in this program:
//! - `burn/remote` always brings Iroh along, and the server side axum and tokio: 188 crates more than the
//!   426 of a default build (`cargo tree -p csp-host -e normal,build`, counted by name and version), 149 of
//!   them new to the lock file, TLS, DNS and UPnP among them, for whoever trains on one machine too.
//! - Their `all_reduce` is for the devices of one server ("cross-peer all_reduce is not supported yet"), so
//!   gradients of several machines would pass through the one that trains, 4 bytes a weight and step.
//! - The WebSocket transport is not encrypted.
//!
//! A build of one's own needs no change but this: `remote = ["burn/remote-websocket"]` among the features
//! of csp-host, an arm in `choose_one` that gives that device, and on the other machine
//! `RemoteServer::new([Device::vulkan(..)]).serve(WebSocketTransport::new(port))`. Untried; `csp-host
//! self-check --device …` of it comes first.

mod adapters;
pub mod doctor;

use burn::tensor::Device;

pub use self::adapters::Adapter;
use super::TrainError;

/// A device and how it was come by.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device, without autodiff; the first where there are several.
    pub device: Device,
    /// Further devices, which share the steps of pre-training.
    pub more: Vec<Device>,
    /// For people and for `run.json`: `flex (CPU)`, `vulkan (NVIDIA …)`.
    pub description: String,
    /// Why this one, where it was not asked for by name, and what to know before training on it.
    pub reason: String,
}

/// The device of a name: `auto`, `flex` or `cpu`, `vulkan`, `metal`, `cuda`. `auto` is the GPU where
/// there is one that computes, else the CPU. `vulkan:1` is the second of `csp-host doctor`'s list,
/// `vulkan:software` a CPU that plays GPU, for tests.
///
/// Several names, with commas between, are several devices.
///
/// # Errors
/// [`TrainError::Device`]: an unknown name, one this build is without, or no such hardware.
pub fn choose(names: &str) -> Result<Chosen, TrainError> {
    let mut all = names.split(',').map(|name| choose_one(name.trim()));
    let mut chosen = all.next().unwrap_or_else(|| choose_one(names))?;
    for one in all {
        let one = one?;
        chosen.description += &format!(" + {}", one.description);
        chosen.more.push(one.device);
    }
    Ok(chosen)
}

fn choose_one(name: &str) -> Result<Chosen, TrainError> {
    let refuse = |reason: String| Err(TrainError::Device { asked: name.into(), reason });
    let (api, which) = name.split_once(':').map_or((name, None), |(api, which)| (api, Some(which)));
    match (api, which) {
        ("auto", None) => Ok(match gpu(AUTO, None) {
            Ok((device, adapter)) => Chosen {
                device,
                more: Vec::new(),
                description: format!("{AUTO} ({})", adapter.name),
                reason: match adapter.remark() {
                    Some(remark) => format!("a GPU was found; {remark}"),
                    None => "a GPU was found".into(),
                },
            },
            Err(why) => Chosen { reason: why, ..flex() },
        }),
        ("flex" | "cpu", None) => Ok(flex()),
        ("vulkan" | "metal", which) => match gpu(api, which) {
            Ok((device, adapter)) => Ok(Chosen {
                device,
                more: Vec::new(),
                description: format!("{name} ({})", adapter.name),
                reason: adapter.remark().unwrap_or_default(),
            }),
            Err(why) => refuse(format!("{why}; csp-host doctor says more, --device cpu works everywhere")),
        },
        #[cfg(feature = "cuda")]
        ("cuda", which) => match which.map_or(Ok(0), str::parse) {
            Ok(index) => Ok(Chosen {
                device: Device::cuda(burn::tensor::DeviceIndex::new(index)),
                more: Vec::new(),
                description: name.into(),
                reason: String::new(),
            }),
            Err(_) => refuse("cuda:N is the N-th card, from 0".into()),
        },
        #[cfg(not(feature = "cuda"))]
        ("cuda", _) => {
            refuse("this csp-host was built without CUDA (cargo feature `cuda`); try vulkan".into())
        }
        ("remote", _) => refuse(REMOTE.into()),
        _ => refuse("not a device; auto, cpu, vulkan, vulkan:N, metal and cuda are".into()),
    }
}

/// Why no device of another machine is offered, and what to do instead.
const REMOTE: &str = "this csp-host is without devices of other machines (burn-remote, 188 more crates); let each \
                      machine train other --labels of the same csp-host sweep, then bring their runs together";

fn flex() -> Chosen {
    Chosen {
        device: Device::flex(),
        more: Vec::new(),
        description: "flex (CPU)".into(),
        reason: String::new(),
    }
}

/// The graphics API that `auto` looks at.
const AUTO: &str = if cfg!(target_os = "macos") { "metal" } else { "vulkan" };

/// The device and its adapter, or why there is none. Without `which` the best GPU.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn gpu(api: &str, which: Option<&str>) -> Result<(Device, Adapter), String> {
    use burn::tensor::{
        DeviceKind,
        wgpu::{WgpuBackend, WgpuInitError},
    };
    let backend = match api {
        #[cfg(feature = "vulkan")]
        "vulkan" => WgpuBackend::Vulkan,
        #[cfg(feature = "metal")]
        "metal" => WgpuBackend::Metal,
        _ => return Err(format!("this csp-host was built without {api} (cargo feature `{api}`)")),
    };
    let all = adapters::adapters(api)?;
    let (software, hardware): (Vec<_>, Vec<_>) = all.iter().partition(|a| a.kind == adapters::SOFTWARE);
    let adapter = match which {
        Some("software") => software.first().ok_or(format!("no software renderer for {api}"))?,
        Some(which) => {
            let number = which.parse::<usize>().map_err(|_| format!("{which} is no number from 0"))?;
            hardware.get(number).ok_or(format!("{api} offers {} GPUs, counted from 0", hardware.len()))?
        }
        None => match (hardware.first(), software.first()) {
            // discrete before integrated, else the driver's order
            (Some(first), _) => hardware.iter().find(|a| a.kind == "discrete GPU").unwrap_or(first),
            // a CPU in disguise: slower than flex, and known to crash (burn on lavapipe)
            (None, Some(software)) => {
                return Err(format!("{api} only offers {}, a software renderer", software.name));
            }
            (None, None) => return Err(format!("no {api} device")),
        },
    };
    let kind = match adapter.kind {
        "discrete GPU" => DeviceKind::DiscreteGpu(adapter.index),
        "integrated GPU" => DeviceKind::IntegratedGpu(adapter.index),
        "virtual GPU" => DeviceKind::VirtualGpu(adapter.index),
        adapters::SOFTWARE => DeviceKind::Cpu,
        _ => DeviceKind::DefaultDevice,
    };
    // The runtime reports most failures, and panics on some drivers. A device opened before is shared.
    let acquire = || match Device::wgpu_options().graphics_api(backend).device_kind(kind.clone()).init() {
        Ok(device) => Ok(device),
        Err(WgpuInitError::Registration { .. }) => Ok(named(api, kind)),
        Err(error) => Err(error),
    };
    match quietly(acquire) {
        Err(_) => Err(format!("no usable {api} driver for {}", adapter.name)),
        Ok(Err(error)) => Err(format!("no {api} device ({error})")),
        Ok(Ok(device)) => Ok((device, Adapter::clone(adapter))),
    }
}

/// A device whose runtime is there already.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn named(api: &str, kind: burn::tensor::DeviceKind) -> Device {
    match api {
        #[cfg(feature = "metal")]
        "metal" => Device::metal(kind),
        #[cfg(feature = "vulkan")]
        _ => Device::vulkan(kind),
        #[cfg(not(feature = "vulkan"))]
        _ => Device::metal(kind),
    }
}

#[cfg(not(any(feature = "vulkan", feature = "metal")))]
fn gpu(api: &str, _which: Option<&str>) -> Result<(Device, Adapter), String> {
    Err(format!("this csp-host was built without {api} (cargo feature `{api}`)"))
}

/// Runs what may panic in a driver, without its message on stderr.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn quietly<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_varies_its_groups_is_remarked_on() {
        let adapter = |kind, subgroup| {
            let text = String::new();
            let (name, driver, device) = (text.clone(), text, "vulkan:1".to_string());
            Adapter { device, name, kind, driver, subgroup, index: 0 }
        };
        let remark = adapter("integrated GPU", Some([8, 32])).remark().unwrap();
        assert!(remark.contains("8 to 32 lanes") && remark.contains("--device vulkan:1 --large"), "{remark}");
        assert_eq!(adapter("discrete GPU", Some([32, 32])).remark(), None);
        assert_eq!(adapter("discrete GPU", None).remark(), None);
        assert_eq!(adapter(adapters::SOFTWARE, Some([4, 8])).remark(), None);
    }

    #[test]
    fn names_are_resolved() {
        assert_eq!(choose("cpu").unwrap().device, Device::flex());
        assert_eq!(choose("flex").unwrap().description, "flex (CPU)");
        for (name, why) in
            [("vulkan:x", "csp-host doctor"), ("vulkan:97", "csp-host doctor"), ("cpu:1", "not a device")]
        {
            let error = choose(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
        let two = choose("cpu,flex").unwrap();
        assert_eq!((two.more.len(), two.description.as_str()), (1, "flex (CPU) + flex (CPU)"));
        assert!(choose("cpu,tpu").is_err() && choose("").is_err());
        let remote = choose("remote:ws://gpu:3000").unwrap_err().to_string();
        assert!(remote.contains("burn-remote") && remote.contains("csp-host sweep"), "{remote}");
        assert!(choose("tpu").unwrap_err().to_string().contains("--device tpu: not a device"));
        // with or without a GPU, auto finds something and says why
        assert!(!choose("auto").unwrap().reason.is_empty());
    }
}
