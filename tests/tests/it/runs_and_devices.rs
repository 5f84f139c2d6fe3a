//! Devices and runs, by the program a user runs.

use csp_tests::{assert_fails, demo, host, json, program, stdout, text, without_hardware};

#[test]
fn the_doctor_says_what_auto_takes() {
    let found = json(host(&["doctor", "--json"]));
    assert!(found["cpu"]["threads"].as_u64().is_some_and(|threads| threads >= 1), "{found:#}");
    assert!(found["auto"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{found:#}");
    let without = |api: &serde_json::Value| {
        api["adapters"].as_array().is_some_and(Vec::is_empty)
            && api["hints"].as_array().is_some_and(Vec::is_empty)
    };
    assert!(!found["apis"].as_array().unwrap().iter().any(without), "a reason where nothing is: {found:#}");
    assert!(stdout(host(&["doctor"])).contains("auto "));
}

#[test]
fn a_device_is_checked_or_refused() {
    let check = json(host(&["self-check", "--device", "cpu", "--steps", "4", "--json"]));
    let steps = check["check"]["steps"].as_array().unwrap();
    let of = |stage: &str| steps.iter().filter(|step| step["stage"] == stage).count();
    assert_eq!(["pretrain", "finetune", "backbone", "layers"].map(of), [4; 4], "{check:#}");
    assert!(check["check"]["first_difference"].is_null());
    assert_fails(&host(&["self-check", "--device", "tpu"]), 1, &["--device tpu", "not a device"]);
    assert_fails(&host(&["self-check", "--device", "vulkan:42"]), 1, &["vulkan:42", "csp-host doctor"]);
    // a tolerance nothing meets: -1 is refused, 0 holds on the CPU, which agrees with itself to the bit
    assert_fails(&host(&["self-check", "--device", "cpu", "--tolerance=-1"]), 1, &["--tolerance"]);
    stdout(host(&["self-check", "--device", "cpu", "--steps", "2", "--tolerance", "0"]));
}

/// Runs where there is a GPU; a software renderer is no test of one.
#[test]
fn a_gpu_computes_what_the_cpu_does() {
    let found = json(host(&["doctor", "--json"]));
    let adapters =
        found["apis"].as_array().unwrap().iter().flat_map(|api| api["adapters"].as_array().unwrap());
    let gpus: Vec<_> = adapters.filter(|adapter| adapter["kind"] != "software").collect();
    if gpus.is_empty() {
        without_hardware("no GPU: self-check on a device other than the CPU did not run");
        return;
    }
    for gpu in gpus {
        stdout(host(&["self-check", "--device", gpu["device"].as_str().unwrap()]));
    }
}

#[test]
fn runs_are_listed_and_compared() {
    let runs = json(host(&["runs", "list", text(demo()), "--json"]));
    let first = &runs["runs"][0];
    assert_eq!(first["state"], "finished", "{runs:#}");
    for field in ["data_sha256", "seed", "tool", "config", "made_with", "began_s"] {
        assert!(!first["info"][field].is_null(), "{field}");
    }
    // which program it was, as any tool reads it from the program
    let mut program = std::fs::File::open(program("csp-host")).unwrap();
    let build = csp_device::diagnostics::build_id(&mut program).unwrap();
    assert_eq!(first["info"]["made_with"]["build"].as_str(), build.as_deref());
    let run = demo().join("run");
    let same = json(host(&["runs", "compare", text(&run), text(&run), "--json"]));
    assert!(same["settings"].as_object().unwrap().is_empty(), "{same:#}");
    assert!(same["metrics"]["holdout.image_top1"][1].is_number(), "{same:#}");
    assert_fails(&host(&["runs", "compare", text(&run), "/nowhere"]), 1, &["/nowhere", "run.json"]);
    assert_fails(&host(&["runs", "list", "/nowhere"]), 1, &["/nowhere"]);
}

#[test]
fn the_printed_settings_are_settings() {
    let text_of = stdout(host(&["train", "--print-config"]));
    assert!(text_of.contains("# Share of the labelled rows.\nshare ="), "{text_of}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let table = demo().join("sample/table.csv");
    let with = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let out = dir.path().join("run");
        host(&[
            "train",
            "--data",
            text(&table),
            "--out",
            text(&out),
            "--config",
            text(&path),
            "--device",
            "tpu",
        ])
    };
    // read and accepted: what is refused is the device
    assert_fails(&with(&text_of), 1, &["--device tpu"]);
    assert_fails(&with("[pretrain]\nqueue = 9\n"), 1, &["pretrain.queue", "pretrain.mc.symmetric = true"]);
    assert_fails(&with("[pretrain]\nques = 9\n"), 1, &["ques", "queue"]);
}
