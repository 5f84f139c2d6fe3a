//! Places on Earth: degrees, WGS84, latitude before longitude, never two bare floats.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Mean Earth radius (IUGG), metres.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A validated WGS84 coordinate in degrees: latitude in [-90, 90], longitude in [-180, 180].
///
/// The original CSP tensors hold (lon, lat); the only place that order exists here is
/// [`LatLon::lon_lat`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawLatLon", into = "RawLatLon")]
pub struct LatLon {
    lat: f64,
    lon: f64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct RawLatLon {
    lat: f64,
    lon: f64,
}

/// Why two numbers are not a place.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// NaN or infinite.
    #[error("{field} is {value}, not a finite number of degrees")]
    NotFinite {
        /// `latitude` or `longitude`.
        field: &'static str,
        /// The value given, degrees.
        value: f64,
    },
    /// Outside the range of the coordinate.
    #[error("{field} {value} is outside [-{limit}, {limit}] degrees{}", if *swapped { "; latitude and longitude look swapped" } else { "" })]
    OutOfRange {
        /// `latitude` or `longitude`.
        field: &'static str,
        /// The value given, degrees.
        value: f64,
        /// The largest magnitude allowed, degrees.
        limit: f64,
        /// True when exchanging the two numbers would make a valid place.
        swapped: bool,
    },
    /// Exactly (0, 0): in practice a receiver or a table that had no position.
    #[error("latitude 0, longitude 0 (\"null island\") stands for a missing position")]
    NullIsland,
}

impl LatLon {
    /// A coordinate from degrees.
    ///
    /// # Errors
    /// [`PlaceError::NotFinite`] and [`PlaceError::OutOfRange`].
    pub fn new(lat: f64, lon: f64) -> Result<Self, PlaceError> {
        for (field, value) in [("latitude", lat), ("longitude", lon)] {
            if !value.is_finite() {
                return Err(PlaceError::NotFinite { field, value });
            }
        }
        let inside = |value: f64, limit: f64| (-limit..=limit).contains(&value);
        for (field, value, limit) in [("latitude", lat, 90.0), ("longitude", lon, 180.0)] {
            if !inside(value, limit) {
                let swapped = inside(lon, 90.0) && inside(lat, 180.0);
                return Err(PlaceError::OutOfRange { field, value, limit, swapped });
            }
        }
        Ok(Self { lat, lon })
    }

    /// A coordinate as a receiver or a file reports it: like [`LatLon::new`], and (0, 0) is an error.
    ///
    /// # Errors
    /// Those of [`LatLon::new`] and [`PlaceError::NullIsland`].
    pub fn measured(lat: f64, lon: f64) -> Result<Self, PlaceError> {
        let place = Self::new(lat, lon)?;
        if lat == 0.0 && lon == 0.0 { Err(PlaceError::NullIsland) } else { Ok(place) }
    }

    /// Latitude, degrees north.
    pub fn lat(self) -> f64 {
        self.lat
    }

    /// Longitude, degrees east.
    pub fn lon(self) -> f64 {
        self.lon
    }

    /// (longitude, latitude) in degrees: the order of CSP's position features. The one spot where it turns.
    pub fn lon_lat(self) -> [f64; 2] {
        [self.lon, self.lat]
    }

    /// Great-circle distance in metres (haversine on the mean sphere).
    pub fn distance_m(self, other: Self) -> f64 {
        let (phi1, phi2) = (self.lat.to_radians(), other.lat.to_radians());
        let sin_lat = libm::sin((phi2 - phi1) / 2.0);
        let sin_lon = libm::sin((other.lon - self.lon).to_radians() / 2.0);
        let h = sin_lat * sin_lat + libm::cos(phi1) * libm::cos(phi2) * sin_lon * sin_lon;
        2.0 * EARTH_RADIUS_M * libm::asin(libm::sqrt(h.clamp(0.0, 1.0)))
    }

    /// The middle of its cell of a grid of about `cell_m` × `cell_m` metres.
    fn middle_of_cell(self, cell_m: f64) -> Self {
        // bands of latitude, each cut into as many columns as have about that width
        let middle = |value: f64, from: f64, span: f64, length_m: f64| {
            let cells = libm::floor(length_m / cell_m).max(1.0);
            let cell = libm::floor((value - from) / span * cells).min(cells - 1.0);
            from + (cell + 0.5) / cells * span
        };
        let half_turn = core::f64::consts::PI * EARTH_RADIUS_M;
        let lat = middle(self.lat, -90.0, 180.0, half_turn);
        let lon = middle(self.lon, -180.0, 360.0, 2.0 * half_turn * libm::cos(lat.to_radians()));
        Self { lat, lon }
    }

    /// The place reached by going `distance_m` metres along the great circle that starts at
    /// `bearing_rad` radians clockwise from north.
    #[must_use]
    pub fn travel(self, bearing_rad: f64, distance_m: f64) -> Self {
        let (phi, delta) = (self.lat.to_radians(), distance_m / EARTH_RADIUS_M);
        let sin_phi2 =
            libm::sin(phi) * libm::cos(delta) + libm::cos(phi) * libm::sin(delta) * libm::cos(bearing_rad);
        let phi2 = libm::asin(sin_phi2.clamp(-1.0, 1.0));
        let y = libm::sin(bearing_rad) * libm::sin(delta) * libm::cos(phi);
        let x = libm::cos(delta) - libm::sin(phi) * sin_phi2;
        let lon = self.lon + libm::atan2(y, x).to_degrees();
        let lon = lon - 360.0 * libm::floor((lon + 180.0) / 360.0);
        Self { lat: phi2.to_degrees().clamp(-90.0, 90.0), lon: lon.clamp(-180.0, 180.0) }
    }
}

impl TryFrom<RawLatLon> for LatLon {
    type Error = PlaceError;
    fn try_from(raw: RawLatLon) -> Result<Self, PlaceError> {
        Self::new(raw.lat, raw.lon)
    }
}

impl From<LatLon> for RawLatLon {
    fn from(place: LatLon) -> Self {
        Self { lat: place.lat, lon: place.lon }
    }
}

impl fmt::Debug for LatLon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LatLon({self})")
    }
}

impl fmt::Display for LatLon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ns, ew) = (if self.lat < 0.0 { 'S' } else { 'N' }, if self.lon < 0.0 { 'W' } else { 'E' });
        write!(f, "{:.5}°{ns} {:.5}°{ew}", self.lat.abs(), self.lon.abs())
    }
}

/// Where a place came from, best first: the trap's GPS ladder. No place is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceSource {
    /// A fix of the on-board receiver, now.
    LiveFix,
    /// The last good fix, `age_s` seconds old.
    LastFix {
        /// Seconds since that fix.
        age_s: u64,
    },
    /// The site the trap was configured for, or the place the user gave.
    ConfiguredSite,
}

/// A place, how well it is known and from where: what the prior is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The coordinate.
    pub at: LatLon,
    /// Radius in metres within which the true place lies (about 95 %).
    pub uncertainty_m: f64,
    /// How it was obtained.
    pub source: PlaceSource,
}

impl Place {
    /// A place known exactly enough to ignore its uncertainty: a site given by a person.
    pub fn configured(at: LatLon) -> Self {
        Self { at, uncertainty_m: 0.0, source: PlaceSource::ConfiguredSite }
    }

    /// The place a prior is asked of: the same for every fix of a trap that stands still, so that the
    /// location network runs once and not at every centimetre an averaged fix moves.
    ///
    /// The coordinate goes to the middle of its cell of a grid, the uncertainty up to the next of
    /// 2^(k/4) metres. A cell is the power of two below an eighth of the uncertainty, 1 to 64 m: it
    /// moves the disc by less than a tenth of its radius, and is 1/600 of the finest wavelength of any
    /// encoder in use (40 km at `r_min` 0.001). A pure function of the place, so that the prior of a
    /// record can be computed again. A place without uncertainty does not move and stays as it is.
    #[must_use]
    pub fn snapped(&self) -> Self {
        if self.uncertainty_m <= 0.0 {
            return *self;
        }
        let uncertainty_m = libm::exp2(libm::ceil(libm::log2(self.uncertainty_m.max(1.0)) * 4.0) / 4.0);
        let cell_m = libm::exp2(libm::floor(libm::log2(uncertainty_m / 8.0))).clamp(1.0, 64.0);
        Self { at: self.at.middle_of_cell(cell_m), uncertainty_m, source: self.source }
    }

    /// Points spread evenly over the uncertainty disc: the centre and two rings, each
    /// standing for an equal area. The centre alone when the place is exact.
    pub fn disc(&self) -> impl Iterator<Item = LatLon> {
        /// (points, radius as a share of the disc's): 1 + 6 + 12 cells of equal area.
        const RINGS: [(u32, f64); 3] = [(1, 0.0), (6, 0.435), (12, 0.806)];
        let rings = if self.uncertainty_m > 0.0 { &RINGS[..] } else { &RINGS[..1] };
        let (at, radius) = (self.at, self.uncertainty_m);
        rings.iter().flat_map(move |&(count, share)| {
            (0..count).map(move |i| {
                let bearing = f64::from(i) / f64::from(count) * 2.0 * core::f64::consts::PI;
                if count == 1 { at } else { at.travel(bearing, radius * share) }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_place() {
        assert!(matches!(LatLon::new(f64::NAN, 1.0), Err(PlaceError::NotFinite { field: "latitude", .. })));
        assert!(matches!(
            LatLon::new(1.0, f64::INFINITY),
            Err(PlaceError::NotFinite { field: "longitude", .. })
        ));
        assert!(matches!(LatLon::new(-118.25, 34.05), Err(PlaceError::OutOfRange { swapped: true, .. })));
        assert!(matches!(LatLon::new(91.0, 200.0), Err(PlaceError::OutOfRange { swapped: false, .. })));
        assert_eq!(LatLon::measured(0.0, 0.0), Err(PlaceError::NullIsland));
        assert!(LatLon::new(0.0, 0.0).is_ok());
        assert!(LatLon::new(-90.0, 180.0).is_ok());
    }

    #[test]
    fn distance_and_travel_agree() {
        let start = LatLon::new(-33.8688, 151.2093).unwrap();
        for bearing in [0.0, 1.0, 2.5, 4.0, 6.0] {
            for metres in [1.0, 5_000.0, 2_000_000.0] {
                let end = start.travel(bearing, metres);
                assert!((start.distance_m(end) - metres).abs() < 1e-3 + metres * 1e-9, "{bearing} {metres}");
            }
        }
        // across the antimeridian the longitude stays in range
        let east = LatLon::new(0.0, 179.99).unwrap().travel(core::f64::consts::FRAC_PI_2, 10_000.0);
        assert!(east.lon() < -179.0, "{east}");
    }

    proptest! {
        #[test]
        fn a_snapped_place_is_near_and_stays(
            lat in -90.0f64..=90.0, lon in -180.0f64..=180.0, log_m in -2.0f64..6.0,
        ) {
            let uncertainty_m = 10f64.powf(log_m);
            let place = Place { uncertainty_m, ..Place::configured(LatLon::new(lat, lon).unwrap()) };
            let snapped = place.snapped();
            let cell_m = (uncertainty_m / 4.0).clamp(1.0, 64.0);
            prop_assert!(place.at.distance_m(snapped.at) <= 0.75 * cell_m, "{place:?} {snapped:?}");
            prop_assert!(snapped.uncertainty_m >= uncertainty_m);
            prop_assert!(snapped.uncertainty_m <= 1.2 * uncertainty_m.max(1.0));
            prop_assert!(LatLon::new(snapped.at.lat(), snapped.at.lon()).is_ok());
            let again = snapped.snapped();
            prop_assert!(again.at.distance_m(snapped.at) < 1e-3);
        }
    }

    #[test]
    fn a_fix_that_wanders_by_centimetres_snaps_to_few_places() {
        let start = LatLon::new(46.5, 8.0).unwrap();
        let mut places: Vec<LatLon> = Vec::new();
        for step in 0..1000 {
            let at = start.travel(f64::from(step), 0.03);
            let snapped =
                Place { uncertainty_m: 9.0 + f64::from(step) * 1e-5, ..Place::configured(at) }.snapped();
            if !places.contains(&snapped.at) {
                places.push(snapped.at);
            }
        }
        assert!(places.len() <= 4, "{places:?}");
        let exact = Place::configured(start);
        assert_eq!(exact.snapped(), exact);
    }

    #[test]
    fn disc_covers_its_area_evenly() {
        let at = LatLon::new(52.0, 5.0).unwrap();
        assert_eq!(Place::configured(at).disc().count(), 1);
        let place = Place { uncertainty_m: 1000.0, ..Place::configured(at) };
        assert_eq!(place.disc().count(), 19);
        // mean squared radius of a uniform disc is R²/2
        let mean = place.disc().map(|p| at.distance_m(p).powi(2)).sum::<f64>() / 19.0;
        assert!((mean / 1e6 - 0.47).abs() < 0.03, "{mean}");
    }
}
