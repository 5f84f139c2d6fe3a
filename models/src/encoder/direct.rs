//! direct: longitude and latitude, brought to [-1, 1] over an extent.

use super::{Kind, Prepared, Settings};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "direct",
    aliases: &["naive"],
    about: "longitude and latitude over an extent: a baseline, with a seam at the date line",
    takes: &["extent"],
    defaults: Settings { extent: [-180.0, 180.0, -90.0, 90.0], ..Settings::NONE },
    dim: |_| 2,
    prepare: |_, _| alloc::vec::Vec::new(),
    encode: |prepared: &Prepared, place, out| out.copy_from_slice(&within(&prepared.settings, place)),
};

/// (lon, lat), -1 and 1 at the edges of the extent.
pub(super) fn within(settings: &Settings, place: LatLon) -> [f64; 2] {
    let [west, east, south, north] = settings.extent;
    let [lon, lat] = place.lon_lat();
    [2.0 * (lon - west) / (east - west) - 1.0, 2.0 * (lat - south) / (north - south) - 1.0]
}

#[cfg(test)]
mod tests {
    use super::super::{
        EncoderSpec,
        tests::{check_full, named},
    };

    #[test]
    fn spans_its_extent() {
        check_full(&named("naive"), &[-118.25 / 180.0, 34.05 / 90.0]);
        let america = EncoderSpec { extent: Some([-162.0, -59.0, 20.0, 56.0]), ..EncoderSpec::of("direct") };
        check_full(&america.build().unwrap(), &[-0.150485436893, -0.219444444444]);
    }
}
