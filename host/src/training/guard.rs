//! What computes on a device that can fail. Graphics drivers report a lost device or exhausted memory by
//! panicking, whenever a result is read; after that nothing that was on the device can be relied on. On the
//! CPU a panic is a mistake of ours and stays one.

use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
};

use super::TrainError;

/// Runs `work`; the words of a driver that gave up, where the device is `fragile`.
///
/// # Errors
/// The first line of what the driver said.
pub(crate) fn on_device<T>(fragile: bool, work: impl FnOnce() -> T) -> Result<T, String> {
    if !fragile {
        return Ok(work());
    }
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason");
        text.lines().next().unwrap_or_default().to_string()
    })
}

/// Whether a driver's words mean that memory has run out.
pub(crate) fn short_of_memory(reason: &str) -> bool {
    reason.to_lowercase().contains("memory")
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
