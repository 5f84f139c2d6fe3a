//! Which column is which: names matched the way people write them.

use super::problem::quoted;

/// What a column of a table can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Image,
    Lat,
    Lon,
    Date,
    Label,
    Split,
    Camera,
    User,
    Uncertainty,
}

/// The names of a role, best first: a name of an earlier tier wins over one of a later tier, two
/// columns in one tier are ambiguous. Names are compared by their letters and digits, in lower case.
type Tiers = &'static [&'static [&'static str]];

const IMAGE: Tiers = &[
    &["imagepath"],
    &["filepath", "path", "imagefilepath", "relativepath", "imgpath", "photopath"],
    &["file", "filename", "image", "imagefile", "imagefilename", "imagename", "img", "photo", "picture"],
];
const LAT: Tiers = &[
    &["lat", "latitude", "decimallatitude", "latdeg", "latitudedeg", "gpslat", "gpslatitude"],
    &["y", "ycoord", "ycoordinate"],
];
const LON: Tiers = &[
    &[
        "lon",
        "lng",
        "long",
        "longitude",
        "decimallongitude",
        "londeg",
        "longitudedeg",
        "gpslon",
        "gpslong",
        "gpslongitude",
    ],
    &["x", "xcoord", "xcoordinate"],
];
// Any of several dates of a row gives its season, so these only have an order.
const DATE: Tiers = &[
    &["date"],
    &["datetime"],
    &["timestamp"],
    &["eventdate"],
    &["observedon"],
    &["datetimeoriginal"],
    &["datetaken"],
    &["captured", "capturedat", "capturedon"],
    &["observationdate"],
    &["dateobserved"],
    &["datecaptured"],
    &["capturedate"],
];
/// A date in three columns.
const YEAR_MONTH_DAY: [&str; 3] = ["year", "month", "day"];
const LABEL: Tiers = &[
    &["label"],
    &[
        "class",
        "classname",
        "classlabel",
        "species",
        "speciesname",
        "scientificname",
        "taxon",
        "taxonname",
        "category",
        "categoryname",
        "labelname",
        "target",
    ],
    &["commonname", "vernacularname"],
    &["speciesid", "spid", "taxonid", "classid", "categoryid"],
];
const SPLIT: Tiers = &[&["split"], &["subset", "set", "fold", "partition"]];
const CAMERA: Tiers = &[
    &["camera"],
    &["cameraid"],
    &["deployment"],
    &["deploymentid"],
    &["location"],
    &["locationid"],
    &["site"],
    &["siteid"],
    &["sitename"],
    &["station"],
    &["stationid"],
    &["locality"],
    &["trap"],
    &["trapid"],
];

const USER: Tiers = &[
    &["userid"],
    &["observerid"],
    &["user"],
    &["observer"],
    &["photographer"],
    &["userlogin", "username"],
    &["recordedby"],
];
const UNCERTAINTY: Tiers = &[
    &["uncertaintym", "uncertaintymeters", "uncertaintymetres"],
    &["coordinateuncertaintyinmeters"],
    &["coordinateuncertainty"],
    &["locationuncertainty"],
    &["locuncert"],
    &["positionalaccuracy"],
    &["gpsaccuracy"],
];

impl Role {
    fn tiers(self) -> Tiers {
        match self {
            Self::Image => IMAGE,
            Self::Lat => LAT,
            Self::Lon => LON,
            Self::Date => DATE,
            Self::Label => LABEL,
            Self::Split => SPLIT,
            Self::Camera => CAMERA,
            Self::User => USER,
            Self::Uncertainty => UNCERTAINTY,
        }
    }

    /// The name our documentation uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image_path",
            Self::Lat => "lat",
            Self::Lon => "lon",
            Self::Date => "date",
            Self::Label => "label",
            Self::Split => "split",
            Self::Camera => "camera",
            Self::User => "user",
            Self::Uncertainty => "uncertainty_m",
        }
    }
}

/// A column that was recognised.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    /// Its position.
    pub(crate) index: usize,
    /// Its name as the file spells it.
    pub(crate) name: String,
}

/// Where everything stands in a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Columns {
    pub(crate) image: Option<Column>,
    pub(crate) lat: Column,
    pub(crate) lon: Column,
    pub(crate) date: Option<Column>,
    /// Year, month and day, where there is no column with the whole date.
    pub(crate) date_parts: Option<[Column; 3]>,
    pub(crate) label: Option<Column>,
    pub(crate) split: Option<Column>,
    pub(crate) camera: Option<Column>,
    pub(crate) user: Option<Column>,
    pub(crate) uncertainty: Option<Column>,
}

impl Columns {
    /// The columns of a header.
    ///
    /// # Errors
    /// A sentence: no latitude or longitude (the columns found are named), or two columns for one role.
    pub(crate) fn of(header: &[String]) -> Result<Self, String> {
        let need = |role: Role| {
            find(header, role)?.ok_or_else(|| {
                let found = header.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
                let number = |word: &str| word.parse::<f64>().is_ok();
                let headless = header.iter().any(|name| name.split_whitespace().any(number));
                let named = header.iter().filter(|name| !name.is_empty()).count();
                let title = named <= 1 || header[0].starts_with('#');
                let hint = if title {
                    "; this line looks like a title or a comment: remove what stands above the names of the columns"
                } else if headless {
                    "; the first line has to name the columns, which commas or tabs part, as in `image_path,lat,lon`"
                } else {
                    ""
                };
                format!("no {} column among {found}; call it `{}`{hint}", role.long(), role.name())
            })
        };
        let date = find(header, Role::Date)?;
        Ok(Self {
            lat: need(Role::Lat)?,
            lon: need(Role::Lon)?,
            image: find(header, Role::Image)?,
            date_parts: date_parts(header).filter(|_| date.is_none()),
            date,
            label: find(header, Role::Label)?,
            split: find(header, Role::Split)?,
            camera: find(header, Role::Camera)?,
            user: find(header, Role::User)?,
            uncertainty: find(header, Role::Uncertainty)?,
        })
    }

    /// The columns in use.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Column> {
        let optional = [&self.image, &self.date, &self.label, &self.split];
        let more = [&self.camera, &self.user, &self.uncertainty];
        let parts = self.date_parts.iter().flatten();
        [&self.lat, &self.lon].into_iter().chain(optional.into_iter().chain(more).flatten()).chain(parts)
    }

    /// True when the column at that position is in use.
    pub(crate) fn uses(&self, index: usize) -> bool {
        self.all().any(|column| column.index == index)
    }

    /// How the columns were understood, for the user to check: `lat ← "Latitude"`.
    pub(crate) fn describe(&self) -> String {
        let given = [
            (Role::Image, self.image.as_ref()),
            (Role::Lat, Some(&self.lat)),
            (Role::Lon, Some(&self.lon)),
            (Role::Date, self.date.as_ref()),
            (Role::Label, self.label.as_ref()),
            (Role::Split, self.split.as_ref()),
            (Role::Camera, self.camera.as_ref()),
            (Role::User, self.user.as_ref()),
            (Role::Uncertainty, self.uncertainty.as_ref()),
        ];
        let parts = self.date_parts.as_ref();
        let named = given.into_iter().filter_map(|(role, column)| {
            if let Some(parts) = parts.filter(|_| role == Role::Date) {
                let [year, month, day] = parts.each_ref().map(|column| quoted(&column.name));
                return Some(format!("date ← {year}, {month}, {day}"));
            }
            let column = column?;
            Some(if column.name == role.name() {
                role.name().to_string()
            } else {
                format!("{} ← {}", role.name(), quoted(&column.name))
            })
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

impl Role {
    fn long(self) -> &'static str {
        match self {
            Self::Lat => "latitude",
            Self::Lon => "longitude",
            Self::Camera => "location",
            other => other.name(),
        }
    }
}

/// The column of a role, `None` when there is none.
///
/// # Errors
/// A sentence naming the two columns that could both be it.
pub(crate) fn find(header: &[String], role: Role) -> Result<Option<Column>, String> {
    for tier in role.tiers() {
        let mut hits =
            header.iter().enumerate().filter(|(_, name)| tier.contains(&plain(name).as_str())).map(
                |(index, name)| Column {
                    index,
                    name: name.trim().trim_start_matches('\u{feff}').to_string(),
                },
            );
        let Some(first) = hits.next() else { continue };
        if let Some(second) = hits.next() {
            return Err(format!(
                "columns {} and {} could both be the {}; call the right one `{}` and rename or drop the other",
                quoted(&first.name),
                quoted(&second.name),
                role.long(),
                role.name(),
            ));
        }
        return Ok(Some(first));
    }
    Ok(None)
}

fn date_parts(header: &[String]) -> Option<[Column; 3]> {
    let of = |part: &str| {
        let index = header.iter().position(|name| plain(name) == part)?;
        Some(Column { index, name: header[index].trim().to_string() })
    };
    let [year, month, day] = YEAR_MONTH_DAY.map(of);
    Some([year?, month?, day?])
}

/// How many roles a header fills: tells the delimiter.
pub(crate) fn recognised(header: &[String]) -> usize {
    use Role::{Camera, Date, Image, Label, Lat, Lon, Split, Uncertainty, User};
    [Image, Lat, Lon, Date, Label, Split, Camera, User, Uncertainty]
        .into_iter()
        .filter(|&role| !matches!(find(header, role), Ok(None)))
        .count()
}

/// Letters and digits in lower case, without a unit in brackets: `Latitude (°)` is `latitude`.
fn plain(name: &str) -> String {
    let name = name.split(['(', '[']).next().unwrap_or(name);
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &str) -> Result<Columns, String> {
        Columns::of(&header.split(',').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn names_as_people_write_them() {
        for header in [
            "image_path,lat,lon,date,label,split,camera",
            "Image Path,Latitude,Longitude,Event Date,Species,Subset,Site",
            "FILE,decimalLatitude,decimalLongitude,eventDate,scientificName,set,deploymentID",
            "\u{feff}filename,Y,X,timestamp,Class,fold,location_id",
            "photo, LATITUDE (°) ,lng,observed_on,taxon,partition,Station",
        ] {
            let found = columns(header).unwrap();
            let order = [found.image, Some(found.lat), Some(found.lon), found.date, found.label, found.split];
            for (index, column) in order.into_iter().chain([found.camera]).enumerate() {
                assert_eq!(column.unwrap().index, index, "{header}");
            }
        }
    }

    #[test]
    fn a_better_name_wins() {
        // pixel boxes have x and y too
        let found = columns("x,y,lat,lon,filename,image_path,class,label").unwrap();
        assert_eq!((found.lat.index, found.lon.index), (2, 3));
        assert_eq!((found.image.unwrap().index, found.label.unwrap().index), (5, 7));
    }

    #[test]
    fn dates_by_their_many_names_and_in_three_columns() {
        for date in ["OBSERVATION DATE", "date_captured", "capture_date", "date_observed"] {
            assert_eq!(columns(&format!("lat,lon,{date}")).unwrap().date.unwrap().index, 2, "{date}");
        }
        let found = columns("Day,lat,lon,Month,Year").unwrap();
        assert!(found.describe().contains("date ← \"Year\", \"Month\", \"Day\""), "{}", found.describe());
        assert!(found.uses(0) && found.uses(3) && found.uses(4));
        // the whole date wins; two parts are none
        assert_eq!(columns("lat,lon,year,month,day,eventDate").unwrap().date_parts, None);
        assert_eq!(columns("lat,lon,year,month").unwrap().date_parts, None);
    }

    #[test]
    fn who_and_how_far_off() {
        for header in [
            "lat,lon,user_id,location_uncertainty",
            "lat,lon,recordedBy,coordinateUncertaintyInMeters",
            "lat,lon,Observer,uncertainty_m",
            "lat,lon,photographer,loc_uncert",
        ] {
            let found = columns(header).unwrap();
            assert_eq!((found.user.unwrap().index, found.uncertainty.unwrap().index), (2, 3), "{header}");
        }
    }

    #[test]
    fn two_for_one_role_is_an_error_naming_both() {
        // Darwin Core's `class` is Mammalia
        let error = columns("lat,lon,class,species").unwrap_err();
        assert!(error.contains("\"class\" and \"species\"") && error.contains("`label`"), "{error}");
        assert!(columns("lat,lat,lon").is_err());
        assert!(columns("lat,latitude,lon").is_err());
    }

    #[test]
    fn no_place_is_an_error_naming_what_is_there() {
        let error = columns("image_path,longitude,label").unwrap_err();
        assert!(error.contains("latitude") && error.contains("\"longitude\", \"label\""), "{error}");
        let error = columns("a.jpg,44.03,28.55,crop").unwrap_err();
        assert!(error.contains("first line"), "{error}");
        for above in ["# exported 2024-05-01,by Ann", "Our photographs,,,", "Our photographs"] {
            let error = columns(above).unwrap_err();
            assert!(error.contains("title or a comment"), "{error}");
        }
    }
}
