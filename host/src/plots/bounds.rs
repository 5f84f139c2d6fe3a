//! A part of the Earth to draw.

use std::{fmt, str::FromStr};

use csp_models::place::LatLon;

/// A box of the Earth, degrees; it may lie across the antimeridian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub(super) south: f64,
    pub(super) north: f64,
    /// From −180 up to below 180.
    pub(super) west: f64,
    /// Above `west`, by 360 at most: beyond 180 where the box lies across the antimeridian.
    pub(super) east: f64,
}

/// Not a box of the Earth.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not a part of the Earth: {reason}; give `world` or WEST,SOUTH,EAST,NORTH in degrees, such as -10,35,30,60"
)]
pub struct MapError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Bounds {
    type Err = MapError;

    /// `world`, or west, south, east, north in degrees, separated by commas. An east below the west is
    /// beyond the antimeridian: `170,-20,-170,-10` is `170,-20,190,-10`.
    fn from_str(text: &str) -> Result<Self, MapError> {
        if text == "world" {
            return Ok(Self::world());
        }
        let fail = |reason: String| MapError { text: text.into(), reason };
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let numbers = numbers.map_err(|error: std::num::ParseFloatError| fail(error.to_string()))?;
        let [west, south, east, north] = numbers[..] else {
            return Err(fail(format!("{} numbers instead of four", numbers.len())));
        };
        for lat in [south, north] {
            LatLon::new(lat, 0.0).map_err(|error| fail(error.to_string()))?;
        }
        if let Some(lon) = [west, east].into_iter().find(|lon| !(-360.0..=360.0).contains(lon)) {
            return Err(fail(format!("longitude {lon} is outside [-360, 360] degrees")));
        }
        if south >= north {
            return Err(fail("south must be below north".into()));
        }
        let east = if east < west { east + 360.0 } else { east };
        if east <= west || east > west + 360.0 {
            return Err(fail("from west to east it must be above 0 and up to 360 degrees".into()));
        }
        let turn = match west {
            west if west >= 180.0 => -360.0,
            west if west < -180.0 => 360.0,
            _ => 0.0,
        };
        Ok(Self { south, north, west: west + turn, east: east + turn })
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { south, north, west, east } = self;
        write!(f, "{west},{south},{east},{north}")
    }
}

/// Shapes of a box around places, from narrow to wide: a needle leaves most of a picture white.
const SHAPES: (f64, f64) = (0.75, 2.5);

impl Bounds {
    /// All of it.
    pub fn world() -> Self {
        Self { south: -90.0, north: 90.0, west: -180.0, east: 180.0 }
    }

    /// The smallest box around places, widened by a tenth, to half a degree at least and to a shape that can be
    /// looked at; `None` without places. It lies across the antimeridian where that makes it less than half
    /// as wide.
    pub fn around(places: &[LatLon]) -> Option<Self> {
        let sorted = |of: fn(LatLon) -> f64| {
            let mut values: Vec<f64> = places.iter().map(|&place| of(place)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (lats, lons) = (sorted(LatLon::lat), sorted(LatLon::lon));
        let (south, north) = (*lats.first()?, *lats.last()?);
        let (first, last) = (*lons.first()?, *lons.last()?);
        // the widest stretch without a place, but for the one at the antimeridian
        let gap = lons.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])));
        let (west, east) = match gap {
            Some(&[before, after]) if before + 360.0 - after < (last - first) / 2.0 => {
                (after, before + 360.0)
            }
            _ => (first, last),
        };
        let room = |extent: f64| (extent * 0.05).max((0.5 - extent) / 2.0);
        let (lat, lon) = (room(north - south), room(east - west));
        let around = Self {
            south: (south - lat).max(-90.0),
            north: (north + lat).min(90.0),
            west: (west - lon).max(-180.0),
            east: if east > 180.0 { east + lon } else { (east + lon).min(180.0) },
        };
        Some(around.filled_out())
    }

    /// With its shorter side lengthened on both ends, up to the ends of the Earth, where it is a needle.
    fn filled_out(self) -> Self {
        let shape = self.shape();
        let (lon, lat) = self.extent();
        if shape < SHAPES.0 {
            let add = (lon * SHAPES.0 / shape).min(360.0) - lon;
            let (west, east) = (self.west - add / 2.0, self.east + add / 2.0);
            let turn = if west < -180.0 { 360.0 } else { 0.0 };
            return Self { west: west + turn, east: east + turn, ..self };
        }
        let add = (lat * shape / SHAPES.1 - lat).max(0.0);
        // what one end has no room for the other takes
        let south = (self.south - add / 2.0).min(90.0 - lat - add).max(-90.0);
        Self { south, north: (south + lat + add).min(90.0), ..self }
    }

    /// Width for a height of 1 as it is drawn: true along its middle latitude, but beyond 78° as wide as there;
    /// the true shape would be a needle.
    pub(super) fn shape(&self) -> f64 {
        let (lon, lat) = self.extent();
        let middle = (self.south + self.north) / 2.0;
        lon * middle.to_radians().cos().max(0.2) / lat
    }

    /// Degrees east to west and north to south.
    pub(super) fn extent(&self) -> (f64, f64) {
        (self.east - self.west, self.north - self.south)
    }

    /// True for a place in the box.
    pub fn contains(&self, at: LatLon) -> bool {
        (self.south..=self.north).contains(&at.lat()) && self.turn(at.lon()).is_some()
    }

    /// A longitude counted on from the west of the box; `None` outside.
    pub(super) fn turn(&self, lon: f64) -> Option<f64> {
        [lon, lon + 360.0, lon - 360.0].into_iter().find(|lon| (self.west..=self.east).contains(lon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_and_refused() {
        let europe: Bounds = "-10,35,30,60".parse().unwrap();
        assert_eq!(europe.to_string(), "-10,35,30,60");
        assert_eq!("world".parse(), Ok(Bounds::world()));
        let bad = ["", "1,2,3", "0,60,10,35", "0,0,0,1", "0,0,400,10", "a,b,c,d", "0,NaN,1,2", "NaN,0,1,2"];
        for bad in bad.into_iter().chain(["180,0,-180,1", "-200,0,170,1"]) {
            let error = bad.parse::<Bounds>().unwrap_err().to_string();
            assert!(error.contains("WEST,SOUTH"), "{error}");
        }
    }

    #[test]
    fn a_box_lies_across_the_antimeridian() {
        let pacific: Bounds = "170,-20,-170,-10".parse().unwrap();
        for same in ["170,-20,190,-10", "-190,-20,-170,-10"] {
            assert_eq!(same.parse(), Ok(pacific));
        }
        assert_eq!(pacific.to_string().parse(), Ok(pacific));
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        for (lon, inside) in [(170.0, true), (180.0, true), (-180.0, true), (-170.0, true), (0.0, false)] {
            assert_eq!(pacific.contains(at(-15.0, lon)), inside, "{lon}");
        }
        assert!("-180,0,-170,1".parse::<Bounds>().unwrap().contains(at(0.5, 180.0)));
    }

    #[test]
    fn the_box_around_places_is_no_needle() {
        let around = |places: &[(f64, f64)]| {
            let places: Vec<LatLon> =
                places.iter().map(|&(lat, lon)| LatLon::new(lat, lon).unwrap()).collect();
            let bounds = Bounds::around(&places).unwrap();
            assert!(places.iter().all(|&place| bounds.contains(place)), "{bounds}");
            assert_eq!(bounds.to_string().parse(), Ok(bounds), "as it is said it can be asked for");
            assert!((-90.0..bounds.north).contains(&bounds.south) && bounds.north <= 90.0, "{bounds}");
            bounds
        };
        let shaped = |bounds: Bounds, shape: f64| assert!((bounds.shape() - shape).abs() < 0.05, "{bounds}");
        // along a meridian, near the antimeridian too
        for lon in [10.0, -179.9, 179.9] {
            shaped(around(&[(-20.0, lon), (20.0, lon)]), 0.75);
        }
        // along a parallel
        shaped(around(&[(0.0, -20.0), (0.0, 20.0)]), 2.5);
        // by the pole the other end takes what this one has no room for
        let arctic = around(&[(85.0, -100.0), (86.0, 100.0), (85.5, 0.0), (85.0, 170.0)]);
        assert!(arctic.north > 89.0 && arctic.south < 80.0, "{arctic}");
        // what has a shape stays as it is
        assert_eq!(around(&[(40.0, 0.0), (50.0, 20.0)]), "-1,39.5,21,50.5".parse().unwrap());
        let world = around(&[(-89.0, -180.0), (89.0, 180.0), (0.0, 0.0), (0.0, 100.0), (0.0, -90.0)]);
        assert_eq!((world.west, world.east), (-180.0, 180.0));
    }

    #[test]
    fn the_box_around_places_is_the_smaller_one() {
        let around = |lons: &[f64]| {
            let places: Vec<LatLon> = lons.iter().map(|&lon| LatLon::new(-17.0, lon).unwrap()).collect();
            Bounds::around(&places)
        };
        assert_eq!(around(&[]), None);
        let fiji = around(&[178.0, -179.0, 179.0, 177.0]).unwrap();
        assert!(fiji.extent().0 < 5.0 && fiji.contains(LatLon::new(-17.0, 180.0).unwrap()), "{fiji}");
        let europe = around(&[-9.0, 30.0]).unwrap();
        assert!(europe.extent().0 < 44.0 && europe.east < 33.0, "{europe}");
        // all around the Earth it begins where maps do
        let world = around(&[-170.0, -100.0, -20.0, 50.0, 130.0, 175.0]).unwrap();
        assert!(world.west == -180.0 && world.east == 180.0, "{world}");
        for lon in [12.0, 180.0, -180.0] {
            let one = around(&[lon]).unwrap();
            assert!((-180.0..180.0).contains(&one.west), "{one}");
            assert!(one.extent().0 > 0.249 && one.extent().1 > 0.49, "{one}");
            assert!(
                one.contains(LatLon::new(-17.0, lon).unwrap()) && one.to_string().parse() == Ok(one),
                "{one}"
            );
        }
    }
}
