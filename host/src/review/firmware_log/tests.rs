use super::{table::Table, *};

/// rzCOBS as its description has it, written apart from the reader.
fn encode(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut run, mut zeros) = (Vec::new(), 0u8, 0u8);
    for &byte in bytes {
        if run < 7 {
            if byte == 0 {
                zeros |= 1 << run
            } else {
                out.push(byte)
            }
            run += 1;
            if run == 7 && zeros != 0 {
                out.push(zeros);
                (run, zeros) = (0, 0);
            }
        } else if byte == 0 {
            out.push((run - 7) | 0x80);
            (run, zeros) = (0, 0);
        } else {
            out.push(byte);
            run += 1;
            if run == 134 {
                out.push(0xff);
                run = 0;
            }
        }
    }
    match run {
        0 => {}
        1..=6 => out.push((zeros | 0xff << run) & 0x7f),
        _ => out.push((run - 7) | 0x80),
    }
    out
}

fn program() -> Program {
    let table = Table::of(&[
        (1, "prim", "{=u8}"),
        (2, "derived", "Off|On {{ level: {=u16} }}"),
        (3, "str", "north"),
        (9, "info", "disk {=str} has {=u64} of {=u64:#x}, {=i16} °C, {=bool}"),
        (10, "warn", "{} then {=[?]}, {=istr}, {=[u8]:02x}"),
        (11, "error", "receiver: {}"),
        (12, "info", "flags {0=0..3:b} {0=4..6}"),
    ]);
    Program { path: "csp-device".into(), build_id: "ab01".into(), table }
}

fn frame(index: u16, uptime_us: u64, values: &[u8]) -> Vec<u8> {
    let mut bytes = [&index.to_le_bytes()[..], &uptime_us.to_le_bytes(), values].concat();
    bytes = encode(&bytes);
    bytes.push(0);
    bytes
}

fn frames() -> Vec<u8> {
    let disk =
        [&[2, 0, 0, 0][..], b"sd", &7u64.to_le_bytes(), &255u64.to_le_bytes(), &[0xfb, 0xff, 1]].concat();
    let nested = [
        &[2, 0, 1, 44, 1][..],         // On { level: 300 }
        &[2, 0, 0, 0, 1, 0, 5, 0][..], // [5, 0]
        &[3, 0][..],
        &[3, 0, 0, 0, 0xde, 0xad, 0][..],
    ]
    .concat();
    [frame(9, 1_500_000, &disk), frame(10, 2_000_000, &nested), frame(12, 2_000_001, &[0b0010_0101])].concat()
}

fn header(build_id: &str) -> String {
    let utc_ms = 1_795_435_200_000;
    Header { build_id: build_id.into(), version: "0.1.0".into(), utc_ms, uptime_us: 500_000 }.line()
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("000001.defmt");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

#[test]
fn frames_read_as_they_were_said() {
    let (dir, path) = written(&[header("ab01").as_bytes(), &[0], &frames()].concat());
    let log = program().decode(&path).unwrap();
    let said: Vec<&str> = log.lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(
        said,
        ["disk sd has 7 of 0xff, -5 °C, true", "On { level: 300 } then [5, 0], north, dead00", "flags 101 2"]
    );
    assert_eq!((log.lines[0].level, log.lines[1].level), ("info", "warn"));
    assert_eq!(log.lines[0].uptime_us, Some(1_500_000));
    // a second after the header
    assert_eq!(log.lines[0].utc.as_deref(), Some("2026-11-23T12:00:01.000Z"));
    assert_eq!((log.damaged, log.torn_tail), (0, 0));
    assert_eq!(logs(&[dir.path().to_path_buf()]).unwrap(), [path]);
}

#[test]
fn a_log_of_another_build_is_refused_by_both_names() {
    let (_dir, path) = written(header("cd02").as_bytes());
    let error = program().decode(&path).unwrap_err().to_string();
    assert!(error.contains("cd02") && error.contains("ab01"), "{error}");
}

#[test]
fn damage_costs_the_frames_it_hits() {
    let good = frames();
    for at in 0..good.len() {
        for change in [0xffu8, 0x01] {
            let mut bytes = [header("ab01").as_bytes(), &good].concat();
            let offset = bytes.len() - good.len();
            bytes[offset + at] ^= change;
            let (_dir, path) = written(&bytes);
            let log = program().decode(&path).unwrap();
            assert!(log.lines.len() + log.damaged >= 2, "byte {at}: {log:?}");
        }
    }
    // cut anywhere: what is whole reads, the rest is torn
    for cut in 0..good.len() {
        let (_dir, path) = written(&[header("ab01").as_bytes(), &good[..cut]].concat());
        let log = program().decode(&path).unwrap();
        let whole = good[..cut].iter().filter(|&&byte| byte == 0).count();
        assert_eq!((log.lines.len(), log.damaged), (whole, 0), "cut at {cut}");
    }
}

#[test]
fn long_frames_and_runs_of_zeros_decode() {
    for length in [0, 1, 6, 7, 8, 133, 134, 135, 141, 600] {
        for step in [1, 2, 5, 140] {
            let bytes: Vec<u8> =
                (0..length).map(|at| if at % step == 0 { 0 } else { (at % 255) as u8 + 1 }).collect();
            let back = frame::decode(&encode(&bytes)).unwrap();
            // the last group may be filled up with zeros that were not said
            assert_eq!(&back[..bytes.len()], &bytes[..], "{length} {step}");
            assert!(back[bytes.len()..].iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn what_is_no_program_is_said_to_be_none() {
    let (_dir, path) = written(b"#!/bin/sh\n");
    let error = Program::open(&path).unwrap_err().to_string();
    assert!(error.contains("not a program") && error.contains("000001.defmt"), "{error}");
    let own = std::env::current_exe().unwrap();
    assert!(Program::open(&own).is_err(), "a test is not linked as the firmware is");
}
