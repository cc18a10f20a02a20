//! The report of a sweep, from the store alone: statistics, figures, page.

mod content;
mod figures;
mod images;
mod live;
mod markdown;
mod page;
mod pair;
mod study;
mod terminal;
mod verdict;
mod words;

pub use crate::statistics;
pub use content::flat;
pub use figures::register_font;
pub use live::{AtWork, Live};
pub use pair::compare;
pub use terminal::{Details, Listing, Runs, list, runs, show};
pub use verdict::{Comparison, Unit, Verdict};

use crate::{
    error::{Context, Error, Result},
    store::Store,
    tensor::safetensors,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Writes `report.html`, `report.md` and `figures/` into `dir`; returns the page's path.
///
/// The store is read as of one moment, and every file is replaced whole: a reader never meets half a page. The same
/// store gives the same bytes.
pub fn write(store: &Store, sweep: &str, dir: &Path) -> Result<PathBuf> {
    let document = content::Document::of(&study::Study::whole(store, sweep)?, dir)?;
    let folder = dir.join("figures");
    std::fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
    for figure in document.figures() {
        replace(&folder.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
        replace(&folder.join(format!("{}.png", figure.name)), &figure.png)?;
    }
    replace(&dir.join("report.md"), markdown::markdown(&document).as_bytes())?;
    let page = dir.join("report.html");
    replace(&page, page::html(&document).as_bytes())?;
    Ok(page)
}

/// What the sweep found so far, in a sentence: the report's first.
pub fn verdict(store: &Store, sweep: &str) -> Result<String> {
    Ok(content::verdict(&study::Study::numbers(store, sweep)?))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(safetensors::UNFINISHED).tempfile_in(folder)?;
        file.write_all(bytes)?;
        readable(file.as_file())?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(Error::from).context(|| path.display().to_string())
}

/// Temporary files are made for their owner alone; a report is for others too.
#[cfg(unix)]
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
