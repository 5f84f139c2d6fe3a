//! What becomes of pictures of people, and of places that nobody else is to know.
//!
//! The record is always kept. Who is in view [`Suppression`] says, from the picture alone, from picture and
//! place, and from the crop: whichever is surest. With an owner's key the pictures and places that are kept
//! are encrypted to it, and dropped pictures can be sealed instead. What stays in the clear then: times,
//! classes, and the prior's scores, from which a species' range, and so the region, can be guessed.

use std::{borrow::Cow, str::FromStr};

use csp_models::{
    groups::Group,
    labels::Labels,
    picture::{ExifError, ExifTag, with_exif},
    record::{Entry, Event, Picture},
    seal::{self, KeyError, Recipient, SealError},
};

use crate::{
    config::{PrivacyConfig, Suppressed},
    trap::{Taken, suppress::Suppression},
};

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
    /// Encryption failed.
    #[error("the picture could not be sealed: {0}")]
    Seal(#[from] SealError),
}

impl PrivacyError {
    /// The key of the configuration that it is about.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Key(_) | Self::Seal(_) => "privacy.seal_to",
            Self::NoKey => "privacy.suppressed",
            Self::Threshold(_) => "privacy.threshold",
        }
    }
}

/// The owner's wishes, checked.
#[derive(Clone, Debug)]
pub struct Privacy {
    config: PrivacyConfig,
    recipient: Option<Recipient>,
}

/// What is stored of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<'f> {
    /// For the record.
    pub picture: Picture,
    /// The file as its owner will read it; `None` when the picture is dropped.
    pub plain: Option<Cow<'f, [u8]>>,
    /// The same encrypted: then this is what is written.
    pub sealed: Option<Vec<u8>>,
}

impl Privacy {
    /// Checks a section.
    ///
    /// # Errors
    /// A bad key or threshold.
    pub fn new(config: &PrivacyConfig) -> Result<Self, PrivacyError> {
        let recipient = config.seal_to.as_deref().map(Recipient::from_str).transpose()?;
        if !(config.threshold > 0.0 && config.threshold <= 1.0) {
            return Err(PrivacyError::Threshold(config.threshold));
        }
        if config.suppressed == Suppressed::Seal && recipient.is_none() {
            return Err(PrivacyError::NoKey);
        }
        Ok(Self { config: config.clone(), recipient })
    }

    /// The group of each class of a model.
    pub fn groups(&self, labels: &Labels) -> Vec<Option<Group>> {
        self.config.groups().of_each(labels)
    }

    /// Where the wishes go further than they can be kept to, for a person. `labels` are those of the model,
    /// if there is one; `site` is whether the configuration names the place.
    pub fn doubts(&self, labels: Option<&Labels>, site: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        if let Some(labels) = labels {
            if let Some(name) = self.config.groups().unknown(labels) {
                doubts.push(format!("\"{name}\" is neither a class of the model nor a taxon above one"));
            }
            let seen = self.groups(labels);
            let unseen = self.config.suppress.iter().filter(|group| !seen.contains(&Some(**group)));
            let unseen: Vec<&str> = unseen.map(|group| group.as_str()).collect();
            if self.suppression().is_some() && !unseen.is_empty() {
                let unseen = unseen.join(" or ");
                doubts.push(format!("the model has no class that is {unseen}: such pictures are kept"));
            }
        }
        if self.seals_places() && site {
            doubts.push("places are sealed, but site.lat stands in the configuration in the clear".into());
        }
        doubts.iter().map(|doubt| format!("privacy: {doubt}")).collect()
    }

    /// Whose pictures wait for the model to look at them; `None` when all are treated alike.
    pub fn suppression(&self) -> Option<Suppression> {
        let alike = self.config.suppressed == Suppressed::Seal && self.config.seal_pictures;
        (!alike && !self.config.suppress.is_empty())
            .then(|| Suppression::new(self.config.suppress.clone(), self.config.threshold))
    }

    /// Whether places are for the owner alone.
    pub fn seals_places(&self) -> bool {
        self.recipient.is_some() && self.config.seal_places
    }

    /// What is stored of a picture's file. A picture without a prediction is not suppressed, and kept or
    /// sealed like any other. `taken` goes into a JPEG's EXIF data, its place only as the owner allows; a
    /// picture from elsewhere has none and stays as it is.
    ///
    /// # Errors
    /// The picture could not be sealed; nothing of it is to be stored then.
    pub fn store<'f>(
        &self,
        file: &'f [u8],
        suppressed: Option<Group>,
        taken: Option<Taken>,
        camera: &str,
    ) -> Result<Stored<'f>, PrivacyError> {
        if let Some(group) = suppressed
            && self.config.suppressed == Suppressed::Drop
        {
            let picture = Picture::Suppressed { group: group.as_str().into() };
            return Ok(Stored { picture, plain: None, sealed: None });
        }
        let sealing = self.recipient.filter(|_| suppressed.is_some() || self.config.seal_pictures);
        let plain = taken.map_or(Cow::Borrowed(file), |Taken { time, place }| {
            // a place that is sealed in the record does not stand beside it in the clear
            let open_place = self.config.place_in_pictures && (sealing.is_some() || !self.seals_places());
            let place = place.filter(|_| open_place);
            match with_exif(file, &ExifTag { time: Some(time), place, camera: Some(camera.into()) }) {
                Ok(tagged) => tagged.into(),
                // a PNG, or a frame too damaged for anything but to be looked at
                Err(ExifError::NotJpeg | ExifError::Data(_)) => file.into(),
            }
        });
        let sealed = sealing.map(|recipient| seal::seal(&recipient, &plain)).transpose()?;
        let picture = if sealed.is_some() { Picture::Sealed } else { Picture::Kept };
        Ok(Stored { picture, plain: Some(plain), sealed })
    }

    /// Seals the place of an entry, if the owner wants it: the last thing done before it is stored.
    /// Events that name a place become a note that the owner's key opens.
    ///
    /// # Errors
    /// The place could not be sealed; it is then gone from the entry, not left in the clear.
    pub fn seal_entry(&self, entry: &mut Entry) -> Result<(), PrivacyError> {
        let Some(recipient) = self.recipient.filter(|_| self.config.seal_places) else { return Ok(()) };
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
}

#[cfg(test)]
mod tests {
    use csp_models::{
        labels::Label,
        picture::{RgbImage, encode_jpeg},
        place::{LatLon, Place},
        record::{BoardState, EventRecord, FailureRecord},
        seal::Identity,
        time::{TimeSource, Timestamp},
    };

    use super::*;

    fn privacy(change: impl FnOnce(&mut PrivacyConfig)) -> Result<Privacy, PrivacyError> {
        let mut config = PrivacyConfig::default();
        change(&mut config);
        Privacy::new(&config)
    }

    #[test]
    fn people_are_dropped_and_animals_kept() {
        let privacy = privacy(|_| ()).unwrap();
        let dropped = privacy.store(b"pixels", Some(Group::Human), None, "").unwrap();
        let picture = Picture::Suppressed { group: "human".into() };
        assert_eq!(dropped, Stored { picture, plain: None, sealed: None });
        let kept = privacy.store(b"pixels", None, None, "").unwrap();
        assert_eq!((kept.picture, kept.plain.as_deref()), (Picture::Kept, Some(&b"pixels"[..])));
    }

    #[test]
    fn the_owner_adds_names_and_switches_groups_off() {
        let labels = Labels(["lynx", "human", "ranger"].map(Label::new).to_vec());
        let human = Some(Group::Human);
        let plain = privacy(|c| c.suppress = vec![Group::Human]).unwrap();
        assert_eq!(plain.groups(&labels), [None, human, None]);
        assert!(plain.doubts(Some(&labels), true).is_empty());
        let listed = privacy(|c| c.human = vec!["Ranger".into(), "rangr".into()]).unwrap();
        assert_eq!(listed.groups(&labels), [None, human, human], "a slip takes nothing else with it");
        let doubts = listed.doubts(Some(&labels), false).join("\n");
        assert!(doubts.contains("\"rangr\"") && doubts.contains("no class that is vehicle"), "{doubts}");
        assert!(privacy(|_| ()).unwrap().suppression().is_some());
        assert_eq!(privacy(|c| c.suppress.clear()).unwrap().suppression(), None);
    }

    #[test]
    fn settings_are_checked() {
        assert!(matches!(privacy(|c| c.threshold = 0.0), Err(PrivacyError::Threshold(_))));
        assert!(matches!(privacy(|c| c.threshold = f64::NAN), Err(PrivacyError::Threshold(_))));
        assert!(matches!(privacy(|c| c.suppressed = Suppressed::Seal), Err(PrivacyError::NoKey)));
        assert!(matches!(privacy(|c| c.seal_to = Some("age1x".into())), Err(PrivacyError::Key(_))));
    }

    #[test]
    fn with_a_key_pictures_and_places_are_sealed() {
        let key = Identity::generate().unwrap();
        let public = key.recipient().to_string();
        let privacy = privacy(|c| {
            c.seal_to = Some(public);
            c.suppressed = Suppressed::Seal;
        })
        .unwrap();
        assert_eq!(privacy.suppression(), None, "all alike: nothing has to wait for the model");
        for group in [None, Some(Group::Human)] {
            let stored = privacy.store(b"pixels", group, None, "").unwrap();
            assert_eq!(stored.picture, Picture::Sealed);
            let sealed = stored.sealed.unwrap();
            assert_eq!(seal::open(std::slice::from_ref(&key), &sealed).unwrap(), b"pixels");
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
        let jpeg = encode_jpeg(&RgbImage::new(16, 16), 80).unwrap();
        let taken = Taken {
            time: Timestamp { millis: 1_800_000_000_000, source: TimeSource::Gps },
            place: Some(Place::configured(LatLon::new(46.5, 8.0).unwrap())),
        };
        let exif = |change: fn(&mut PrivacyConfig)| {
            let stored = privacy(change).unwrap();
            let stored = stored.store(&jpeg, None, Some(taken), "trap-7").unwrap();
            assert_eq!(stored.picture, Picture::Kept);
            let plain = stored.plain.unwrap().into_owned();
            let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(plain)).unwrap();
            let has = |tag| exif.get_field(tag, exif::In::PRIMARY).is_some();
            assert!(has(exif::Tag::DateTimeOriginal) && has(exif::Tag::Model));
            has(exif::Tag::GPSLatitude)
        };
        assert!(!exif(|_| ()), "not unless it is allowed");
        assert!(exif(|c| c.place_in_pictures = true));
        assert!(!exif(|c| {
            c.place_in_pictures = true;
            c.seal_pictures = false;
            c.seal_to = Some("age1rm6s38egddkkv5nu4nx6wu76008khslvz8m64zsd9w4wnlacmc3qly3yxh".into());
        }));
        let foreign = privacy(|c| c.place_in_pictures = true).unwrap();
        let foreign = foreign.store(&jpeg, None, None, "trap-7").unwrap();
        assert_eq!(foreign.plain.as_deref(), Some(&jpeg[..]), "what came from elsewhere stays as it is");
    }
}
