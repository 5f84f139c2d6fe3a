//! The loop end to end, by the programs a user runs.

use std::{fs, process::Command};

use csp_tests::{demo, device, host, json, program, skip, stdout, text};

/// A picture of the demo's trap, and the place its receiver gives.
fn trap_picture() -> String {
    let pictures = demo().join("trap/desk");
    let mut names: Vec<_> = fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    text(&names[0]).to_string()
}

#[test]
fn the_demo_leaves_everything_it_names() {
    let demo = demo();
    for name in ["sample/table.csv", "run/run.json", "model.cspm", "store", "accuracy.svg"] {
        assert!(demo.join(name).exists(), "{name}");
    }
    let model = text(&demo.join("model.cspm")).to_string();
    let table = text(&demo.join("sample/table.csv")).to_string();
    let of_bundle = json(host(&["eval", &model, "--data", &table, "--split", "val", "--json"]));
    let of_run = json(host(&["eval", text(&demo.join("run")), "--data", &table, "--split", "val", "--json"]));
    let top1 = |value: &serde_json::Value, branch: &str| value[branch]["top1"].as_f64().unwrap();
    // the sample is made so that place helps: look-alikes live in different regions
    assert!(top1(&of_bundle, "fused") > top1(&of_bundle, "image"), "{of_bundle:#}");
    // int8 in the field's engine against f32 in burn
    for branch in ["image", "location", "fused"] {
        assert!(
            (top1(&of_bundle, branch) - top1(&of_run, branch)).abs() < 0.06,
            "{branch}: {of_bundle:#} {of_run:#}"
        );
    }
}

#[test]
fn without_a_place_the_image_decides_alone() {
    let (model, picture) = (demo().join("model.cspm"), trap_picture());
    let alone = json(device(&["classify", text(&model), &picture, "--json"]));
    let placed =
        json(device(&["classify", text(&model), &picture, "--lat", "-10.5", "--lon", "20", "--json"]));
    let [alone, placed] = [&alone["results"][0], &placed["results"][0]];
    assert_eq!(alone["top"]["image"], alone["top"]["fused"]);
    assert_eq!(alone["top"]["image"], placed["top"]["image"]);
    assert!(alone["top"]["image"].as_array().is_some_and(|top| top.len() == 3), "{alone:#}");
    assert_eq!(alone["provenance"], "image");
    assert_eq!(placed["provenance"], "image+configured_site");
    assert!(alone["candidates"][0]["prior"].is_null(), "{alone:#}");
    assert!(placed["candidates"][0]["prior"].is_number(), "{placed:#}");
}

#[test]
fn the_same_on_the_board() {
    let Some(board) = std::env::var_os("CSP_AARCH64_DEVICE") else {
        skip("CSP_AARCH64_DEVICE names no aarch64 build of csp-device");
        return;
    };
    let (model, picture) = (demo().join("model.cspm"), trap_picture());
    let args = ["classify", text(&model), &picture, "--lat", "-10.5", "--lon", "20", "--json"];
    let here = json(device(&args));
    let there = json(Command::new("qemu-aarch64-static").arg(board).args(args).output().unwrap());
    for field in ["top", "candidates", "decision", "provenance", "place"] {
        assert!(!here["results"][0][field].is_null(), "{field}");
        assert_close(&here["results"][0][field], &there["results"][0][field]);
    }
}

/// Equal, numbers to 1e-5: the location branch is f32.
fn assert_close(a: &serde_json::Value, b: &serde_json::Value) {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(x), Number(y)) => {
            assert!((x.as_f64().unwrap() - y.as_f64().unwrap()).abs() < 1e-5, "{a} {b}")
        }
        (Array(x), Array(y)) if x.len() == y.len() => x.iter().zip(y).for_each(|(x, y)| assert_close(x, y)),
        (Object(x), Object(y)) if x.len() == y.len() => {
            x.iter().for_each(|(key, value)| assert_close(value, &y[key]));
        }
        _ => assert_eq!(a, b),
    }
}

#[test]
fn the_trap_records_every_picture_once() {
    let logs = json(host(&["logs", "show", text(&demo().join("store")), "--json"]));
    let records = logs["records"].as_array().unwrap();
    let pictures = fs::read_dir(demo().join("trap/desk")).unwrap().count();
    assert_eq!(records.len(), pictures);
    assert_eq!(logs["damage"].as_array().unwrap().len(), 0);
    for record in records {
        assert_eq!(record["kind"], "prediction", "{record:#}");
        assert!(record["provenance"].as_str().unwrap().starts_with("image+"), "{record:#}");
        assert_eq!(record["time_source"], "gps");
    }
}

#[test]
fn training_killed_at_any_moment_resumes_to_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let table = demo().join("sample/table.csv");
    let config = dir.path().join("short.toml");
    let short = "[backbone]\nmax_samples = 1500\nmin_samples = 1500\n[pretrain]\nmin_steps = 40\nmax_steps = 40\n\
                 queue = 64\nlearned_temperatures = true\n[pretrain.mc]\nsymmetric = true\n\
                 [finetune]\nmin_steps = 40\nmax_steps = 40\nfolds = 2\n[checkpoint]\nevery = 10\n";
    fs::write(&config, short).unwrap();
    let train = |out: &str, extra: &[&str]| {
        // the model is named after its run's folder
        let out = dir.path().join(out).join("run");
        let mut command = Command::new(program("csp-host"));
        command.args([
            "train",
            "--quiet",
            "--data",
            text(&table),
            "--config",
            text(&config),
            "--labels",
            "0.2",
        ]);
        command.args(["--seed", "7", "--device", "cpu", "--out", text(&out)]).args(extra);
        command
    };
    stdout(train("whole", &[]).output().unwrap());
    let mut child = train("killed", &[]).spawn().unwrap();
    // a line of metrics every ten steps: killed in the middle of three stages
    let metrics = dir.path().join("killed/run/metrics.jsonl");
    let lines = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    for reached in [1, 4, 9] {
        while lines() < reached {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        child = train("killed", &["--resume"]).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    let mut compared = 0;
    for entry in fs::read_dir(dir.path().join("whole/run/model")).unwrap() {
        let path = entry.unwrap().path();
        let other = dir.path().join("killed/run/model").join(path.file_name().unwrap());
        assert!(fs::read(&path).unwrap() == fs::read(other).unwrap(), "{}", path.display());
        compared += 1;
    }
    assert!(compared > 0);
}
