//! The answers row by row, as a CSV that others can compute every figure from.

use std::{
    io::{self, BufWriter},
    path::Path,
};

use csp_models::{
    bundle::write_atomically,
    labels::{ClassId, Labels},
    place::LatLon,
};

use super::{Answer, Answers};
use crate::data::{Dataset, Row};

/// Its columns: the row asked, then the class named, its probability and the rank of the true class by image
/// and place, by the image alone, and by the place alone. A rank, 1 = best, is empty where the model does not know it;
/// the columns of a branch that has no answer are empty. An answer is right where the rank is 1.
const COLUMNS: [&str; 13] = [
    "image_path",
    "lat",
    "lon",
    "true",
    "predicted",
    "probability",
    "rank",
    "image_predicted",
    "image_probability",
    "image_rank",
    "place_predicted",
    "place_probability",
    "place_rank",
];

/// Writes the answers to `rows` of `data` by a model with these classes, in one go: numbers with all their
/// digits, a line for each row.
///
/// # Errors
/// The system's reason.
pub fn write_predictions(
    path: &Path,
    data: &Dataset,
    model: &Labels,
    rows: &[(&Row, ClassId)],
    answers: &Answers,
) -> io::Result<()> {
    let own = |answer: &Answer| {
        let rank = answer.rank.map_or(String::new(), |rank| rank.to_string());
        [model.name(answer.best).to_string(), answer.confidence.to_string(), rank]
    };
    let branch = |answer: &Option<Answer>| answer.as_ref().map_or_else(Default::default, own);
    write_atomically(path, |file| {
        let mut csv = csv::Writer::from_writer(BufWriter::new(file));
        csv.write_record(COLUMNS)?;
        let fused = answers.fused.iter().zip(&answers.image).zip(&answers.location);
        for ((row, _), ((fused, image), location)) in rows.iter().zip(fused) {
            let picture = row.image.as_deref().map_or(String::new(), |path| path.display().to_string());
            let degrees = |of: fn(LatLon) -> f64| row.place.map_or(String::new(), |at| of(at).to_string());
            let truth = row.class.map_or(String::new(), |class| data.labels.name(class).to_string());
            let asked = [picture, degrees(LatLon::lat), degrees(LatLon::lon), truth];
            let said = own(fused).into_iter().chain(branch(image)).chain(branch(location));
            csv.write_record(asked.into_iter().chain(said))?;
        }
        csv.flush()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Options,
        evaluation::{Reliability, Scored, UNKNOWN, accuracy, top},
    };
    use csp_models::{fusion::Fusion, labels::Label};

    #[test]
    fn every_figure_can_be_computed_from_the_file() {
        let row = |i: u16| Row {
            image: (!i.is_multiple_of(3)).then(|| format!("a,{i}.jpg").into()),
            place: LatLon::new(f64::from(i) / 7.0, -1.25).ok(),
            class: Some(ClassId(i % 4)),
            ..Row::default()
        };
        let data = Dataset {
            source: "t.csv".into(),
            rows: (0..40).map(row).collect(),
            labels: Labels(["a \"b\"", "c", "d", "dodo"].map(Label::new).to_vec()),
            options: Options::default(),
            sha256: String::new(),
        };
        let model = Labels(data.labels.0[..3].to_vec());
        let truth = |row: &Row| row.class.filter(|class| class.index() < 3).unwrap_or(UNKNOWN);
        let rows: Vec<(&Row, ClassId)> = data.rows.iter().map(|row| (row, truth(row))).collect();
        let scored = rows.iter().enumerate().map(|(i, (row, truth))| {
            let score = |k: usize| ((i * 37 + k * 53) % 29) as f64 / 29.0;
            let logits = [0, 1, 2].map(|k| 3.0 * score(k + 5) as f32);
            let image = row.image.as_ref().map(|_| logits.to_vec());
            Scored { truth: *truth, image, presence: Some([0, 1, 2].map(score).to_vec()) }
        });
        let answers = Answers::of(&Fusion::default(), scored);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.csv");
        write_predictions(&path, &data, &model, &rows, &answers).unwrap();

        let mut csv = csv::Reader::from_path(&path).unwrap();
        assert_eq!(csv.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(lines.len(), rows.len());
        assert_eq!(
            (&lines[4][0], &lines[4][1], &lines[4][2]),
            ("a,4.jpg", (4.0 / 7.0).to_string().as_str(), "-1.25")
        );
        assert_eq!((&lines[3][0], &lines[3][3], &lines[3][6]), ("", "dodo", ""), "no picture, no rank");
        assert_eq!((&lines[3][7], &lines[4][3]), ("", "a \"b\""));
        let image: Vec<Answer> = answers.image.iter().copied().flatten().collect();
        let location: Vec<Answer> = answers.location.iter().copied().flatten().collect();
        for (column, answers) in [(4, &answers.fused), (7, &image), (10, &location)] {
            let of: Vec<Answer> = (lines.iter().filter(|line| !line[column].is_empty()))
                .map(|line| Answer {
                    best: model.find(&line[column]).unwrap(),
                    confidence: line[column + 1].parse().unwrap(),
                    rank: line[column + 2].parse().ok(),
                })
                .collect();
            assert_eq!(of, *answers);
            assert_eq!(accuracy(&of), accuracy(answers));
            let ranks = |answers: &[Answer]| answers.iter().map(|answer| answer.rank).collect::<Vec<_>>();
            assert_eq!(top(2, &ranks(&of)), top(2, &ranks(answers)));
            assert_eq!(Reliability::of(&of), Reliability::of(answers));
        }
        let error = write_predictions(&dir.path().join("no/p.csv"), &data, &model, &rows, &answers);
        assert!(error.is_err());
    }
}
