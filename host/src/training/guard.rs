//! What computes on a device that can fail. Graphics drivers report a lost device or exhausted memory by
//! panicking, whenever a result is read; after that nothing that was on the device can be relied on. On the
//! CPU a panic is a mistake of ours and stays one.

use std::{
    any::Any,
    cell::Cell,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

use super::TrainError;

thread_local! {
    /// Whether this thread is in [`on_device`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What a thread of a device said last before it gave up.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

/// Runs `work`; the words of a driver that gave up, where the device is `fragile`.
///
/// # Errors
/// What the driver said was the cause.
pub(crate) fn on_device<T>(fragile: bool, work: impl FnOnce() -> T) -> Result<T, String> {
    if !fragile {
        return Ok(work());
    }
    let before = GUARDED.replace(true);
    LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|payload| telling(said(&*payload)))
}

/// The words of a panic.
fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason")
}

/// How burn begins when a result cannot be read.
const UNREADABLE: &str = "Error while reading data";
/// What stands before a cause in a driver's words; the last is the one that tells.
const CAUSE: &str = "Caused by:";
/// Nothing more is to be had from such a device in this process.
const POISONED: &str = "poisoned";

/// What happened. The first line of burn's words only says that something did, when a result was read.
fn telling(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().rposition(|&line| line == CAUSE).and_then(|at| lines.get(at + 1));
    let mut telling = last.or(lines.first()).copied().unwrap_or_default().to_string();
    if text.contains("torn down") {
        let words = LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        telling = if words.is_empty() { telling } else { format!("{telling}: {words}") };
    }
    if text.contains(POISONED) && !telling.contains(POISONED) {
        telling = format!("the device is {POISONED}: {telling}");
    }
    telling
}

/// Keeps panics off stderr that are no news: those of a device's own threads, which try kernels and drop what
/// fails, and a driver's that [`on_device`] and [`reported`] put into an error. What fails in our own code is
/// shown with its place; with RUST_BACKTRACE all are.
pub fn hush_devices() {
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        return;
    }
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let words = said(info.payload());
        if std::thread::current().name().is_some_and(|name| name.starts_with("DSD-")) {
            *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = telling(words);
            return;
        }
        let our_own =
            |file: &str| ["host/", "models/"].iter().any(|of| file.replace('\\', "/").starts_with(of));
        let ours = info.location().is_some_and(|at| our_own(at.file()));
        // reading a result counts as done where it was asked for
        if !words.starts_with(UNREADABLE) && (ours || !GUARDED.get()) {
            tell(info);
        }
    }));
}

/// Runs `work`, in which a device may fail outside of any stage.
///
/// # Errors
/// What the driver said was the cause. Any other panic stays one.
pub fn reported<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        if !said(&*payload).starts_with(UNREADABLE) {
            panic::resume_unwind(payload);
        }
        telling(said(&*payload))
    })
}

/// Whether a driver's words mean that memory has run out.
pub(crate) fn ran_out(reason: &str) -> bool {
    let reason = reason.to_lowercase().replace("illegal memory", "").replace("memory managedmemoryid", "");
    ["memory", "can't allocate", "staging buffer could"].iter().any(|words| reason.contains(words))
}

/// Whether memory has run out on a device that is still there to be tried with less.
pub(crate) fn short_of_memory(reason: &str) -> bool {
    ran_out(reason) && !reason.contains(POISONED)
}

/// Forward passes over blocks of rows: once memory has run out, half a block at a time.
#[derive(Debug)]
pub(crate) struct Blocks {
    fragile: bool,
    halved: bool,
    /// What is computed.
    stage: &'static str,
}

impl Blocks {
    /// Of `stage`, all rows of a block at once.
    pub fn new(stage: &'static str, fragile: bool) -> Self {
        Self { fragile, halved: false, stage }
    }

    /// The results of `work` for `rows`, in their order.
    ///
    /// # Errors
    /// [`TrainError::DeviceLost`] for a device that fails, with exhausted memory the second time; what
    /// `work` fails with.
    pub fn run<T>(
        &mut self,
        rows: Range<usize>,
        mut work: impl FnMut(Range<usize>) -> Result<Vec<T>, TrainError>,
    ) -> Result<Vec<T>, TrainError> {
        let lost = |reason| TrainError::DeviceLost {
            stage: self.stage,
            step: rows.start as u64,
            reason,
            kept: format!("the first {} rows are kept", rows.start),
        };
        if !self.halved {
            match on_device(self.fragile, || work(rows.clone())) {
                Ok(done) => return done,
                // once: a device that fails again has more than too little memory
                Err(reason) if short_of_memory(&reason) && rows.len() > 1 => self.halved = true,
                Err(reason) => return Err(lost(reason)),
            }
        }
        let middle = rows.start + rows.len().div_ceil(2);
        let mut done = Vec::new();
        for half in [rows.start..middle, middle..rows.end] {
            done.extend(on_device(self.fragile, || work(half)).map_err(lost)??);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_caught_and_the_cpu_is_not_guarded() {
        assert_eq!(on_device(true, || 1), Ok(1));
        let failed = on_device(true, || -> u8 { panic!("Out of memory: 1 GiB\nmore") });
        assert_eq!(failed, Err("Out of memory: 1 GiB".into()));
        // as burn 0.22.1 said it on lavapipe, whose buffers hold 128 MiB
        let lavapipe = "Error while reading data: use `try_into_scalar` instead to catch the error at runtime: \
                        Execution(An error happened during execution\nCaused by:\n  Several failures at once\n\
                        Caused by:\n  The bytes were never written (failure #20507, still claiming 8 buffer(s))\n  \
                        skipped `ReduceKernel`: it needed memory ManagedMemoryId { value: 2782 }, which carried \
                        the failure\nCaused by:\n  An IO error happened\nCaused by:\n  can't allocate buffer of \
                        size: 1459814400\nNo backtrace available\nAsked at:\nNo backtrace available)";
        let reason = on_device(true, || -> u8 { panic!("{lavapipe}") }).unwrap_err();
        assert_eq!(reason, "can't allocate buffer of size: 1459814400");
        assert!(short_of_memory(&reason) && short_of_memory("out of device memory allocating 8 bytes"));
        assert_eq!(reported(|| -> u8 { panic!("{lavapipe}") }), Err(reason));
        assert!(panic::catch_unwind(|| reported(|| -> u8 { panic!("ours") })).is_err());
        // a device that is gone is not asked again, whatever became of it
        let gone =
            "Error while reading data\nCaused by:\n  The device is poisoned\nCaused by:\n  Out of memory";
        let reason = on_device(true, || -> u8 { panic!("{gone}") }).unwrap_err();
        assert_eq!(reason, "the device is poisoned: Out of memory");
        assert!(!short_of_memory(&reason) && !short_of_memory("Parent device is lost"));
        assert!(!ran_out("an illegal memory access was encountered"));
        assert!(!ran_out("skipped `UnaryFloat`: it needed memory ManagedMemoryId { value: 7 }"));
        let cpu = panic::catch_unwind(|| on_device(false, || -> u8 { panic!("ours") }));
        assert!(cpu.is_err());
    }

    /// A device that holds so many rows.
    fn numbers(blocks: &mut Blocks, held: usize, rows: Range<usize>) -> Result<Vec<usize>, TrainError> {
        blocks.run(rows, |rows| {
            assert!(rows.len() <= held, "out of memory");
            Ok(rows.collect())
        })
    }

    #[test]
    fn blocks_are_halved_once() {
        let mut blocks = Blocks::new("features", true);
        assert_eq!(numbers(&mut blocks, 4, 0..4).unwrap(), [0, 1, 2, 3]);
        assert_eq!(numbers(&mut blocks, 4, 4..11).unwrap(), [4, 5, 6, 7, 8, 9, 10]);
        assert!(blocks.halved);
        let error = numbers(&mut blocks, 1, 11..18).unwrap_err().to_string();
        assert!(error.contains("features") && error.contains("first 11 rows are kept"), "{error}");
        assert!(error.contains("--device cpu"), "{error}");
    }
}
