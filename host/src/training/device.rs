//! Which processor trains.

use burn::tensor::Device;

use super::TrainError;

/// A device and how it was come by.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device, without autodiff.
    pub device: Device,
    /// For people and for `run.json`: `flex (CPU)`, `vulkan (NVIDIA …)`.
    pub description: String,
    /// Why this one; empty when it was asked for by name.
    pub reason: String,
}

/// The device of a name: `auto`, `flex` or `cpu`, `vulkan`, `metal`, `cuda`. `auto` is the GPU where
/// there is one that computes, else the CPU.
///
/// # Errors
/// [`TrainError::Device`]: an unknown name, one this build is without, or no such hardware.
pub fn choose(name: &str) -> Result<Chosen, TrainError> {
    let refuse = |reason: String| Err(TrainError::Device { asked: name.into(), reason });
    match name {
        "auto" => Ok(match gpu(AUTO) {
            Ok((device, adapter)) => Chosen {
                device,
                description: format!("{AUTO} ({adapter})"),
                reason: "a GPU was found".into(),
            },
            Err(why) => Chosen { reason: why, ..flex() },
        }),
        "flex" | "cpu" => Ok(flex()),
        "vulkan" | "metal" => match gpu(name) {
            Ok((device, adapter)) => {
                Ok(Chosen { device, description: format!("{name} ({adapter})"), reason: String::new() })
            }
            Err(why) => refuse(format!("{why}; --device cpu works everywhere")),
        },
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Chosen {
            device: Device::cuda(burn::tensor::DeviceIndex::Default),
            description: "cuda".into(),
            reason: String::new(),
        }),
        #[cfg(not(feature = "cuda"))]
        "cuda" => refuse("this csp-host was built without CUDA (cargo feature `cuda`); try vulkan".into()),
        _ => refuse("not a device; auto, cpu, vulkan, metal and cuda are".into()),
    }
}

fn flex() -> Chosen {
    Chosen { device: Device::flex(), description: "flex (CPU)".into(), reason: String::new() }
}

/// The graphics API that `auto` looks at.
const AUTO: &str = if cfg!(target_os = "macos") { "metal" } else { "vulkan" };

/// The device and its adapter's name, or why there is none.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn gpu(api: &str) -> Result<(Device, String), String> {
    use burn::tensor::wgpu::{WgpuBackend, wgpu::DeviceType};
    let backend = match api {
        #[cfg(feature = "vulkan")]
        "vulkan" => WgpuBackend::Vulkan,
        #[cfg(feature = "metal")]
        "metal" => WgpuBackend::Metal,
        _ => return Err(format!("this csp-host was built without {api} (cargo feature `{api}`)")),
    };
    // The runtime reports most failures, and panics on some drivers.
    let acquire = || Device::wgpu_options().graphics_api(backend).init_with_setup();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let acquired = std::panic::catch_unwind(acquire);
    std::panic::set_hook(hook);
    match acquired {
        Err(_) => Err(format!("no usable {api} driver")),
        Ok(Err(error)) => Err(format!("no {api} device ({error})")),
        Ok(Ok((device, setup))) => {
            let adapter = setup.adapter.get_info();
            match adapter.device_type {
                // a CPU in disguise: slower than flex, and known to crash (burn on lavapipe)
                DeviceType::Cpu => Err(format!("{api} only offers {}, a software renderer", adapter.name)),
                _ => Ok((device, adapter.name)),
            }
        }
    }
}

#[cfg(not(any(feature = "vulkan", feature = "metal")))]
fn gpu(api: &str) -> Result<(Device, String), String> {
    Err(format!("this csp-host was built without {api} (cargo feature `{api}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved() {
        assert_eq!(choose("cpu").unwrap().device, Device::flex());
        assert_eq!(choose("flex").unwrap().description, "flex (CPU)");
        assert!(choose("tpu").unwrap_err().to_string().contains("--device tpu: not a device"));
        // with or without a GPU, auto finds something and says why
        assert!(!choose("auto").unwrap().reason.is_empty());
    }
}
