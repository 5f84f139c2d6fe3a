//! The place a trap takes with it through a power cut.

use alloc::vec::Vec;

use csp_models::{
    place::LatLon,
    record::{FrameError, from_frame, to_frame},
};
use serde::{Deserialize, Serialize};

/// The last place known, as it is kept on disk or in flash.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Where.
    pub at: LatLon,
    /// Radius that holds the true place (about 95 %), metres.
    pub uncertainty_m: f64,
    /// When, UTC in milliseconds since 1970; `None` when the trap had no clock.
    pub utc_millis: Option<i64>,
    /// The site the trap was configured for then: another site since means that a person moved it.
    pub site: Option<LatLon>,
}

/// Bytes that are not a remembered place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RememberedError {
    /// Cut, empty or damaged.
    #[error("last known place: {0}; it is not used")]
    Frame(FrameError),
    /// They hold another version's data, or numbers that are no place.
    #[error("last known place: version {version}, uncertainty {uncertainty_m} m; it is not used")]
    Content {
        /// As written.
        version: u8,
        /// As written, metres.
        uncertainty_m: f64,
    },
}

const VERSION: u8 = 1;

impl Remembered {
    /// As one frame: COBS of postcard and CRC-32C, as records are. Write it atomically.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Only sequences of unknown length fail to serialise, and here is none.
        to_frame(&(VERSION, self)).unwrap_or_default()
    }

    /// From such a frame, whatever happened to it.
    ///
    /// # Errors
    /// [`RememberedError`]: the trap goes on without it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RememberedError> {
        let frame = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let (version, place): (u8, Self) = from_frame(frame).map_err(RememberedError::Frame)?;
        let uncertainty_m = place.uncertainty_m;
        let sound = uncertainty_m.is_finite() && uncertainty_m >= 0.0;
        if version != VERSION || !sound {
            return Err(RememberedError::Content { version, uncertainty_m });
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back_or_says_no(
            lat in -90.0f64..=90.0, lon in -180.0f64..=180.0, utc in any::<Option<i64>>(),
            at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let place = Remembered {
                at: LatLon::new(lat, lon).unwrap(), uncertainty_m: 7.5, utc_millis: utc, site: None,
            };
            let mut bytes = place.to_bytes();
            prop_assert_eq!(Remembered::from_bytes(&bytes), Ok(place));
            let cut = at.index(bytes.len() - 1);
            prop_assert!(Remembered::from_bytes(&bytes[..cut]).is_err());
            bytes[cut] ^= 1 << bit;
            prop_assert!(Remembered::from_bytes(&bytes).is_err());
        }

        #[test]
        fn noise_is_no_place(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Remembered::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn nonsense_numbers_are_refused() {
        let at = LatLon::new(1.0, 2.0).unwrap();
        for uncertainty_m in [f64::NAN, f64::INFINITY, -1.0] {
            let place = Remembered { at, uncertainty_m, utc_millis: None, site: None };
            assert!(Remembered::from_bytes(&place.to_bytes()).is_err());
        }
    }
}
