//! What becomes of pictures of people, and of places that nobody else is to know.
//!
//! The record is always kept. Its picture is dropped when people or vehicles are likely in it, by the
//! picture alone, by picture and place, or by the crop: whichever is surest. With an owner's key the
//! pictures and places that are kept are encrypted to it, and dropped pictures can be sealed instead.
//! What stays in the clear then: times, classes, and the prior's scores, from which a species' range,
//! and so the region, can be guessed.

use std::str::FromStr;

use csp_models::{
    groups::{Group, Groups},
    labels::Labels,
    picture::{ExifError, ExifTag, with_exif},
    record::{Entry, Event, Picture},
    seal::{self, KeyError, Recipient, SealError},
};
use serde::{Deserialize, Serialize};

use crate::trap::Prediction;

/// What the owner wants; the section `[privacy]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacySettings {
    /// Groups whose pictures are not kept in the clear.
    pub suppress: Vec<Group>,
    /// Probability of such a group, 0 to 1, from which a picture counts as theirs. Low: a person missed
    /// is worse than a badger lost.
    pub threshold: f64,
    /// What happens to their pictures: dropped, or sealed (which needs `seal_to`).
    pub suppressed: Suppressed,
    /// Names of classes or taxa that are people, vehicles or empty frames too.
    pub groups: Groups,
    /// The owner's public key, `age1…`; made by `csp-host keys new --age FILE`.
    pub seal_to: Option<String>,
    /// With a key: places are sealed.
    pub seal_places: bool,
    /// With a key: every picture is sealed.
    pub seal_pictures: bool,
    /// The place is written into the EXIF data of pictures.
    pub place_in_pictures: bool,
}

/// What happens to a suppressed picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppressed {
    /// Its pixels are never stored.
    #[default]
    Drop,
    /// It is encrypted to the owner's key.
    Seal,
}

impl Default for PrivacySettings {
    fn default() -> Self {
        Self {
            suppress: vec![Group::Human, Group::Vehicle],
            threshold: 0.25,
            suppressed: Suppressed::Drop,
            groups: Groups::default(),
            seal_to: None,
            seal_places: true,
            seal_pictures: true,
            place_in_pictures: false,
        }
    }
}

/// Settings that cannot be kept to.
#[derive(Debug, thiserror::Error)]
pub enum PrivacyError {
    /// Not a public key.
    #[error("privacy.seal_to: {0}")]
    Key(#[from] KeyError),
    /// Sealing without a key.
    #[error("privacy.suppressed is \"seal\", which needs privacy.seal_to = \"age1…\"")]
    NoKey,
    /// Not a probability.
    #[error("privacy.threshold is {0}; it must be above 0 and at most 1")]
    Threshold(f64),
    /// A listed name that no class has.
    #[error("privacy.groups: \"{0}\" is neither a class of the model nor a group above one")]
    Unknown(String),
    /// Encryption failed.
    #[error("the picture could not be sealed: {0}")]
    Seal(#[from] SealError),
}

/// The owner's wishes, checked against a model.
#[derive(Clone, Debug)]
pub struct Privacy {
    settings: PrivacySettings,
    recipient: Option<Recipient>,
    /// Group of each class of the model.
    classes: Vec<Option<Group>>,
}

/// What becomes of a picture, and the bytes that are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// For the record.
    pub picture: Picture,
    /// What is written; `None` for nothing. A sealed file's name ends in `.age`.
    pub bytes: Option<Vec<u8>>,
}

impl Privacy {
    /// Checks the settings; `labels` are those of the model, empty for a trap without one.
    ///
    /// # Errors
    /// [`PrivacyError`]: a bad key, threshold or name.
    pub fn new(settings: PrivacySettings, labels: &Labels) -> Result<Self, PrivacyError> {
        let recipient = settings.seal_to.as_deref().map(Recipient::from_str).transpose()?;
        if !(settings.threshold > 0.0 && settings.threshold <= 1.0) {
            return Err(PrivacyError::Threshold(settings.threshold));
        }
        if settings.suppressed == Suppressed::Seal && recipient.is_none() {
            return Err(PrivacyError::NoKey);
        }
        if !labels.is_empty()
            && let Some(name) = settings.groups.unknown(labels)
        {
            return Err(PrivacyError::Unknown(name.into()));
        }
        let classes = labels.0.iter().map(|label| settings.groups.of(label)).collect();
        Ok(Self { settings, recipient, classes })
    }

    /// The group for which a picture is suppressed, if any of its predictions (whole frame, crop, other
    /// frames of the burst) sees it.
    pub fn suppresses(&self, predictions: &[&Prediction]) -> Option<Group> {
        let likely = |group: Group, scores: &[f64]| {
            let of_group = self.classes.iter().zip(scores).filter(|(class, _)| **class == Some(group));
            of_group.map(|(_, p)| p).sum::<f64>() >= self.settings.threshold
        };
        let seen = |group: &Group| {
            predictions.iter().any(|said| likely(*group, &said.image) || likely(*group, &said.fused))
        };
        self.settings.suppress.iter().copied().find(seen)
    }

    /// What is stored of a picture's file. `suppressed` comes from [`Privacy::suppresses`]; a picture
    /// without a prediction has none, and is kept or sealed like any other. `tag` goes into a JPEG's EXIF
    /// data, its place only as the owner allows.
    ///
    /// # Errors
    /// The picture could not be sealed; nothing of it is to be stored then.
    pub fn keep(
        &self,
        file: Vec<u8>,
        suppressed: Option<Group>,
        tag: &ExifTag,
    ) -> Result<Kept, PrivacyError> {
        if let Some(group) = suppressed
            && self.settings.suppressed == Suppressed::Drop
        {
            return Ok(Kept { picture: Picture::Suppressed { group: group.as_str().into() }, bytes: None });
        }
        let sealing = self.recipient.filter(|_| suppressed.is_some() || self.settings.seal_pictures);
        // a place that is sealed in the record does not stand beside it in the clear
        let open_place = self.settings.place_in_pictures && (sealing.is_some() || !self.seals_places());
        let tag = ExifTag { place: tag.place.filter(|_| open_place), ..tag.clone() };
        let file = match with_exif(&file, &tag) {
            Ok(tagged) => tagged,
            // a PNG, or a frame too damaged for anything but to be looked at
            Err(ExifError::NotJpeg | ExifError::Data(_)) => file,
        };
        match sealing {
            Some(recipient) => {
                Ok(Kept { picture: Picture::Sealed, bytes: Some(seal::seal(&recipient, &file)?) })
            }
            None => Ok(Kept { picture: Picture::Kept, bytes: Some(file) }),
        }
    }

    /// Seals the place of an entry, if the owner wants it: the last thing done before it is stored.
    /// Events that name a place become a note that the owner's key opens.
    ///
    /// # Errors
    /// The place could not be sealed; it is then gone from the entry, not left in the clear.
    pub fn seal_entry(&self, entry: &mut Entry) -> Result<(), PrivacyError> {
        let Some(recipient) = self.recipient.filter(|_| self.settings.seal_places) else { return Ok(()) };
        let (place, sealed) = match entry {
            Entry::Prediction(record) => (&mut record.place, &mut record.sealed),
            Entry::Failure(record) => (&mut record.place, &mut record.sealed),
            Entry::Event(record) => {
                if matches!(record.event, Event::FirstFix { .. } | Event::Moved { .. }) {
                    let sealed = seal::seal_event(&recipient, &record.event);
                    let hidden = format!("{}: the place could not be sealed", record.event.kind());
                    record.event = Event::Note { text: sealed.as_ref().map_or(hidden, String::clone) };
                    sealed?;
                }
                return Ok(());
            }
        };
        if let Some(place) = place.take() {
            *sealed = Some(seal::seal_place(&recipient, &place)?);
        }
        Ok(())
    }

    fn seals_places(&self) -> bool {
        self.recipient.is_some() && self.settings.seal_places
    }
}

#[cfg(test)]
mod tests {
    use csp_models::{
        fusion::Decision,
        labels::Label,
        place::{LatLon, Place},
        record::{BoardState, EventRecord, FailureRecord, Provenance},
        seal::Identity,
        time::{TimeSource, Timestamp},
    };

    use super::*;

    fn labels() -> Labels {
        Labels(["lynx", "human", "vehicle", "ranger"].map(Label::new).to_vec())
    }

    fn privacy(change: impl FnOnce(&mut PrivacySettings)) -> Result<Privacy, PrivacyError> {
        let mut settings = PrivacySettings::default();
        change(&mut settings);
        Privacy::new(settings, &labels())
    }

    fn said(image: [f64; 4], fused: [f64; 4]) -> Prediction {
        Prediction {
            image: image.to_vec(),
            prior: None,
            fused: fused.to_vec(),
            decision: Decision::Abstain,
            provenance: Provenance::Image,
            year_mean: false,
            prior_computed: false,
            set_aside: None,
        }
    }

    const LYNX: [f64; 4] = [0.9, 0.05, 0.05, 0.0];

    #[test]
    fn people_are_suppressed_by_whichever_prediction_sees_them() {
        let privacy = privacy(|_| ()).unwrap();
        let lynx = said(LYNX, LYNX);
        assert_eq!(privacy.suppresses(&[&lynx]), None);
        let before_the_place = said([0.6, 0.4, 0.0, 0.0], LYNX);
        assert_eq!(privacy.suppresses(&[&before_the_place]), Some(Group::Human));
        let crop = said([0.1, 0.1, 0.8, 0.0], [0.1, 0.1, 0.8, 0.0]);
        assert_eq!(privacy.suppresses(&[&lynx, &crop]), Some(Group::Vehicle));
        let kept = privacy.keep(b"pixels".to_vec(), Some(Group::Human), &ExifTag::default()).unwrap();
        assert_eq!(kept, Kept { picture: Picture::Suppressed { group: "human".into() }, bytes: None });
        let kept = privacy.keep(b"pixels".to_vec(), None, &ExifTag::default()).unwrap();
        assert_eq!((kept.picture, kept.bytes.as_deref()), (Picture::Kept, Some(&b"pixels"[..])));
    }

    #[test]
    fn the_owner_adds_names_and_switches_groups_off() {
        let ranger = said([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(privacy(|_| ()).unwrap().suppresses(&[&ranger]), None);
        let listed = privacy(|s| s.groups.human.push("Ranger".into())).unwrap();
        assert_eq!(listed.suppresses(&[&ranger]), Some(Group::Human));
        let off = privacy(|s| s.suppress.clear()).unwrap();
        assert_eq!(off.suppresses(&[&said([0.0, 1.0, 0.0, 0.0], LYNX)]), None);
    }

    #[test]
    fn settings_are_checked() {
        assert!(matches!(privacy(|s| s.threshold = 0.0), Err(PrivacyError::Threshold(_))));
        assert!(matches!(privacy(|s| s.threshold = f64::NAN), Err(PrivacyError::Threshold(_))));
        assert!(matches!(privacy(|s| s.suppressed = Suppressed::Seal), Err(PrivacyError::NoKey)));
        assert!(matches!(privacy(|s| s.seal_to = Some("age1x".into())), Err(PrivacyError::Key(_))));
        let typo = privacy(|s| s.groups.vehicle.push("jeeep".into())).unwrap_err();
        assert!(typo.to_string().contains("jeeep"));
    }

    #[test]
    fn with_a_key_pictures_and_places_are_sealed() {
        let key = Identity::generate().unwrap();
        let public = key.recipient().to_string();
        let privacy = privacy(|s| {
            s.seal_to = Some(public);
            s.suppressed = Suppressed::Seal;
        })
        .unwrap();
        for group in [None, Some(Group::Human)] {
            let kept = privacy.keep(b"pixels".to_vec(), group, &ExifTag::default()).unwrap();
            assert_eq!(kept.picture, Picture::Sealed);
            assert_eq!(seal::open(std::slice::from_ref(&key), &kept.bytes.unwrap()).unwrap(), b"pixels");
        }

        let place = Place { uncertainty_m: 5.0, ..Place::configured(LatLon::new(46.5, 8.0).unwrap()) };
        let time = Timestamp { millis: 0, source: TimeSource::SinceBoot };
        let mut entry = Entry::Failure(FailureRecord {
            seq: 0,
            time,
            image: "a.jpg".into(),
            image_sha256: None,
            place: Some(place),
            error: String::new(),
            board: BoardState::default(),
            sealed: None,
        });
        privacy.seal_entry(&mut entry).unwrap();
        let Entry::Failure(record) = &entry else { unreachable!() };
        assert_eq!(record.place, None);
        let sealed = record.sealed.as_ref().unwrap();
        assert_eq!(seal::open_place(std::slice::from_ref(&key), sealed), Ok(place));

        let event = Event::FirstFix { place };
        let mut entry =
            Entry::Event(EventRecord { seq: 1, time, board: BoardState::default(), event: event.clone() });
        privacy.seal_entry(&mut entry).unwrap();
        let Entry::Event(record) = entry else { unreachable!() };
        let Event::Note { text } = &record.event else { panic!("{:?}", record.event) };
        assert_eq!(seal::open_event(&[key], text), Some(Ok(event)));
    }

    #[test]
    fn a_sealed_place_is_in_no_open_picture() {
        let jpeg = csp_models::picture::encode_jpeg(&csp_models::picture::RgbImage::new(16, 16), 80).unwrap();
        let place = Some(Place::configured(LatLon::new(46.5, 8.0).unwrap()));
        let tag = ExifTag { place, ..ExifTag::default() };
        let plain = |settings: fn(&mut PrivacySettings)| {
            let kept = privacy(settings).unwrap().keep(jpeg.clone(), None, &tag).unwrap();
            assert_eq!(kept.picture, Picture::Kept);
            kept.bytes.unwrap().len() - jpeg.len()
        };
        assert_eq!(plain(|_| ()), 0, "not unless it is allowed");
        assert!(plain(|s| s.place_in_pictures = true) > 100);
        let public = "age1rm6s38egddkkv5nu4nx6wu76008khslvz8m64zsd9w4wnlacmc3qly3yxh";
        assert_eq!(public.parse::<Recipient>().unwrap().to_string(), public);
        assert_eq!(
            plain(|s| {
                s.place_in_pictures = true;
                s.seal_pictures = false;
                s.seal_to = Some("age1rm6s38egddkkv5nu4nx6wu76008khslvz8m64zsd9w4wnlacmc3qly3yxh".into());
            }),
            0
        );
    }
}
