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
                    Block::Picture(picture) => figure {
                        img src={ "data:image/png;base64," (base64(&picture.png)) } alt=(picture.caption) style="max-width:100%";
                        figcaption.caption { (picture.caption) }
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

/// Bytes as text, four letters for three: RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    /// The test vectors of RFC 4648.
    #[test]
    fn base64_of_known_texts() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in vectors {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
