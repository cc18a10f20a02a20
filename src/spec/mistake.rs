//! What is wrong with a file, and where: messages with the line, a caret, what is allowed and the nearest name.

use crate::error::{Error, nearest};
use std::{fmt, ops::Range, sync::Arc};

/// A text that values come from: an experiment file, or one `--set` of the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's path; `None` for the command line.
    pub file: Option<String>,
    pub text: String,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: Arc<Source>,
    pub span: Range<usize>,
}

impl Place {
    /// Line and column of the first character, counted from 1.
    pub fn position(&self) -> (usize, usize) {
        let before = &self.source.text[..self.start()];
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }

    /// The first character; the last one there is where a span points behind the text.
    fn start(&self) -> usize {
        let text = &self.source.text;
        let start = self.span.start.min(text.trim_end().len());
        (0..=start).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
    }

    /// `file:line:column`, the line, and a caret under the span.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        let start = self.start();
        let text = self.source.text.lines().nth(line - 1).unwrap_or_default();
        let rest = text.chars().count() - (column - 1).min(text.chars().count());
        let wide = self.source.text.get(start..self.span.end).map_or(1, |span| span.chars().count());
        let (shown, column) = excerpt(text, column);
        let carets = "^".repeat(wide.clamp(1, rest.clamp(1, WIDTH.saturating_sub(column).max(1))));
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        match &self.source.file {
            Some(file) => writeln!(f, "{gutter}--> {file}:{}:{}", line, self.position().1)?,
            None => writeln!(f, "{gutter}--> --set")?,
        }
        writeln!(f, "{gutter} |\n{number} | {shown}\n{gutter} | {}{carets}", " ".repeat(column - 1))
    }
}

/// The longest piece of a line that is shown, in characters.
const WIDTH: usize = 110;

/// The most mistakes that are shown at once.
const MANY: usize = 40;

/// The part of a long line around a column, and the column in it; tabs, and what a terminal would obey, become spaces.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let line: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let from = if line.len() > WIDTH { column.saturating_sub(WIDTH / 3) } else { 0 };
    let cut = |yes: bool| if yes { "…" } else { "" };
    let piece: String = line.iter().skip(from).take(WIDTH).collect();
    let (head, tail) = (cut(from > 0), cut(from + WIDTH < line.len()));
    (format!("{head}{}{tail}", piece.trim_end()), column - from + head.chars().count())
}

/// One mistake of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, in one line.
    pub what: String,
    pub place: Option<Place>,
    /// What is allowed, what to do.
    pub help: Vec<String>,
}

impl Mistake {
    /// `what` is wrong at a place.
    pub fn new(what: impl Into<String>, place: &Place) -> Self {
        Self { what: what.into(), place: Some(place.clone()), help: Vec::new() }
    }

    /// Adds a line on what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds the nearest of the known names, and all of them.
    pub fn names<'a>(mut self, wrong: &str, title: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        if let Some(name) = nearest(wrong, known.iter().copied()) {
            self.help.push(format!("did you mean `{name}`?"));
        }
        if !known.is_empty() {
            self.help.push(format!("{title}: {}", known.join(", ")));
        }
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        let mut gutter = String::new();
        if let Some(place) = &self.place {
            place.fmt(f)?;
            gutter = " ".repeat(place.position().0.to_string().len());
        }
        for help in &self.help {
            writeln!(f, "{gutter} = {}", wrap(help, &format!("{gutter}   ")))?;
        }
        Ok(())
    }
}

/// Breaks a text between words so that lines stay readable in a terminal.
fn wrap(text: &str, indent: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        let wide = word.chars().count();
        if length > 0 && length + 1 + wide > WIDTH - 10 {
            lines.push('\n');
            lines.push_str(indent);
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += wide;
    }
    lines
}

/// The mistakes found so far, each once.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn push(&mut self, mistake: Mistake) {
        let known = |old: &Mistake| old.what == mistake.what && old.place == mistake.place;
        if !self.0.iter().any(known) {
            self.0.push(mistake);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as one error of the user, in the file's order.
    pub fn into_result(mut self, name: &str) -> Result<(), Error> {
        let at = |mistake: &Mistake| {
            mistake.place.as_ref().map(|place| (place.source.file.is_none(), place.span.start, place.span.end))
        };
        self.0.sort_by_key(|mistake| at(mistake).unwrap_or((true, usize::MAX, usize::MAX)));
        let mut text: Vec<String> = self.0.iter().take(MANY).map(ToString::to_string).collect();
        if self.0.len() > MANY {
            text.push(format!("and {} more\n", self.0.len() - MANY));
        }
        match self.0.len() {
            0 => Ok(()),
            1 => Err(Error::user(text[0].trim_end())),
            many => Err(Error::user(format!(
                "{many} mistakes in {name}; nothing has started\n\n{}",
                text.join("\n").trim_end()
            ))),
        }
    }
}
