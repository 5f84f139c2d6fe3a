//! What a lamp says to someone at the tree without a screen.
//!
//! | flashes | means | what to do |
//! |---|---|---|
//! | 1 short, every 4 s | all is well | close the box and go |
//! | 2 | no place is known | give the receiver sky for 15 minutes, or set `[site]` |
//! | 3 | it saves energy, or is hot | charge or change the battery, give it shade |
//! | 4 | pictures are kept and not classified | `csp-device selftest`: model missing, refused, or safe mode |
//! | 5 | the camera gives no pictures | look at its cable, then `csp-device selftest` |
//! | 6 | nothing can be recorded | the card is full, read-only or gone |
//! | dark | it takes a picture, or its minutes are over and nothing is wrong | |
//!
//! A flash lasts 200 ms, as does the gap; a code repeats every 4 s. Count them.

use crate::trap::Health;

/// A flash or a gap, milliseconds.
const BLINK_MS: u64 = 200;
/// A code with its pause, milliseconds.
const PERIOD_MS: u64 = 4_000;

/// Flashes of each code, and what they mean.
pub const CODES: [(u8, Health, &str); 6] = [
    (1, Health::Well, "all is well"),
    (2, Health::NoPlace, "no place is known: give the receiver sky, or set [site]"),
    (3, Health::Saving, "it saves energy, or is hot: charge the battery, give it shade"),
    (
        4,
        Health::NotClassifying,
        "pictures are kept and not classified: model missing or refused, or safe mode",
    ),
    (5, Health::CameraFault, "the camera gives no pictures: look at its cable"),
    (6, Health::StoreFault, "nothing can be recorded: the card is full, read-only or gone"),
];

/// True when the lamp shines, `now_ms` after the start. After `show_ms` only faults are shown.
pub fn shines(health: Health, now_ms: u64, show_ms: u64) -> bool {
    if now_ms >= show_ms && health > Health::NotClassifying {
        return false;
    }
    let flashes = CODES.iter().find(|(_, of, _)| *of == health).map_or(0, |(flashes, ..)| *flashes);
    let slot = now_ms % PERIOD_MS / BLINK_MS;
    slot.is_multiple_of(2) && slot / 2 < u64::from(flashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flashes seen in one period.
    fn count(health: Health, start_ms: u64, show_ms: u64) -> usize {
        let lit: Vec<bool> =
            (0..PERIOD_MS).step_by(10).map(|ms| shines(health, start_ms + ms, show_ms)).collect();
        lit.windows(2).filter(|pair| pair[0] && !pair[1]).count()
    }

    #[test]
    fn every_code_can_be_counted_and_fits_its_period() {
        for (flashes, health, _) in CODES {
            assert_eq!(count(health, 0, u64::MAX), usize::from(flashes), "{health:?}");
            // a pause long enough to know the beginning
            assert!((PERIOD_MS - 1000..PERIOD_MS).all(|ms| !shines(health, ms, u64::MAX)), "{health:?}");
        }
        assert_eq!(count(Health::Shooting, 0, u64::MAX), 0);
    }

    #[test]
    fn it_goes_dark_unless_something_is_wrong() {
        let later = 40_000;
        assert_eq!(count(Health::Well, later, 30_000), 0);
        assert_eq!(count(Health::NoPlace, later, 30_000), 0);
        assert_eq!(count(Health::CameraFault, later, 30_000), 5);
    }
}
