//! Means and standard deviations over the seeds, as people and programs read them.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{Figures, Measures, Method, SweepOptions};
use crate::data::SplitBy;
use crate::plots::Series;

/// Every figure of a sweep. As text it is Markdown, as JSON a list of lines of the CSV.
#[derive(Clone, Debug)]
pub struct SweepTable {
    plans: Vec<SplitBy>,
    labels: Vec<f64>,
    methods: Vec<Method>,
    /// By (plan, ratio) as numbered above: the figures of each seed so far.
    cells: BTreeMap<(usize, usize), Vec<BTreeMap<Method, Figures>>>,
}

/// Mean and standard deviation; one value has none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    sd: Option<f64>,
}

impl Spread {
    /// With n − 1 in the denominator.
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }
}

/// What can be read off [`Measures`], with its name.
type Reading = (&'static str, fn(&Measures) -> f64);

const READINGS: [Reading; 4] = [
    ("top1", |m| m.accuracy.top1),
    ("top3", |m| m.accuracy.top3),
    ("mrr", |m| m.accuracy.mrr),
    ("ece", |m| m.ece),
];

/// One line of CSV and JSON: a method, fused with the image or alone, on a split and ratio.
#[derive(Serialize)]
struct Line {
    split: String,
    labels: f64,
    method: Method,
    input: &'static str,
    seeds: usize,
    n: usize,
    #[serde(flatten)]
    readings: BTreeMap<&'static str, Spread>,
}

/// Picks the answers with or without the image.
type Pick = fn(&Figures) -> Option<Measures>;

const INPUTS: [(&str, Pick); 2] = [("fused", |f| Some(f.fused)), ("place", |f| f.alone)];

impl SweepTable {
    pub(super) fn new(options: &SweepOptions<'_>) -> Self {
        Self {
            plans: options.plans.to_vec(),
            labels: options.labels.to_vec(),
            methods: options.methods.to_vec(),
            cells: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, plan: usize, ratio: usize, figures: BTreeMap<Method, Figures>) {
        self.cells.entry((plan, ratio)).or_default().push(figures);
    }

    /// The answers of a method, a seed each; empty where it has none.
    fn measures(&self, at: (usize, usize), method: Method, pick: Pick) -> Vec<Measures> {
        let seeds = self.cells.get(&at).map_or(&[][..], Vec::as_slice);
        seeds.iter().filter_map(|figures| figures.get(&method).and_then(pick)).collect()
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for &(plan, ratio) in self.cells.keys() {
            for &method in &self.methods {
                for (input, pick) in INPUTS {
                    let measures = self.measures((plan, ratio), method, pick);
                    let Some(first) = measures.first() else { continue };
                    let spread = |(name, reading): Reading| {
                        (name, Spread::of(&measures.iter().map(reading).collect::<Vec<_>>()))
                    };
                    lines.push(Line {
                        split: self.plans[plan].to_string(),
                        labels: self.labels[ratio],
                        method,
                        input: if method == Method::Image { "image" } else { input },
                        seeds: measures.len(),
                        n: first.accuracy.n,
                        readings: READINGS.map(spread).into(),
                    });
                }
            }
        }
        lines
    }

    /// One line for each (split, ratio, method, input), with mean and deviation of each figure.
    pub(super) fn csv(&self) -> String {
        let columns = READINGS.map(|(name, _)| format!("{name}_mean,{name}_sd")).join(",");
        let mut text = format!("split,labels,method,input,seeds,n,{columns}\n");
        for line in self.lines() {
            let Line { split, labels, method, input, seeds, n, readings } = line;
            let method = serde_json::to_value(method).unwrap_or_default();
            let method = method.as_str().unwrap_or_default();
            text += &format!("{split},{labels},{method},{input},{seeds},{n}");
            for (name, _) in READINGS {
                let Spread { mean, sd } = readings[name];
                text += &format!(",{mean:.6},{}", sd.map_or(String::new(), |sd| format!("{sd:.6}")));
            }
            text.push('\n');
        }
        text
    }

    /// The fused top-1 of every method on one plan, for a picture.
    pub(super) fn series(&self, plan: usize) -> Vec<Series> {
        let series = self.methods.iter().map(|&method| Series {
            name: method.title().into(),
            points: (self.labels.iter().enumerate())
                .filter_map(|(ratio, &share)| {
                    let measures = self.measures((plan, ratio), method, INPUTS[0].1);
                    let values: Vec<f64> = measures.iter().map(|m| m.accuracy.top1).collect();
                    let Spread { mean, sd } = Spread::of(&values);
                    (!values.is_empty()).then_some((share, mean, sd.unwrap_or(0.0)))
                })
                .collect(),
        });
        series.collect()
    }

    /// A table of one figure: rows are splits and ratios, columns methods.
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        heading: &str,
        pick: Pick,
        reading: fn(&Measures) -> f64,
    ) -> fmt::Result {
        let shown: Vec<Method> = (self.methods.iter().copied())
            .filter(|&method| self.cells.keys().any(|&at| !self.measures(at, method, pick).is_empty()))
            .collect();
        if shown.is_empty() {
            return Ok(());
        }
        let split = self.plans.len() > 1;
        writeln!(f, "{heading}\n")?;
        write!(f, "|{} labels |", if split { " split |" } else { "" })?;
        shown.iter().try_for_each(|method| write!(f, " {} |", method.title()))?;
        writeln!(f, "\n|{}{}", if split { "---|" } else { "" }, "---|".repeat(shown.len() + 1))?;
        for &(plan, ratio) in self.cells.keys() {
            let name = if split { format!(" {} |", self.plans[plan]) } else { String::new() };
            write!(f, "|{name} {} % |", 100.0 * self.labels[ratio])?;
            for &method in &shown {
                let values: Vec<f64> =
                    self.measures((plan, ratio), method, pick).iter().map(reading).collect();
                let Spread { mean, sd } = Spread::of(&values);
                match sd {
                    _ if values.is_empty() => write!(f, " – |")?,
                    Some(sd) => write!(f, " {:.1} ± {:.1} |", 100.0 * mean, 100.0 * sd)?,
                    None => write!(f, " {:.1} |", 100.0 * mean)?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for SweepTable {
    /// Markdown, in percent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.cells.values().map(Vec::len).max().unwrap_or(0);
        match seeds {
            0 | 1 => writeln!(f, "In %, of 1 seed.\n")?,
            _ => writeln!(f, "In %, mean ± standard deviation over {seeds} seeds.\n")?,
        }
        let anew: Vec<String> =
            self.plans.iter().filter(|by| **by != SplitBy::Given).map(SplitBy::to_string).collect();
        if !anew.is_empty() {
            let so = if seeds > 1 { ": the deviations are of training alone" } else { "" };
            let divided = anew.join(" and ");
            writeln!(f, "Rows divided anew ({divided}) are divided in the same way for all seeds{so}.\n")?;
        }
        let [fused, place] = INPUTS.map(|(_, pick)| pick);
        self.write(f, "**Top-1, image and place**", fused, |m| m.accuracy.top1)?;
        self.write(f, "**Top-3, image and place**", fused, |m| m.accuracy.top3)?;
        self.write(f, "**Mean reciprocal rank, image and place**", fused, |m| m.accuracy.mrr)?;
        self.write(f, "**Expected calibration error, image and place**", fused, |m| m.ece)?;
        self.write(f, "**Top-1, place alone**", place, |m| m.accuracy.top1)
    }
}

impl Serialize for SweepTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = self.lines();
        let mut list = serializer.serialize_seq(Some(lines.len()))?;
        lines.iter().try_for_each(|line| list.serialize_element(line))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Accuracy;

    fn table() -> SweepTable {
        let mut table = SweepTable {
            plans: vec![SplitBy::Given, SplitBy::Random],
            labels: vec![0.05],
            methods: vec![Method::Image, Method::Csp],
            cells: BTreeMap::new(),
        };
        let measures = |top1| Measures { accuracy: Accuracy { top1, top3: 0.9, mrr: 0.8, n: 10 }, ece: 0.05 };
        let figures = |top1, alone: Option<f64>| Figures {
            fused: measures(top1),
            alone: alone.map(measures),
            setting: String::new(),
        };
        for (image, csp) in [(0.70, 0.74), (0.72, 0.80)] {
            let seed = [(Method::Image, figures(image, None)), (Method::Csp, figures(csp, Some(0.3)))];
            table.add(0, 0, seed.into());
        }
        table
    }

    #[test]
    fn one_seed_has_no_deviation() {
        let whole = table();
        let mut one = SweepTable { plans: vec![SplitBy::Given], cells: BTreeMap::new(), ..whole.clone() };
        one.add(0, 0, whole.cells[&(0, 0)][0].clone());
        let text = one.to_string();
        assert!(text.starts_with("In %, of 1 seed.\n") && text.contains("| 5 % | 70.0 | 74.0 |"), "{text}");
        assert!(!text.contains('±') && !text.contains("divided anew"), "{text}");
        let csv = one.csv();
        assert!(csv.contains("given,0.05,csp,fused,1,10,0.740000,,0.900000,,"), "{csv}");
        let json = serde_json::to_value(&one).unwrap();
        assert!(json[0]["top1"]["sd"].is_null(), "{json}");
    }

    #[test]
    fn means_and_deviations_are_those_of_the_seeds() {
        let text = table().to_string();
        // statistics.stdev([0.74, 0.80]) = 0.0424
        assert!(text.contains("| given | 5 % | 71.0 ± 1.4 | 77.0 ± 4.2 |"), "{text}");
        assert!(text.contains("**Top-1, place alone**\n\n| split | labels | CSP |"), "{text}");
        assert!(
            text.contains("(random) are divided in the same way for all seeds: the deviations"),
            "{text}"
        );
        let csv = table().csv();
        assert!(csv.contains("given,0.05,csp,fused,2,10,0.770000,0.042426,"), "{csv}");
        assert!(csv.contains("given,0.05,image,image,2,10,0.710000,"), "{csv}");
        assert_eq!(csv.lines().count(), 4);
        let json = serde_json::to_value(table()).unwrap();
        assert_eq!(json[1]["method"], "csp");
        assert!((json[1]["top1"]["mean"].as_f64().unwrap() - 0.77).abs() < 1e-12);
    }
}
