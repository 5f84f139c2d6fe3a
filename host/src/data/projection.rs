//! From map coordinates to latitude and longitude, for the coordinate systems tiles come in.

use csp_models::place::LatLon;

/// Semi-major axis of WGS84, metres.
const A: f64 = 6_378_137.0;
/// Third flattening n of WGS84.
const N: f64 = {
    let f = 1.0 / 298.257_223_563;
    f / (2.0 - f)
};

/// A coordinate system by its EPSG code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    /// Degrees: WGS84 (4326), ETRS89 (4258; within a metre of it), NAD83 (4269; within two).
    Degrees,
    /// WGS84 / UTM (326xx north, 327xx south), ETRS89 / UTM (258xx; within a metre of it), NAD83 / UTM
    /// (269xx; within two).
    Utm { zone: u8, south: bool },
    /// Web Mercator (3857).
    WebMercator,
}

impl Projection {
    /// The system of a code, if it is one we can invert.
    pub(crate) fn of_epsg(code: u32) -> Option<Self> {
        match code {
            4326 | 4258 | 4269 => Some(Self::Degrees),
            32601..=32660 => Some(Self::Utm { zone: (code - 32600) as u8, south: false }),
            32701..=32760 => Some(Self::Utm { zone: (code - 32700) as u8, south: true }),
            25828..=25838 => Some(Self::Utm { zone: (code - 25800) as u8, south: false }),
            26901..=26923 => Some(Self::Utm { zone: (code - 26900) as u8, south: false }),
            3857 => Some(Self::WebMercator),
            _ => None,
        }
    }

    /// The place at map coordinates (east, north). `None` outside of the system's reach.
    pub(crate) fn place(self, x: f64, y: f64) -> Option<LatLon> {
        let (lat, lon) = match self {
            Self::Degrees => (y, x),
            // within a dozen degrees of its meridian the series below hold; no tile lies further off
            Self::Utm { .. } if (x - 500_000.0).abs() > 1_200_000.0 || !(-1e7..=2e7).contains(&y) => {
                return None;
            }
            Self::Utm { zone, south } => inverse_utm(x, if south { y - 1e7 } else { y }, zone),
            Self::WebMercator => ((y / A).sinh().atan().to_degrees(), (x / A).to_degrees()),
        };
        // a tile across the antimeridian
        let lon = if lon.abs() > 180.0 && lon.abs() < 540.0 { lon - 360.0 * lon.signum() } else { lon };
        LatLon::new(lat, lon).ok()
    }
}

/// Inverse transverse Mercator by Krüger's series to n⁴ (Karney 2011, eq. 36 and 11–15, truncated):
/// within 1e-9° of PROJ in the zones and a few degrees around.
fn inverse_utm(easting: f64, northing: f64, zone: u8) -> (f64, f64) {
    let (n, n2, n3, n4) = (N, N * N, N * N * N, N * N * N * N);
    let radius = A / (1.0 + n) * (1.0 + n2 / 4.0 + n4 / 64.0) * 0.9996;
    let (xi, eta) = (northing / radius, (easting - 500_000.0) / radius);
    let beta = [
        n / 2.0 - 2.0 * n2 / 3.0 + 37.0 * n3 / 96.0 - n4 / 360.0,
        n2 / 48.0 + n3 / 15.0 - 437.0 * n4 / 1440.0,
        17.0 * n3 / 480.0 - 37.0 * n4 / 840.0,
        4397.0 * n4 / 161_280.0,
    ];
    let (mut xi_0, mut eta_0) = (xi, eta);
    for (j, beta) in (1..).zip(beta) {
        let twice = 2.0 * f64::from(j);
        xi_0 -= beta * (twice * xi).sin() * (twice * eta).cosh();
        eta_0 -= beta * (twice * xi).cos() * (twice * eta).sinh();
    }
    let conformal = (xi_0.sin() / eta_0.cosh()).asin();
    let delta = [
        2.0 * n - 2.0 * n2 / 3.0 - 2.0 * n3 + 116.0 * n4 / 45.0,
        7.0 * n2 / 3.0 - 8.0 * n3 / 5.0 - 227.0 * n4 / 45.0,
        56.0 * n3 / 15.0 - 136.0 * n4 / 35.0,
        4279.0 * n4 / 630.0,
    ];
    let series = (1..).zip(delta).map(|(j, delta)| delta * (2.0 * f64::from(j) * conformal).sin());
    let lat = conformal + series.sum::<f64>();
    let lon = f64::from(zone) * 6.0 - 183.0 + eta_0.sinh().atan2(xi_0.cos()).to_degrees();
    (lat.to_degrees(), lon)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tools/utm_referee.py: pyproj.
    const PROJ: [(u32, f64, f64, f64, f64); 14] = [
        (32631, 500000.0, 0.0, 0.0000000000, 3.0000000000),
        (32631, 166021.4431, 0.0, 0.0000000000, 0.0000000002),
        (32633, 333041.0, 6248112.0, 56.3481988658, 12.2982703869),
        (32633, 899999.0, 7100000.0, 63.7975857982, 23.1359498257),
        (32635, 421184.7, 5150000.5, 46.4989621244, 25.9728649082),
        (32760, 700123.25, 5408765.75, -41.4477534921, 179.3957424703),
        (32755, 310878.0, 8253485.0, -15.7901386337, 145.2344364530),
        (32701, 440000.0, 1200000.0, -79.2557318084, -179.8841036983),
        (32601, 510000.0, 9300000.0, 83.7477062384, -176.1775274254),
        (32721, 250000.0, 9999999.0, -0.0000090403, -59.2461074815),
        (32618, 583960.0, 4507523.0, 40.7143492125, -74.0059695268),
        (25832, 691608.0, 5334760.0, 48.1372184701, 11.5755576987),
        (3857, -8238310.24, 4970071.58, 40.7128000058, -74.0060000391),
        (3857, 20037508.0, -15000000.0, -79.1237548351, 179.9999969207),
    ];

    #[test]
    fn agrees_with_proj() {
        for (epsg, x, y, lat, lon) in PROJ {
            let place = Projection::of_epsg(epsg).unwrap().place(x, y).unwrap();
            let error = (place.lat() - lat).abs().max((place.lon() - lon).abs());
            assert!(error < 2e-9, "{epsg} {x} {y}: {place} is off by {error:e}°");
        }
    }

    #[test]
    fn north_america_counts_as_wgs84() {
        assert_eq!(Projection::of_epsg(26918), Projection::of_epsg(32618));
        assert_eq!(Projection::of_epsg(4269), Some(Projection::Degrees));
    }

    #[test]
    fn what_is_out_of_reach_is_no_place() {
        for code in [0, 2154, 3035, 26900, 26924, 32600, 32661, 32700, 32761, 32767] {
            assert_eq!(Projection::of_epsg(code), None, "{code}");
        }
        let utm = Projection::Utm { zone: 31, south: false };
        for (x, y) in [(1e9, 0.0), (5e5, 1e9), (f64::NAN, 0.0), (5e5, f64::INFINITY)] {
            assert_eq!(utm.place(x, y), None);
            assert_eq!(Projection::Degrees.place(x, y), None);
        }
    }
}
