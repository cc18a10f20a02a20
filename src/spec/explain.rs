//! Reference pages, from the same schema that files are checked with.

use super::{
    schema::{file_shape, run_shape},
    shape::{Kind, Shape},
};
use crate::{
    backbone::BACKBONES,
    error::{Error, Result, nearest},
    metric::METRICS,
};
use serde_json::Value as Json;

/// The page of a component (`cutmix`), a key (`warmup`, `optimizer.adam.lr`), a backbone or a metric; without a name, the
/// overview of every key.
pub fn explain(name: Option<&str>) -> Result<String> {
    let Some(name) = name else { return Ok(overview()) };
    let topics = topics();
    let pages: Vec<String> = topics.iter().filter(|topic| topic.answers(name)).map(Topic::page).collect();
    // A key inside a table or a component, by its bare name.
    let inner: Vec<&Topic> = topics.iter().filter(|topic| topic.name() == name).collect();
    match (pages.is_empty(), inner.as_slice()) {
        (false, _) => Ok(pages.join("\n")),
        (true, []) => Err(Error::user(unknown(&topics, name))),
        (true, [topic]) => Ok(topic.page()),
        (true, several) => {
            let paths = several.iter().map(|topic| topic.path.as_str()).collect::<Vec<_>>().join(", ");
            Err(Error::user(format!("`{name}` is a key of several tables; name one: {paths}")))
        }
    }
}

fn unknown(topics: &[Topic], name: &str) -> String {
    let names = topics.iter().flat_map(|topic| [topic.name(), topic.path.as_str()]);
    let hint = nearest(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("nothing is called `{name}`{hint}\n`runner explain` without a name lists everything")
}

/// Something that has a page.
struct Topic {
    /// Dotted, as in a file: `optimizer.adam.lr`; of an augmentation `augment.mixup`.
    path: String,
    what: What,
}

enum What {
    Key(Shape<'static>),
    Component(Shape<'static>, &'static str),
    /// A name with one line about it.
    Name(&'static str, String),
}

impl Topic {
    fn name(&self) -> &str {
        match &self.what {
            What::Name(..) => &self.path,
            _ => self.path.rsplit('.').next().unwrap_or(&self.path),
        }
    }

    /// Components, backbones and metrics answer to their name, keys to their path and, at the top, to their name.
    fn answers(&self, name: &str) -> bool {
        self.path == name || matches!(self.what, What::Component(..)) && self.name() == name
    }

    fn page(&self) -> String {
        match &self.what {
            What::Name(kind, about) => format!("{} ({kind})\n\n{}\n", self.path, wrap(about, "  ")),
            What::Component(shape, family) => {
                let title = format!("{} ({family})\n\n{}\n", self.name(), wrap(shape.about(), "  "));
                format!("{title}\n{}Example\n  {}\n", keys(*shape), self.example(*shape))
            }
            What::Key(shape) => {
                let title = format!("{}\n\n{}\n", self.path, wrap(shape.about(), "  "));
                format!("{title}\n{}{}Example\n  {}\n", line(*shape), keys(*shape), self.example(*shape))
            }
        }
    }

    /// One line for an `[[experiment]]` or `[defaults]`.
    fn example(&self, shape: Shape) -> String {
        match (&self.what, shape.kind(), self.path.split('.').next()) {
            (What::Component(..), _, Some("augment")) => {
                format!("augment = [{{ {} = {} }}]", self.name(), sample(shape, 0))
            }
            (_, Kind::Component(names), _) if !names.is_empty() => {
                format!("{}.{} = {}", self.path, names[0].0, sample(names[0].1, 0))
            }
            _ => format!("{} = {}", self.path, sample(shape, 0)),
        }
    }
}

fn topics() -> Vec<Topic> {
    let mut topics = Vec::new();
    for key in ["name", "defaults", "experiment", "sweep"] {
        if let Some(shape) = file_shape().key(key).filter(|_| key == "sweep") {
            topics.push(Topic { path: key.into(), what: What::Key(shape) });
            keys_of(shape).into_iter().for_each(|(inner, shape)| {
                topics.push(Topic { path: format!("{key}.{inner}"), what: What::Key(shape) });
                if matches!(shape.kind(), Kind::Component(_)) {
                    collect(&format!("{key}.{inner}"), shape, &mut topics);
                }
            });
        }
    }
    collect("", run_shape(), &mut topics);
    topics.extend(BACKBONES.iter().map(|entry| {
        let tags: Vec<&str> = entry.pretrained.iter().map(|weights| weights.tag).collect();
        let about = format!("{} Pretrained weights: {}.", entry.about, tags.join(", "));
        Topic { path: entry.name.into(), what: What::Name("backbone", about) }
    }));
    topics.extend(METRICS.iter().map(|metric| {
        let about =
            format!("{} {} is better.", metric.about, if metric.larger_is_better { "Larger" } else { "Smaller" });
        Topic { path: metric.name.into(), what: What::Name("metric", about) }
    }));
    topics
}

fn collect(path: &str, shape: Shape<'static>, topics: &mut Vec<Topic>) {
    let at = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match shape.kind() {
        Kind::Table(keys) => {
            for (key, shape) in keys {
                topics.push(Topic { path: at(key), what: What::Key(shape) });
                collect(&at(key), shape, topics);
            }
        }
        Kind::Component(names) => {
            let family = path.rsplit('.').next().unwrap_or(path).to_string();
            for (name, shape) in names {
                topics.push(Topic { path: at(name), what: What::Component(shape, family_word(&family)) });
                keys_of(shape).into_iter().for_each(|(key, shape)| {
                    topics.push(Topic { path: format!("{}.{key}", at(name)), what: What::Key(shape) });
                });
            }
        }
        Kind::List(item, _) => {
            if let Kind::Component(_) = item.kind() {
                collect(path, item, topics);
            }
        }
        _ => {}
    }
}

/// How a page calls a component of a family.
fn family_word(key: &str) -> &'static str {
    match key {
        "augment" => "augmentation",
        "data" => "data source",
        "optimizer" => "optimizer",
        "scheduler" => "scheduler",
        "loss" => "loss",
        "pruning" => "pruner",
        "sampler" => "sampler",
        "synthesize" => "synthesizer",
        _ => "component",
    }
}

fn keys_of(shape: Shape<'static>) -> Vec<(&'static str, Shape<'static>)> {
    match shape.kind() {
        Kind::Table(keys) => keys,
        _ => Vec::new(),
    }
}

/// The keys of a table, or the members of a family, each with its line.
fn keys(shape: Shape) -> String {
    let (title, entries) = match shape.kind() {
        Kind::Table(keys) => ("Keys", keys),
        Kind::Component(names) => ("One of", names),
        Kind::List(item, _) => match item.kind() {
            Kind::Component(names) => ("Each one of", names),
            _ => return String::new(),
        },
        Kind::Map(values) => match values.kind() {
            Kind::Table(keys) => ("Of each key one of the first four, and", keys),
            _ => return String::new(),
        },
        _ => return String::new(),
    };
    if entries.is_empty() {
        return "No keys.\n\n".into();
    }
    let is_key = matches!(shape.kind(), Kind::Table(_) | Kind::Map(_));
    let text = entries.iter().map(|(key, shape)| match is_key {
        true => format!("  {key}\n{}", entry(*shape)),
        false => format!("  {key}\n{}\n", wrap(shape.about(), "      ")),
    });
    format!("{title}\n{}\n", text.collect::<String>())
}

fn entry(shape: Shape) -> String {
    let about = if shape.about().is_empty() { String::new() } else { format!("{}\n", wrap(shape.about(), "      ")) };
    format!("{about}{}\n", wrap(&allowed(shape), "      "))
}

/// What one key allows, for its own page.
fn line(shape: Shape) -> String {
    match shape.kind() {
        Kind::Table(_) | Kind::Component(_) => String::new(),
        _ => format!("{}\n\n", wrap(&allowed(shape), "  ")),
    }
}

fn allowed(shape: Shape) -> String {
    let default = match shape.default() {
        Some(Json::Object(keys)) if keys.is_empty() => String::new(),
        Some(default) => format!("; default {}", inline(default)),
        None if shape.is_optional() => "; optional".into(),
        None => String::new(),
    };
    let words = shape.describe();
    format!("{}{}{default}", words[..1].to_uppercase(), &words[1..])
}

fn overview() -> String {
    let mut text = String::from(
        "An experiment file has these parts. `runner explain NAME` has a page about each key, component, backbone and\n\
         metric; `runner init` writes a file to start from.\n\n\
         name        what the sweep is called; default: the file's name\n\
         [data]      where images and labels come from\n\
         [defaults]  what every experiment starts from: the keys below\n\
         [[experiment]]  one experiment: `name`, `extends = \"another one\"`, and the keys below\n\
         [sweep]     `seeds`, `grid`, `zip`, `random`, `tpe`, `pruning`, `race`, and [[sweep.block]] with `for`\n\n\
         Tables merge key by key through [data], [defaults], what `extends` names, the experiment and --set key=value.\n\
         Naming another component of a family replaces the old one whole; lists replace, `augment.append = [..]` appends,\n\
         `augment.mixup.alpha = 0.4` changes the entry of that name; `ema = false` takes away what a lower layer sets.\n\nKeys\n",
    );
    for (key, shape) in keys_of(run_shape()) {
        text.push_str(&format!("  {key}\n{}", entry(shape)));
    }
    text.push_str("\nComponents\n");
    for (key, shape) in keys_of(run_shape()) {
        let names = match (shape.kind(), family(shape)) {
            (_, Some(names)) => names,
            _ => continue,
        };
        text.push_str(&format!("  {key}\n{}\n", wrap(&names.join(", "), "      ")));
    }
    let list = |names: Vec<&str>| wrap(&names.join(", "), "      ");
    let backbones = list(BACKBONES.iter().map(|entry| entry.name).collect());
    let metrics = list(METRICS.iter().map(|metric| metric.name).collect());
    text.push_str(&format!("  backbone.name\n{backbones}\n  select.metric\n{metrics}, loss\n"));
    text
}

fn family(shape: Shape<'static>) -> Option<Vec<&'static str>> {
    match shape.kind() {
        Kind::Component(names) => Some(names.into_iter().map(|(name, _)| name).collect()),
        Kind::List(item, _) => family(item),
        _ => None,
    }
}

/// A value that may stand there, as TOML: the default, or something typical.
fn sample(shape: Shape, depth: usize) -> String {
    let says_nothing = |default: &&Json| default.is_null() || default.as_array().is_some_and(Vec::is_empty);
    if let Some(default) = shape.default().filter(|default| !says_nothing(default)) {
        return inline(default);
    }
    match shape.kind() {
        Kind::Table(keys) => {
            let required = shape.required();
            let typical = |shape: &Shape| shape.default().is_some_and(|default| !default.is_null());
            let shown: Vec<_> = keys.iter().filter(|(key, shape)| required.contains(key) || typical(shape)).collect();
            // A component whose keys all follow from others is written without any.
            let shown = if shown.is_empty() && depth > 0 { keys.iter().take(1).collect() } else { shown };
            table(shown.into_iter().map(|(key, shape)| (*key, sample(*shape, depth + 1))))
        }
        Kind::Component(names) => table(names.first().map(|(name, shape)| (*name, sample(*shape, depth + 1)))),
        Kind::Map(values) => match values.kind() {
            Kind::Table(_) => "{ \"optimizer.adam.lr\" = { log_uniform = [0.0001, 0.1] } }".into(),
            _ => "{ \"optimizer.adam.lr\" = [0.001, 0.01] }".into(),
        },
        Kind::List(item, [min, _]) => match item.kind() {
            // A family inside a family would go on for ever.
            Kind::Component(_) if depth > 3 => "[]".into(),
            _ => format!("[{}]", vec![sample(item, depth + 1); min.max(1)].join(", ")),
        },
        Kind::Number(range) if range.whole => format!("{}", range.min.clamp(1.0, range.max.max(1.0))),
        Kind::Number(range) => format!("{:?}", 1.0_f64.clamp(range.min, range.max)),
        Kind::Text => "\"..\"".into(),
        Kind::Bool => "true".into(),
        Kind::Choice(choices) => choices.first().map_or("true".into(), |choice| inline(choice)),
        Kind::Any(branches) => branches.first().map_or("true".into(), |branch| sample(*branch, depth)),
        Kind::Free => "1".into(),
    }
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if entries.is_empty() { "{}".into() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// A JSON value as TOML in one line.
fn inline(value: &Json) -> String {
    match value {
        Json::Object(keys) => {
            table(keys.iter().filter(|(_, v)| !v.is_null()).map(|(key, v)| (key.as_str(), inline(v))))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn wrap(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 100 => line.extend([" ", word]),
            _ => lines.push(word.into()),
        }
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}
