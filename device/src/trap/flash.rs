//! The infrared flash. It drains the battery, so it is off in every path, also when a pin refuses once.

use embedded_hal::digital::OutputPin;

/// A pin that goes low when its owner is done, whatever happened.
pub struct Flash<P: OutputPin> {
    pin: P,
    on_since_us: Option<u64>,
    /// The pin did not go low when it was told.
    stuck: bool,
}

impl<P: OutputPin> Flash<P> {
    /// Switches it off, whatever it was before.
    pub fn new(pin: P) -> Self {
        let mut flash = Self { pin, on_since_us: None, stuck: false };
        flash.off(0);
        flash
    }

    /// Switches it on.
    ///
    /// # Errors
    /// The pin refuses; the picture is taken without.
    pub fn on(&mut self, now_us: u64) -> Result<(), P::Error> {
        // It may shine after an error: what failed may have been the answer.
        (self.on_since_us, self.stuck) = (Some(now_us), false);
        self.pin.set_high().inspect_err(|_| {
            self.off(now_us);
        })
    }

    /// Switches it off; returns how long it was on, microseconds.
    pub fn off(&mut self, now_us: u64) -> u64 {
        self.stuck = self.pin.set_low().is_err();
        self.on_since_us.take().map_or(0, |since| now_us.saturating_sub(since))
    }

    /// Tries again what failed; true while it still fails.
    pub fn is_stuck(&mut self) -> bool {
        if self.stuck {
            self.stuck = self.pin.set_low().is_err();
        }
        self.stuck
    }

    /// True from [`on`](Self::on) to [`off`](Self::off).
    pub fn is_on(&self) -> bool {
        self.on_since_us.is_some()
    }
}

impl<P: OutputPin> Drop for Flash<P> {
    /// A panic in the camera's driver unwinds through here.
    fn drop(&mut self) {
        if self.is_on() || self.stuck {
            self.off(0);
        }
    }
}
