//! The audit as text for people.

use super::{Audit, Duplicate, Shortcut, SplitAudit};
use std::fmt::{self, Display};

impl Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for split in &self.splits {
            split.show(&self.classes, f)?;
        }
        let unreadable = self.splits.iter().flat_map(|split| &split.unreadable);
        show_list(f, "unreadable images", unreadable, |(name, why)| format!("{name}: {why}"))?;
        show_list(f, "exact duplicates", self.duplicates.iter(), Duplicate::line)?;
        show_list(f, "near duplicates", self.near_duplicates.iter(), Duplicate::line)?;
        if !self.shortcuts.is_empty() {
            writeln!(f, "\nCan the class be told without looking? (learned on train, AUC on val; 0.5 is no)")?;
        }
        for shortcut in &self.shortcuts {
            let Shortcut { feature, class, auc, error } = shortcut;
            let mark = if shortcut.is_suspicious() { "  <- yes" } else { "" };
            writeln!(f, "  {feature:<18}{class:<14}{auc:.3}  (chance: 0.5 +- {:.3}){mark}", 2.0 * error)?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "Warning: {warning}."))
    }
}

impl SplitAudit {
    fn show(&self, classes: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.counts.iter().sum();
        writeln!(f, "{}: {total} images", self.split.as_str())?;
        for (class, count) in classes.iter().zip(&self.counts) {
            writeln!(f, "  {class:<20}{count:>8}  {:>5.1} %", 100.0 * *count as f64 / total.max(1) as f64)?;
        }
        let formats: Vec<String> = self.formats.iter().map(|(format, count)| format!("{format} {count}")).collect();
        writeln!(f, "  {:<20}{}", "formats", formats.join(", "))?;
        for (name, [low, middle, high]) in [("width", self.widths), ("height", self.heights)] {
            writeln!(f, "  {name:<20}{low} to {high}, median {middle}")?;
        }
        Ok(())
    }
}

impl Duplicate {
    fn line(&self) -> String {
        let (first, second) = (&self.first, &self.second);
        let sign = if self.bits == 0 { "=" } else { "~" };
        let note = if self.contradiction { "  <- with different classes" } else { "" };
        format!("{}/{} {sign} {}/{}{note}", first.0.as_str(), first.1, second.0.as_str(), second.1)
    }
}

/// A heading with the count, and the first ten.
fn show_list<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    all: impl Iterator<Item = T>,
    line: impl Fn(T) -> String,
) -> fmt::Result {
    let lines: Vec<String> = all.map(line).collect();
    writeln!(f, "{what}: {}", if lines.is_empty() { "none".to_string() } else { lines.len().to_string() })?;
    lines.iter().take(10).try_for_each(|line| writeln!(f, "  {line}"))?;
    if lines.len() > 10 { writeln!(f, "  and {} more (--json lists all)", lines.len() - 10) } else { Ok(()) }
}
