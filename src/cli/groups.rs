//! Metrics group by group: one generator, one folder, one value of a label-file column at a time.

use super::inputs;
use crate::{
    data::labels,
    error::{Error, Result},
    event::{Prediction, Values},
    metric::threshold,
};
use std::{collections::BTreeMap, path::Path};

/// The images of one group.
#[derive(serde::Serialize)]
pub struct Group {
    pub name: String,
    pub images: usize,
    /// Whether it holds a single class and so was compared with all images of the others.
    pub one_class: bool,
    pub metrics: Values,
    /// The decisions at the chosen threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_threshold: Option<Values>,
}

/// What a table has room for.
const SHOWN: [&str; 4] = ["accuracy", "auc", "ap", "tpr_at_fpr_1e-2"];

/// Each image's group: the folder in its name, or its value in a column of the label file.
fn names(by: &str, rows: &[Prediction], labels: &Path) -> Result<Vec<String>> {
    if by != "folder" {
        return Ok(labels::read(labels, Some(by))?.into_iter().filter_map(|row| row.group).collect());
    }
    let folder = |row: &Prediction| row.image.rsplit_once('/').map_or(".", |(folder, _)| folder).to_string();
    let names: Vec<String> = rows.iter().map(folder).collect();
    match names.iter().all(|name| name == ".") {
        true => Err(Error::user("--groups folder: no image name has a folder; name a column of the label file")),
        false => Ok(names),
    }
}

/// Every group's metrics, in the order of names.
pub fn groups(by: &str, rows: &[Prediction], labels: &Path, threshold: Option<f64>) -> Result<Vec<Group>> {
    let mut members: BTreeMap<String, Vec<&Prediction>> = BTreeMap::new();
    for (name, row) in names(by, rows, labels)?.into_iter().zip(rows) {
        members.entry(name).or_default().push(row);
    }
    members.into_iter().map(|(name, members)| Group::new(name, &members, rows, threshold)).collect()
}

impl Group {
    fn new(name: String, members: &[&Prediction], rows: &[Prediction], threshold: Option<f64>) -> Result<Self> {
        let own: Vec<Prediction> = members.iter().map(|row| (*row).clone()).collect();
        let class = own.first().map(|row| row.target);
        let one_class = own.iter().all(|row| Some(row.target) == class);
        let mut metrics = inputs::metrics(&own)?;
        if one_class {
            // Ranking needs both sides; decisions stay the group's own.
            let others = rows.iter().filter(|row| Some(row.target) != class);
            let both: Vec<Prediction> = own.iter().chain(others).cloned().collect();
            let ranked = inputs::metrics(&both)?.into_iter();
            metrics
                .extend(ranked.filter(|(name, _)| matches!(&name[..], "auc" | "ap" | "eer") || name.contains("fpr")));
        }
        let at_threshold =
            threshold.map(|value| inputs::with_scores(&own, |scores| threshold::at_threshold(scores, value)));
        Ok(Self { name, images: own.len(), one_class, metrics, at_threshold })
    }
}

/// The groups as a table.
pub fn table(by: &str, groups: &[Group]) -> String {
    let width = groups.iter().map(|group| group.name.chars().count()).chain([by.len()]).max().unwrap_or(0) + 1;
    let cut = groups.iter().any(|group| group.at_threshold.is_some());
    let mut text = format!("\n{by:<width$} {:>8}", "images");
    SHOWN.iter().for_each(|name| text += &format!(" {name:>16}"));
    text += if cut { "  at the threshold\n" } else { "\n" };
    for group in groups {
        let name = format!("{}{}", group.name, if group.one_class { "*" } else { "" });
        text += &format!("{name:<width$} {:>8}", group.images);
        SHOWN.iter().for_each(|name| text += &format!(" {:>16}", cell(group.metrics.get(*name))));
        let chosen = group.at_threshold.as_ref().map(|values| cell(values.get("accuracy")));
        text += &chosen.map_or("\n".into(), |value| format!(" {value:>17}\n"));
    }
    if groups.iter().any(|group| group.one_class) {
        text += "* holds one class: auc, ap and tpr compare it with all images of the others\n";
    }
    text
}

/// A number, or what stands for none.
pub fn cell(value: Option<&f64>) -> String {
    value.filter(|value| value.is_finite()).map_or("-".into(), |value| format!("{value:.4}"))
}
