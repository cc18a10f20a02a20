//! Label files: CSV with a header, one image a row.

use crate::error::{Context, Error, Result};
use std::path::Path;

/// One image of a label file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands in the file, counted from 1.
    pub line: usize,
    pub name: String,
    /// `None` where the file has no `target` column.
    pub target: Option<u32>,
    /// What stands in the column of groups, where one was asked for.
    pub group: Option<String>,
}

/// How many mistakes one message lists.
const SHOWN: usize = 10;

/// Reads a label file with the columns `img_name` (or `img_path`), `target` if there is one, and another one where `group`
/// names it; others are ignored. All bad rows are reported together, as `file:line`.
pub fn read(path: &Path, group: Option<&str>) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).context(|| path.display().to_string())?;
    parse(&bytes, path, group)
}

fn parse(bytes: &[u8], path: &Path, group: Option<&str>) -> Result<Vec<Row>> {
    let mut mistakes = Vec::new();
    let mut records = records(bytes).into_iter();
    let Some((line, header)) = records.next() else {
        return Err(Error::user(format!("{}: the file is empty; expected a header img_name,target", path.display())));
    };
    let columns = Columns::find(&header, group).context(|| format!("{}:{line}", path.display()))?;
    let mut rows = Vec::new();
    for (line, fields) in records {
        match columns.row(line, fields) {
            Ok(row) => rows.push(row),
            Err(mistake) => mistakes.push(format!("{}:{line}: {mistake}", path.display())),
        }
    }
    match mistakes.is_empty() {
        true => Ok(rows),
        false => Err(Error::user(some_of("bad row", &mistakes))),
    }
}

/// `3 bad rows:` and the first of them, one a line.
pub(super) fn some_of(what: &str, all: &[String]) -> String {
    let plural = if all.len() == 1 { "" } else { "s" };
    let mut text = format!("{} {what}{plural}:", all.len());
    all.iter().take(SHOWN).for_each(|one| text += &format!("\n  {one}"));
    if all.len() > SHOWN {
        text += &format!("\n  and {} more", all.len() - SHOWN);
    }
    text
}

/// Where a header puts what we need.
struct Columns {
    count: usize,
    name: usize,
    target: Option<usize>,
    group: Option<usize>,
}

impl Columns {
    fn find(header: &[String], group: Option<&str>) -> Result<Self> {
        let is = |field: &str, name: &str| field.trim().eq_ignore_ascii_case(name);
        let find = |names: &[&str]| header.iter().position(|field| names.iter().any(|name| is(field, name)));
        let name = find(&["img_name", "img_path"]).ok_or_else(|| {
            let header = header.join(",");
            let hint = if header.contains([';', '\t']) { "; columns stand apart by commas" } else { "" };
            Error::user(format!("no column img_name (or img_path) in the header `{header}`{hint}"))
        })?;
        let group = group.map(|group| {
            let lacks = || Error::user(format!("no column `{group}` in the header `{}`", header.join(",")));
            find(&[group]).ok_or_else(lacks)
        });
        Ok(Self { count: header.len(), name, target: find(&["target"]), group: group.transpose()? })
    }

    fn row(&self, line: usize, mut fields: Vec<String>) -> Result<Row> {
        if fields.len() != self.count {
            return Err(Error::user(format!("{} fields where the header has {}", fields.len(), self.count)));
        }
        let target = self.target.map(|at| target(&fields[at])).transpose()?;
        let group = self.group.map(|at| fields[at].trim().to_string());
        let name = std::mem::take(&mut fields[self.name]);
        match (name.trim(), group) {
            ("", _) => Err(Error::user("the image has no name")),
            (_, Some(group)) if group.is_empty() => Err(Error::user("the image has no group")),
            (name, group) => Ok(Row { line, name: name.to_string(), target, group }),
        }
    }
}

/// A class number; tables that once lacked a value write `1.0` for 1.
fn target(text: &str) -> Result<u32> {
    let whole = text.trim();
    let whole = whole.strip_suffix(".0").unwrap_or(whole);
    whole.parse().map_err(|_| Error::user(format!("the target `{text}` is not a class number (0, 1, ..)")))
}

/// The records of a CSV text (RFC 4180) with the line each begins on; blank lines and a byte order mark are passed over.
fn records(bytes: &[u8]) -> Vec<(usize, Vec<String>)> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut start, mut quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\r' if !quoted => (),
            '\n' if !quoted => {
                end_record(&mut records, start, &mut fields, &mut field);
                start = line;
            }
            c => field.push(c),
        }
    }
    end_record(&mut records, start, &mut fields, &mut field);
    records
}

fn end_record(records: &mut Vec<(usize, Vec<String>)>, line: usize, fields: &mut Vec<String>, field: &mut String) {
    let blank = fields.is_empty() && field.trim().is_empty();
    fields.push(std::mem::take(field));
    let fields = std::mem::take(fields);
    if !blank {
        records.push((line, fields));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(usize, String, Option<u32>)>> {
        let rows = super::parse(text.as_bytes(), Path::new("labels.txt"), None)?;
        Ok(rows.into_iter().map(|row| (row.line, row.name, row.target)).collect())
    }

    #[test]
    fn quotes_carriage_returns_mark_and_blank_lines() {
        let text = "\u{feff}img_name,target\r\n\"a, \"\"b\"\".jpg\",1\r\n\r\nc.jpg, 0 \n  \nd.jpg,2";
        let row = |line, name: &str, target| (line, name.to_string(), Some(target));
        assert_eq!(parse(text).unwrap(), [row(2, "a, \"b\".jpg", 1), row(4, "c.jpg", 0), row(6, "d.jpg", 2)]);
    }

    #[test]
    fn columns_are_found_by_name() {
        let found = parse("target,score,img_path\n1,0.5,a.jpg\n").unwrap();
        assert_eq!(found, [(2, "a.jpg".to_string(), Some(1))]);
        assert_eq!(parse("img_name\na.jpg\n").unwrap(), [(2, "a.jpg".to_string(), None)]);
    }

    #[test]
    fn a_column_of_groups_is_read_whole_or_not_at_all() {
        let read = |text: &str, group| super::parse(text.as_bytes(), Path::new("labels.txt"), Some(group));
        let rows = read("img_name,target,video\na.jpg,1, v1 \nb.jpg,0,v2\n", "video").unwrap();
        let groups: Vec<_> = rows.iter().map(|row| row.group.as_deref().unwrap()).collect();
        assert_eq!(groups, ["v1", "v2"]);
        let message = |text, group| read(text, group).unwrap_err().to_string();
        assert!(message("img_name,target\na.jpg,1\n", "video").contains("no column `video`"));
        assert!(message("img_name,target,video\na.jpg,1,\n", "video").contains("labels.txt:2: the image has no group"));
    }

    #[test]
    fn every_bad_row_is_named_with_its_line() {
        let text = "img_name,target\na.jpg,real\nb.jpg\n,1\nc.jpg,-1\nd.jpg,1\ne.jpg,1.5\n";
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with("5 bad rows:"), "{message}");
        for place in ["labels.txt:2: the target `real`", "labels.txt:3: 1 fields", "labels.txt:4:", "labels.txt:5:"] {
            assert!(message.contains(place), "{place} not in {message}");
        }
        assert!(parse("").unwrap_err().to_string().contains("empty"));
        assert_eq!(parse("Img_Name,TARGET\na.jpg,1.0\n").unwrap(), [(2, "a.jpg".to_string(), Some(1))]);
        assert!(parse("img_name;target\na.jpg;1\n").unwrap_err().to_string().contains("apart by commas"));
        assert!(parse("name,label\na,1\n").unwrap_err().to_string().contains("img_name"));
    }
}
