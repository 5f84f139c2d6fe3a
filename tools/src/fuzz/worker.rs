//! The loop of a worker.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use csp_models::bundle::sha256_hex;
use serde_json::{Value, json};

use super::{Random, Target};

/// Most inputs kept beside the corpus, and the largest of them.
const POOL: (usize, usize) = (2000, 1 << 16);

/// Feeds `target` until the time is up.
///
/// # Errors
/// There is no corpus, or nothing can be written.
pub fn work(target: &dyn Target, corpus: &Path, out: &Path, seed: u64, time: Duration) -> Result<Value> {
    let mut pool = read(corpus)?;
    ensure!(!pool.is_empty(), "{}: no inputs to start from", corpus.display());
    let (start, given) = (Instant::now(), pool.len());
    // Panics are heard here even where the reader catches them itself.
    let heard: Arc<Mutex<Option<String>>> = Arc::default();
    let ear = Arc::clone(&heard);
    panic::set_hook(Box::new(move |info| {
        let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get_or_insert_with(|| info.to_string().replace('\n', " "));
    }));
    let (mut endings, mut failures) = (HashSet::new(), HashMap::new());
    let mut random = Random::new(seed);
    let (current, mut inputs) = (out.join("current"), 0usize);
    while start.elapsed() < time {
        // first the corpus as it is
        let input = match pool.get(inputs).filter(|_| inputs < given) {
            Some(whole) => whole.clone(),
            None => changed(target, &pool, &mut random),
        };
        fs::write(&current, &input)?;
        let ended = panic::catch_unwind(AssertUnwindSafe(|| target.run(&input)));
        inputs += 1;
        let panicked = heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(message) = panicked.or_else(|| ended.is_err().then(|| "panic".to_string())) {
            // one of each place
            let place = template(message.split(':').take(2).collect::<Vec<_>>().join(":").as_str());
            if let Entry::Vacant(first) = failures.entry(place) {
                let path = out.join(format!("panic-{}", &sha256_hex(&input)[..12]));
                fs::write(&path, &input)?;
                first.insert(format!("{}: {message}", path.display()));
            }
            continue;
        }
        if endings.insert(template(&ended.unwrap_or_default()))
            && pool.len() < POOL.0
            && input.len() <= POOL.1
        {
            pool.push(input);
        }
    }
    let peak = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: Option<u64> = peak.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(json!({
        "inputs": inputs, "endings": endings.len(), "peak_rss_kib": peak,
        "failures": failures.into_values().collect::<Vec<_>>(),
    }))
}

fn read(corpus: &Path) -> Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(corpus).with_context(|| corpus.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths
        .iter()
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).with_context(|| path.display().to_string()))
        .collect()
}

/// An input of the pool with one to three changes.
fn changed(target: &dyn Target, pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(pool).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(3) {
        let known = if random.one_in(8) { None } else { target.change(&input, random) };
        input = known.unwrap_or_else(|| {
            let other = random.pick(pool).cloned().unwrap_or_default();
            random.bytes(&input, &other, target.words())
        });
    }
    input
}

/// A message without its numbers and quoted names: what kind of ending it is.
fn template(message: &str) -> String {
    let mut quoted = false;
    let mut kept = String::new();
    for letter in message.chars() {
        match letter {
            '`' => quoted = !quoted,
            _ if quoted || letter.is_ascii_digit() || letter == '-' => {}
            other => kept.push(other),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dies of an X after a Y, and catches it itself.
    struct Fragile;

    impl Target for Fragile {
        fn name(&self) -> &'static str {
            "fragile"
        }

        fn words(&self) -> &'static [&'static [u8]] {
            &[b"YX"]
        }

        fn run(&self, input: &[u8]) -> String {
            let read = || assert!(!input.windows(2).any(|pair| pair == b"YX"), "an X");
            match panic::catch_unwind(read) {
                Ok(()) => format!("{} bytes", input.len()),
                Err(_) => "hidden".to_string(),
            }
        }
    }

    #[test]
    fn a_panic_that_is_caught_counts_and_is_kept() {
        let folder = std::env::temp_dir().join(format!("csp-fuzz-{}", std::process::id()));
        let (corpus, out) = (folder.join("corpus"), folder.join("out"));
        fs::create_dir_all(&corpus).unwrap();
        fs::create_dir_all(&out).unwrap();
        fs::write(corpus.join("one"), "some text").unwrap();
        let before = panic::take_hook();
        let report = work(&Fragile, &corpus, &out, 1, Duration::from_secs(2));
        panic::set_hook(before);
        let report = report.unwrap();
        let failures = report["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "each place once: {report}");
        assert!(failures[0].as_str().unwrap().contains("an X"), "{report}");
        let kept = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.file_name().is_some_and(|name| name != "current"));
        let kept: Vec<_> = kept.map(|path| fs::read(path).unwrap()).collect();
        assert!(kept.len() == 1 && kept[0].windows(2).any(|pair| pair == b"YX"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn endings_differ_by_kind_alone() {
        let one = template("node 3 `conv1` (Conv): attribute `pads` is -5");
        assert_eq!(one, template("node 12 `x` (Conv): attribute `strides` is 65536"));
        assert_ne!(one, template("node 3 `conv1` (Relu): attribute `pads` is -5"));
    }
}
