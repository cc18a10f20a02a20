//! The same report as Markdown, with its figures beside it.

use super::content::{Block, Document, Section, Table};
use std::fmt::Write;

/// The text; what came from files cannot become markup.
pub fn markdown(document: &Document) -> String {
    let mut text = format!("# {}\n\n**{}**\n", escaped(&document.title), escaped(&document.verdict));
    if !document.notes.is_empty() {
        text.push('\n');
    }
    for note in &document.notes {
        let _ = writeln!(text, "- {}", escaped(note));
    }
    for section in &document.sections {
        show(&mut text, section);
    }
    text
}

fn show(text: &mut String, section: &Section) {
    let _ = write!(text, "\n## {}\n", escaped(&section.heading));
    for block in &section.blocks {
        text.push('\n');
        match block {
            Block::Text(words) => _ = writeln!(text, "{}", escaped(words)),
            Block::List(lines) => lines.iter().for_each(|line| _ = writeln!(text, "- {}", escaped(line))),
            Block::Table(table) => rows(text, table),
            Block::Figure(figure) => {
                let (name, caption) = (figure.name, escaped(&figure.caption));
                let _ =
                    writeln!(text, "![{}](figures/{name}.svg)\n\n{caption} ([PNG](figures/{name}.png))", figure.title);
            }
            Block::Picture(picture) => {
                let _ =
                    writeln!(text, "![Synthesized images](figures/{})\n\n{}", picture.file, escaped(&picture.caption));
            }
            Block::Folded { summary, text: inner } => {
                let fence = fence(inner);
                let _ = writeln!(text, "{}:\n\n{fence}\n{}\n{fence}", escaped(summary), inner.trim_end());
            }
        }
    }
}

fn rows(text: &mut String, table: &Table) {
    let titles: Vec<String> = table.columns.iter().map(|column| escaped(&column.title)).collect();
    let rules: Vec<&str> = table.columns.iter().map(|column| if column.numeric { "---:" } else { "---" }).collect();
    let _ = writeln!(text, "| {} |\n| {} |", titles.join(" | "), rules.join(" | "));
    for row in &table.rows {
        let cell = |cell: &String| match escaped(cell) {
            cell if row.strong && !cell.is_empty() => format!("**{cell}**"),
            cell => cell,
        };
        let cells: Vec<String> = row.cells.iter().map(cell).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// Text in which no character means markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => safe.extend(['\\', letter]),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A fence longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}
