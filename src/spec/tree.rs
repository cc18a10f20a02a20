//! TOML as a tree that remembers where every key and value was written, and by which layer of the file.

use super::mistake::{Mistake, Mistakes, Place, Source};
use std::{ops::Range, sync::Arc};
use toml::de::{DeTable, DeValue};

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub place: Place,
    /// The layer it was written in: `defaults`, `experiment`, `--set`, ..
    pub origin: Arc<str>,
}

/// A TOML value; tables keep the order they were written in.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// TOML has dates; no key of this program does.
    Date(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    /// Where the key is written.
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// An empty table at a place.
    pub fn table(place: Place, origin: &str) -> Self {
        Self { value: Value::Table(Vec::new()), place, origin: origin.into() }
    }

    /// A table's entries; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// A table's entries, to change; `None` of anything else.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        match &mut self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// A list's items; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a table under this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a table under this key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Takes a key out of a table.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let entries = self.entries_mut()?;
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// A text's letters.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What lies at a path of keys and list positions, and where to point at it: at the value, or at a table's key.
    pub fn find<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<(&Node, &Place)> {
        path.into_iter().try_fold((self, &self.place), |(node, _), step| match &node.value {
            Value::List(items) => items.get(step.parse::<usize>().ok()?).map(|item| (item, &item.place)),
            _ => node.entry(step).map(|entry| (&entry.node, entry.mark())),
        })
    }

    /// Takes out what lies at a path; false where nothing does.
    pub fn prune(&mut self, path: &[String]) -> bool {
        let Some((step, rest)) = path.split_first() else { return false };
        let index = step.parse::<usize>().unwrap_or(usize::MAX);
        match &mut self.value {
            Value::List(items) if rest.is_empty() && index < items.len() => {
                items.remove(index);
                true
            }
            Value::List(items) => items.get_mut(index).is_some_and(|item| item.prune(rest)),
            Value::Table(_) if rest.is_empty() => self.take(step).is_some(),
            Value::Table(entries) => {
                entries.iter_mut().find(|entry| entry.key == *step).is_some_and(|entry| entry.node.prune(rest))
            }
            _ => false,
        }
    }

    /// Says of everything below where it comes from.
    pub fn relabel(&mut self, origin: &Arc<str>) {
        self.origin = origin.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.relabel(origin)),
            Value::Table(entries) => entries.iter_mut().for_each(|entry| entry.node.relabel(origin)),
            _ => {}
        }
    }

    /// The plain TOML value, without places.
    pub fn plain(&self) -> toml::Value {
        match &self.value {
            Value::Text(text) | Value::Date(text) => text.clone().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Bool(yes) => (*yes).into(),
            Value::List(items) => items.iter().map(Node::plain).collect::<Vec<_>>().into(),
            Value::Table(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.node.plain())).collect::<toml::Table>().into()
            }
        }
    }

    /// How messages name the value: `the text "adam"`, `the number 3`, `a list`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("the text {text:?}"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number:?}"),
            Value::Bool(yes) => format!("{yes}"),
            Value::Date(text) => format!("the date {text}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Table(_) => "a table".into(),
        }
    }
}

impl Entry {
    /// Where a message about this entry points: at the value; at the key where the value is a table, which has no one place.
    pub fn mark(&self) -> &Place {
        match self.node.value {
            Value::Table(_) => &self.place,
            _ => &self.node.place,
        }
    }
}

/// Reads TOML. Syntax mistakes go to `mistakes`; the tree holds what could be read, or `None` where that is worthless.
pub fn parse(source: &Arc<Source>, origin: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut reader = Reader { source, origin: origin.into(), mistakes };
    for error in &errors {
        let place = reader.place(error.span().unwrap_or(0..0));
        reader.mistakes.push(syntax(error.message(), &place));
        if error.message() != DUPLICATE && !error.message().starts_with(UNQUOTED) {
            break; // what follows a broken structure is guesswork
        }
    }
    let usable = errors.iter().all(|error| error.message() == DUPLICATE);
    usable.then(|| reader.node(&DeValue::Table(root.get_ref().clone()), 0..0))
}

const DUPLICATE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted";

/// The TOML parser's message in the words of this program.
fn syntax(message: &str, place: &Place) -> Mistake {
    let key = place.source.text.get(place.span.clone()).unwrap_or_default();
    match message {
        DUPLICATE => Mistake::new(format!("`{key}` is given twice"), place)
            .help("keep one of the two: a key or a [table] stands once in its table"),
        _ if key.trim().is_empty() && message.starts_with(UNQUOTED) => {
            Mistake::new("a value is missing here", place).help("write `key = value`")
        }
        _ if message.starts_with(UNQUOTED) => Mistake::new(format!("`{key}` is no TOML value"), place)
            .help(format!("text stands in quotes: \"{}\"", key.trim())),
        _ if message.starts_with("missing comma") => Mistake::new("a comma is missing, or a bracket further up", place)
            .help("[ ] and { } must be closed, and their entries stand apart by commas"),
        _ => Mistake::new(format!("this is not TOML: {message}"), place),
    }
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    origin: Arc<str>,
    mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source.clone(), span }
    }

    fn node(&mut self, value: &DeValue, span: Range<usize>) -> Node {
        let place = self.place(span);
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            // What does not fit is too large for every range there is; as a float it says how large.
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
            },
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item.get_ref(), item.span())).collect())
            }
            DeValue::Table(entries) => Value::Table(self.entries(entries)),
        };
        Node { value, place, origin: self.origin.clone() }
    }

    fn entries(&mut self, table: &DeTable) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (key, value) in table {
            let node = self.node(value.get_ref(), value.span());
            entries.push(Entry { key: key.get_ref().to_string(), place: self.place(key.span()), node });
        }
        entries
    }
}
