//! A report as one HTML file that needs nothing else: no script, no network, no font.

use super::content::{Block, Document, Section, Table};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page; everything that came from files is escaped.
pub fn html(document: &Document) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(concat!("runner ", env!("CARGO_PKG_VERSION")));
                title { (document.title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    h1 { (document.title) }
                    p.verdict { (document.verdict) }
                    ul.notes { @for note in &document.notes { li { (note) } } }
                    @for section in &document.sections { (show(section)) }
                }
            }
        }
    }
    .into_string()
}

fn show(section: &Section) -> Markup {
    html! {
        section {
            h2 { (section.heading) }
            @for block in &section.blocks {
                @match block {
                    Block::Text(text) => p.under { (text) },
                    Block::List(lines) => ul.warnings { @for line in lines { li { (line) } } },
                    Block::Table(table) => (rows(table)),
                    Block::Figure(figure) => figure {
                        (PreEscaped(inline(&figure.svg, &figure.title)))
                        figcaption.caption { (figure.caption) }
                    },
                    Block::Folded { summary, text } => details { summary { (summary) } pre { (text) } },
                }
            }
        }
    }
}

fn rows(table: &Table) -> Markup {
    let class = |column: usize| table.columns.get(column).filter(|column| column.numeric).map(|_| "n");
    html! {
        div.scroll {
            table {
                thead { tr { @for (i, column) in table.columns.iter().enumerate() { th class=[class(i)] { (column.title) } } } }
                tbody {
                    @for row in &table.rows {
                        tr class=[row.strong.then_some("strong")] {
                            @for (i, cell) in row.cells.iter().enumerate() { td class=[class(i)] { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// A document's SVG without what only a file of its own needs. plotters escapes the text in it.
fn inline(svg: &str, title: &str) -> String {
    let body = svg.find("<svg").map_or(svg, |start| &svg[start..]);
    let label = html! { (title) }.into_string();
    body.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1).replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{label}\" "),
        1,
    )
}
