//! Lines of a GPIO chip where the system has none: every line is refused.

use std::{convert::Infallible, path::Path};

use embedded_hal::digital::{self, ErrorKind, ErrorType, OutputPin};

use crate::trap::Trigger;

/// There are no lines here.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{chip} line {line}: GPIO lines are those of Linux")]
pub struct LineError {
    /// The chip that was asked for.
    pub chip: String,
    /// The line.
    pub line: u32,
}

impl digital::Error for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// An output that nothing is connected to.
#[derive(Debug)]
pub struct Output(());

impl Output {
    /// # Errors
    /// Always.
    pub fn open(chip: &Path, line: u32) -> Result<Self, LineError> {
        Err(LineError { chip: chip.display().to_string(), line })
    }

    /// Nothing is connected.
    pub fn none() -> Self {
        Self(())
    }
}

impl ErrorType for Output {
    type Error = LineError;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), LineError> {
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), LineError> {
        Ok(())
    }
}

/// A motion sensor that there is none of.
#[derive(Debug)]
pub struct Motion(Infallible);

impl Motion {
    /// # Errors
    /// Always.
    pub fn open(chip: &Path, line: u32, _: u64) -> Result<Self, LineError> {
        Err(LineError { chip: chip.display().to_string(), line })
    }

    /// # Errors
    /// Never: there is none.
    pub fn is_high(&self) -> Result<bool, LineError> {
        match self.0 {}
    }
}

impl Trigger for Motion {
    type Error = LineError;

    fn poll(&mut self, _: u64) -> Result<bool, LineError> {
        match self.0 {}
    }
}
