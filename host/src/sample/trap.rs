//! What a trap on the desk needs: photographs for its folder and a receiver's output for its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use csp_models::{bundle::write_atomically, place::LatLon};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    SampleError,
    world::{normal, uniform},
};
use crate::data::{self, Dataset, Row, Split};

/// Seconds before the receiver has a fix, and after.
const WITHOUT_FIX: u32 = 8;
const WITH_FIX: u32 = 30;

/// Inputs for a trap on the desk.
#[derive(Clone, Debug)]
pub struct TrapInputs {
    /// The folder of photographs, `synthetic-trap-*.jpg`, all from one camera of the val split.
    pub desk: PathBuf,
    /// The receiver's output, `synthetic.nmea`.
    pub nmea: PathBuf,
    /// Where the camera stands: what the receiver finds, within metres.
    pub place: LatLon,
    /// File name and true class of each photograph.
    pub truth: Vec<(String, String)>,
}

/// Writes trap inputs into `dir`, taken from the sample whose table is `table`: up to `count` val
/// photographs of the camera that saw the most classes, and an NMEA file for its place.
///
/// # Errors
/// The table does not open, has no val photographs with camera and place, or a file cannot be written.
pub fn write_trap_inputs(
    dir: &Path,
    table: &Path,
    count: usize,
    seed: u64,
) -> Result<TrapInputs, SampleError> {
    let dataset = data::open(table, None)?.dataset;
    let rows = one_camera(&dataset, count);
    let none = || SampleError::NoPhotographs { path: table.into() };
    let place = rows.first().and_then(|row| row.place).ok_or_else(none)?;
    let desk = dir.join("desk");
    fs::create_dir_all(&desk).map_err(SampleError::io(&desk))?;
    let mut truth = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let (Some(image), Some(class)) = (&row.image, row.class) else { continue };
        let name = format!("synthetic-trap-{:02}.jpg", i + 1);
        let to = desk.join(&name);
        fs::copy(image, &to).map_err(SampleError::io(&to))?;
        truth.push((name, dataset.labels.name(class).to_string()));
    }
    let nmea = dir.join("synthetic.nmea");
    let stream = receiver(place, seed);
    write_atomically(&nmea, |out| out.write_all(&stream)).map_err(SampleError::io(&nmea))?;
    Ok(TrapInputs { desk, nmea, place, truth })
}

/// Val photographs of one camera: of the most classes, then of the most photographs, then of the first name.
fn one_camera(dataset: &Dataset, count: usize) -> Vec<&Row> {
    let mut cameras: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &dataset.rows {
        let usable = row.image.is_some() && row.class.is_some() && row.place.is_some();
        if let (true, Some(Split::Val), Some(camera)) = (usable, row.split, row.camera.as_deref()) {
            cameras.entry(camera).or_default().push(row);
        }
    }
    let mut best: Vec<&Row> = Vec::new();
    let rank =
        |rows: &[&Row]| (rows.iter().filter_map(|r| r.class).collect::<BTreeSet<_>>().len(), rows.len());
    for mut rows in cameras.into_values() {
        rows.truncate(count);
        if rank(&rows) > rank(&best) {
            best = rows;
        }
    }
    best
}

/// A receiver after power-on, a sentence pair a second: noise and half a sentence, no fix, a damaged
/// checksum, then a fix that settles.
fn receiver(place: LatLon, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = b"\x00\xff\x7e\x00\xe0,,M,,*5C\r\n$GPGGA,0416\r\n".to_vec();
    let mut lines = vec![sentence("GPTXT,01,01,02,SYNTHETIC receiver output")];
    for second in 0..WITHOUT_FIX {
        let time = clock(second);
        lines.push(sentence(&format!("GPRMC,{time},V,,,,,,,150625,,,N")));
        lines.push(sentence(&format!("GPGGA,{time},,,,,0,0{},99.99,,,,,,", second / 3)));
    }
    for second in 0..WITH_FIX {
        let time = clock(WITHOUT_FIX + second);
        // the first fixes are poor: tens of metres at a high dilution
        let spread = 3.0 + 25.0 * (-f64::from(second) / 5.0).exp();
        let off = spread * normal(&mut rng).abs() / 2.0;
        let here = place.travel(std::f64::consts::TAU * uniform(&mut rng), off);
        let (lat, ns) = minutes(here.lat(), 2, ["N", "S"]);
        let (lon, ew) = minutes(here.lon(), 3, ["E", "W"]);
        let (satellites, dilution) = ((4 + second / 4).min(10), spread / 4.0);
        lines.push(sentence(&format!("GPRMC,{time},A,{lat},{ns},{lon},{ew},0.02,,150625,,,A")));
        let fix = format!("{lat},{ns},{lon},{ew},1,{satellites:02},{dilution:.2},412.3,M,-3.1,M,,");
        lines.push(sentence(&format!("GPGGA,{time},{fix}")));
        if second == 3 {
            // a burst on the line: the place is another one, and the checksum tells
            let struck = format!("GPRMC,{time},A,0000.0000,N,00000.0000,E,0.02,,150625,,,A");
            lines.push(format!("${struck}*{:02X}\r\n", checksum(&struck) ^ 0x11));
        }
    }
    lines.iter().for_each(|line| out.extend_from_slice(line.as_bytes()));
    out
}

fn clock(second: u32) -> String {
    format!("0416{:02}.00", 10 + second)
}

/// `$body*checksum`.
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}\r\n", checksum(body))
}

/// The exclusive or of all bytes.
fn checksum(body: &str) -> u8 {
    body.bytes().fold(0, |sum, byte| sum ^ byte)
}

/// Degrees as NMEA writes them, `ddmm.mmmm`, and the hemisphere. Rounded as a whole, so minutes never read 60.
fn minutes(degrees: f64, width: usize, signs: [&str; 2]) -> (String, &str) {
    let ten_thousandths = (degrees.abs() * 600_000.0).round() as u64;
    let (whole, rest) = (ten_thousandths / 600_000, ten_thousandths % 600_000);
    let text = format!("{whole:0width$}{:02}.{:04}", rest / 10_000, rest % 10_000);
    (text, signs[usize::from(degrees < 0.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SampleSize, generate};

    #[test]
    fn photographs_and_receiver_agree_on_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let table = generate(dir.path(), 2, SampleSize { train: 80, val: 40 }).unwrap();
        let out = dir.path().join("trap");
        let inputs = write_trap_inputs(&out, &table, 6, 2).unwrap();
        assert_eq!(inputs.truth.len(), 6);
        for (name, class) in &inputs.truth {
            assert!(inputs.desk.join(name).is_file() && name.contains("synthetic"));
            assert!(crate::sample::SPECIES.contains(&class.as_str()));
        }
        let stream = fs::read(&inputs.nmea).unwrap();
        let (mut good, mut bad, mut void, mut fixes) = (0, 0, 0, Vec::new());
        for line in stream.split(|&byte| byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((body, sum)) = line.trim().strip_prefix('$').and_then(|l| l.split_once('*')) else {
                continue;
            };
            let xor = body.bytes().fold(0u8, |a, b| a ^ b);
            if u8::from_str_radix(sum, 16) != Ok(xor) {
                bad += 1;
                continue;
            }
            good += 1;
            let field: Vec<&str> = body.split(',').collect();
            match (field[0], field.get(2)) {
                ("GPRMC", Some(&"V")) => void += 1,
                ("GPRMC", _) => {
                    assert_eq!(field.len(), 13);
                    let degrees = |text: &str, whole: usize| -> f64 {
                        let minutes: f64 = text[whole..].parse().unwrap();
                        assert!(minutes < 60.0);
                        text[..whole].parse::<f64>().unwrap() + minutes / 60.0
                    };
                    assert_eq!((field[4], field[6]), ("S", "W"));
                    let at = LatLon::new(-degrees(field[3], 2), -degrees(field[5], 3)).unwrap();
                    fixes.push(at.distance_m(inputs.place));
                }
                ("GPGGA", _) => assert_eq!(field.len(), 15),
                _ => {}
            }
        }
        assert_eq!((void, fixes.len() as u32), (WITHOUT_FIX, WITH_FIX));
        assert!(good > 70 && bad >= 1, "{good} {bad}");
        assert!(fixes.iter().all(|metres| *metres < 100.0), "{fixes:?}");
        assert!(fixes[20..].iter().all(|metres| *metres < 10.0), "{fixes:?}");
    }

    #[test]
    fn minutes_carry_into_degrees() {
        assert_eq!(minutes(-36.999_999_999, 2, ["N", "S"]), ("3700.0000".into(), "S"));
        assert_eq!(minutes(8.5, 3, ["E", "W"]), ("00830.0000".into(), "E"));
    }

    #[test]
    fn a_table_without_cameras_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("t.csv");
        fs::write(&table, "lat,lon\n1.5,2.5\n").unwrap();
        let error = write_trap_inputs(dir.path(), &table, 3, 1).unwrap_err();
        assert!(matches!(error, SampleError::NoPhotographs { .. }), "{error}");
    }
}
