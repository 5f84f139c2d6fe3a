//! Lines of a GPIO chip, through the kernel's character device.

use std::{fmt, path::Path, time::Duration};

use embedded_hal::digital::{self, ErrorKind, ErrorType, OutputPin};
use gpiocdev::{
    Request,
    line::{Bias, EdgeDetection, Value},
};

use crate::trap::Trigger;

/// A line that cannot be had, read or set.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{chip} line {line}: {reason}{}", hint(.reason))]
pub struct LineError {
    /// The chip.
    pub chip: String,
    /// The line.
    pub line: u32,
    /// The system's reason.
    pub reason: String,
}

impl digital::Error for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn hint(text: &str) -> &'static str {
    if text.contains("ermission") {
        "; add yourself to the group that owns the chip (usually gpio)"
    } else if text.contains("busy") || text.contains("EBUSY") {
        "; another program holds the line (gpioinfo says which)"
    } else {
        ""
    }
}

struct Line {
    request: Request,
    chip: String,
    line: u32,
}

impl Line {
    fn fault(&self) -> impl Fn(gpiocdev::Error) -> LineError {
        |error| LineError { chip: self.chip.clone(), line: self.line, reason: error.to_string() }
    }
}

/// A line as an output, low until it is set. Without a line it drives nothing.
pub struct Output(Option<Line>);

impl Output {
    /// Takes the line, and sets it low.
    ///
    /// # Errors
    /// No such chip or line, no permission, or in use.
    pub fn open(chip: &Path, line: u32) -> Result<Self, LineError> {
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer("csp-device")
            .with_line(line)
            .as_output(Value::Inactive)
            .request();
        let chip = chip.display().to_string();
        match request {
            Ok(request) => Ok(Self(Some(Line { request, chip, line }))),
            Err(error) => Err(LineError { chip, line, reason: error.to_string() }),
        }
    }

    /// Nothing is connected.
    pub fn none() -> Self {
        Self(None)
    }

    fn set(&mut self, value: Value) -> Result<(), LineError> {
        match &self.0 {
            None => Ok(()),
            Some(line) => line.request.set_lone_value(value).map_err(line.fault()),
        }
    }
}

impl ErrorType for Output {
    type Error = LineError;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), LineError> {
        self.set(Value::Inactive)
    }
    fn set_high(&mut self) -> Result<(), LineError> {
        self.set(Value::Active)
    }
}

/// A motion sensor on a line. The kernel debounces it and keeps its rises while a picture is
/// classified, so a short pulse is not lost as it is for [`crate::trap::Pir`], which polls.
pub struct Motion {
    line: Line,
    /// The line was high from the start: an animal may stand there.
    first: bool,
}

impl Motion {
    /// Takes the line.
    ///
    /// # Errors
    /// No such chip or line, no permission, in use, or a chip without interrupts.
    pub fn open(chip: &Path, line: u32, debounce_ms: u64) -> Result<Self, LineError> {
        let request = |debounce: bool| {
            let mut builder = Request::builder();
            builder.on_chip(chip).with_consumer("csp-device").with_line(line);
            builder.with_bias(Bias::PullDown).with_edge_detection(EdgeDetection::RisingEdge);
            if debounce {
                builder.with_debounce_period(Duration::from_millis(debounce_ms));
            }
            builder.request()
        };
        let name = chip.display().to_string();
        let fault =
            |error: gpiocdev::Error| LineError { chip: name.clone(), line, reason: error.to_string() };
        let request = request(debounce_ms > 0).map_err(fault)?;
        let first = request.lone_value().map_err(fault)? == Value::Active;
        Ok(Self { line: Line { request, chip: name, line }, first })
    }

    /// True while the line is high.
    ///
    /// # Errors
    /// The line cannot be read.
    pub fn is_high(&self) -> Result<bool, LineError> {
        Ok(self.line.request.lone_value().map_err(self.line.fault())? == Value::Active)
    }
}

impl Trigger for Motion {
    type Error = LineError;

    fn poll(&mut self, _: u64) -> Result<bool, LineError> {
        let mut rose = std::mem::take(&mut self.first);
        let fault = self.line.fault();
        // Rises that waited together are one animal; the kernel keeps 16.
        for _ in 0..64 {
            if !self.line.request.has_edge_event().map_err(&fault)? {
                break;
            }
            self.line.request.read_edge_event().map_err(&fault)?;
            rose = true;
        }
        Ok(rose)
    }
}

impl fmt::Debug for Motion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Motion({} {})", self.line.chip, self.line.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_there_is_named() {
        let chip = Path::new("/nonexistent/gpiochip9");
        for error in [Output::open(chip, 3).err().unwrap(), Motion::open(chip, 3, 40).err().unwrap()] {
            assert!(error.to_string().contains("/nonexistent/gpiochip9 line 3"), "{error}");
        }
        let mut none = Output::none();
        assert!(none.set_high().is_ok() && none.set_low().is_ok());
    }
}
