//! What a report says, in order, before it is HTML or Markdown.

mod details;
mod experiments;
mod headline;
mod pictures;
mod race;

pub use details::{epochs, flat};
pub use headline::verdict;

use super::{figures, figures::Figure, study::Study};
use crate::error::Result;
use std::path::Path;

/// A whole report.
pub struct Document {
    pub title: String,
    /// The first sentence: what the sweep found.
    pub verdict: String,
    /// What a reader must know about that sentence.
    pub notes: Vec<String>,
    pub sections: Vec<Section>,
}

/// A heading and what stands under it.
pub struct Section {
    pub heading: String,
    pub blocks: Vec<Block>,
}

/// A piece of the page.
pub enum Block {
    Text(String),
    List(Vec<String>),
    Table(Table),
    Figure(Figure),
    Picture(Picture),
    /// Preformatted text that is folded away, and its summary.
    Folded {
        summary: String,
        text: String,
    },
}

/// A picture that stands in the sweep's folder.
pub struct Picture {
    /// Of its file below `figures/`.
    pub file: String,
    pub caption: String,
    /// A PNG file's bytes.
    pub png: Vec<u8>,
}

/// A table whose cells are plain text.
#[derive(Default)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// A column of a table.
pub struct Column {
    pub title: String,
    /// Numbers stand to the right, words to the left.
    pub numeric: bool,
}

/// A row of a table.
pub struct Row {
    pub cells: Vec<String>,
    /// Shown in bold: the chosen or the best.
    pub strong: bool,
}

impl Table {
    /// A table with these columns; a title that ends in `#` is a numeric one.
    fn new(titles: &[&str]) -> Self {
        Self { columns: titles.iter().map(|title| Column::new(title)).collect(), rows: Vec::new() }
    }

    fn row(&mut self, strong: bool, cells: Vec<String>) {
        self.rows.push(Row { cells, strong });
    }
}

impl Column {
    fn new(title: &str) -> Self {
        let name = title.trim_end_matches('#');
        Self { title: name.into(), numeric: name.len() < title.len() }
    }
}

impl Section {
    fn new(heading: &str, blocks: Vec<Block>) -> Self {
        Self { heading: heading.into(), blocks }
    }
}

impl Document {
    /// Writes down what a study found; `dir` is the sweep's folder.
    pub fn of(study: &Study, dir: &Path) -> Result<Self> {
        let mut sections = vec![experiments::section(study)];
        sections.extend(race::section(study));
        sections.extend(experiments::points(study));
        sections.extend(figures::all(study)?.into_iter().map(|figure| {
            let heading = figure.title.clone();
            Section { heading, blocks: vec![Block::Figure(figure)] }
        }));
        sections.extend(pictures::synthesized(study, &dir.join("figures")));
        sections.extend(details::metrics(study));
        sections.extend(details::classes(study));
        sections.extend(details::images(study));
        sections.extend(details::differences(study));
        sections.extend(details::warnings(study));
        sections.push(details::runs(study));
        sections.extend(details::predicted(study));
        sections.push(details::about(study));
        let (verdict, notes) = (headline::verdict(study), headline::notes(study));
        Ok(Self { title: study.sweep.name.clone(), verdict, notes, sections })
    }

    /// All figures, in the order of the page.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Figure(figure) => Some(figure),
            _ => None,
        })
    }
}
