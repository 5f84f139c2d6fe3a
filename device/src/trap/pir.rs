//! A passive infrared sensor on a pin.

use core::fmt;

use embedded_hal::digital::InputPin;

use super::Trigger;

/// Counts a rise that lasts: a sensor's line rings, and picks up radio.
pub struct Pir<P> {
    pin: P,
    debounce_ms: u64,
    /// Since when the line reads high without a break.
    high_since: Option<u64>,
    /// This rise was given.
    given: bool,
}

impl<P> Pir<P> {
    /// A sensor whose line has to stay high for `debounce_ms`. A line that is high from the start counts:
    /// an animal may stand there.
    pub fn new(pin: P, debounce_ms: u64) -> Self {
        Self { pin, debounce_ms, high_since: None, given: false }
    }
}

impl<P: InputPin> Trigger for Pir<P> {
    type Error = PirError<P::Error>;

    fn poll(&mut self, now_ms: u64) -> Result<bool, Self::Error> {
        if !self.pin.is_high().map_err(PirError)? {
            (self.high_since, self.given) = (None, false);
            return Ok(false);
        }
        let since = *self.high_since.get_or_insert(now_ms);
        if self.given || now_ms.saturating_sub(since) < self.debounce_ms {
            return Ok(false);
        }
        self.given = true;
        Ok(true)
    }
}

/// The sensor's pin cannot be read.
#[derive(Debug)]
pub struct PirError<E>(E);

impl<E: fmt::Debug> fmt::Display for PirError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the motion sensor's line cannot be read: {:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    #[test]
    fn a_rise_counts_once_and_only_when_it_lasts() {
        // (milliseconds, line, trigger)
        let story = [
            (0, State::Low, false),
            (10, State::High, false), // a spike
            (20, State::Low, false),
            (30, State::High, false),
            (70, State::High, false),
            (80, State::High, true),
            (90, State::High, false),
            (5000, State::High, false), // still the same animal
            (5010, State::Low, false),
            (5020, State::High, false),
            (5070, State::High, true),
        ];
        let reads: Vec<_> = story.iter().map(|(_, line, _)| Transaction::get(*line)).collect();
        let mut pin = Mock::new(&reads);
        let mut pir = Pir::new(pin.clone(), 50);
        for (ms, _, expected) in story {
            assert_eq!(pir.poll(ms).unwrap(), expected, "at {ms} ms");
        }
        pin.done();
    }
}
