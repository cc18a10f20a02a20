//! A typed view of the JSON schema: what may stand where. Checks, merging, `--set`, sweep axes and `runner explain` read
//! it, so that they follow from the spec's types alone.

use serde_json::Value as Json;

/// A place in the JSON schema.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    root: &'a Json,
    node: &'a Json,
}

/// What a place allows.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// A table of known keys.
    Table(Vec<(&'a str, Shape<'a>)>),
    /// A table of any keys.
    Map(Shape<'a>),
    /// A table whose one key names a component of a family.
    Component(Vec<(&'a str, Shape<'a>)>),
    /// A list whose length lies in the range.
    List(Shape<'a>, [usize; 2]),
    Number(Range),
    Text,
    Bool,
    /// One of these values.
    Choice(Vec<&'a Json>),
    /// Whatever one of these allows.
    Any(Vec<Shape<'a>>),
    /// No more is known.
    Free,
}

/// A range of numbers, its ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub whole: bool,
    pub min: f64,
    pub max: f64,
    /// Whether `min` and `max` themselves are left out.
    pub open: [bool; 2],
}

impl Range {
    /// Whether a number lies within.
    pub fn holds(&self, number: f64) -> bool {
        let above = if self.open[0] { number > self.min } else { number >= self.min };
        let below = if self.open[1] { number < self.max } else { number <= self.max };
        number.is_finite() && above && below
    }
}

impl<'a> Shape<'a> {
    pub fn new(root: &'a Json) -> Self {
        Self { root, node: root }
    }

    /// A node of a schema.
    pub fn within(root: &'a Json, node: &'a Json) -> Self {
        Self { root, node }
    }

    fn at(self, node: &'a Json) -> Self {
        Self { node, ..self }
    }

    fn list(self, key: &str) -> Vec<Shape<'a>> {
        self.node.get(key).and_then(Json::as_array).map_or(Vec::new(), |list| list.iter().map(|n| self.at(n)).collect())
    }

    /// Where a `$ref`, or the one entry of an `allOf`, leads.
    fn resolve(self) -> Self {
        let target =
            self.node.get("$ref").and_then(Json::as_str).and_then(|to| self.root.pointer(to.strip_prefix('#')?));
        match (target, &self.list("allOf")[..]) {
            (Some(target), _) => self.at(target).resolve(),
            (None, [only]) => only.resolve(),
            _ => self,
        }
    }

    /// What the doc comment says, of the key itself before that of its type.
    pub fn about(self) -> &'a str {
        let text = |node: &'a Json| node.get("description").and_then(Json::as_str);
        text(self.node).or_else(|| text(self.resolve().node)).unwrap_or_default()
    }

    pub fn default(self) -> Option<&'a Json> {
        self.node.get("default")
    }

    /// The schema itself.
    pub fn json(self) -> &'a Json {
        self.node
    }

    /// Keys that a table must have.
    pub fn required(self) -> Vec<&'a str> {
        let list = self.effective().node.get("required").and_then(Json::as_array);
        list.map_or(Vec::new(), |list| list.iter().filter_map(Json::as_str).collect())
    }

    /// What remains behind references, and beside `null`.
    fn effective(self) -> Self {
        let this = self.resolve();
        match this.branches()[..] {
            [only] if !only.is_tag() => only.effective(),
            _ => this,
        }
    }

    /// The alternatives, `null` aside.
    fn branches(self) -> Vec<Shape<'a>> {
        let all = [self.list("oneOf"), self.list("anyOf")].concat();
        all.into_iter().filter(|branch| !branch.is_null()).collect()
    }

    pub fn kind(self) -> Kind<'a> {
        let this = self.effective();
        let branches = this.branches();
        if !branches.is_empty() {
            return this.union(branches);
        }
        if let Some(only) = this.node.get("const") {
            return Kind::Choice(vec![only]);
        }
        if let Some(choices) = this.node.get("enum").and_then(Json::as_array) {
            return Kind::Choice(choices.iter().filter(|choice| !choice.is_null()).collect());
        }
        this.typed()
    }

    fn union(self, branches: Vec<Shape<'a>>) -> Kind<'a> {
        if branches.iter().all(|branch| branch.is_tag()) {
            return Kind::Component(branches.iter().flat_map(|branch| branch.keys()).collect());
        }
        // What may be left out stands beside the alternatives of a type of its own.
        let inner = |branch: Shape<'a>| if let Kind::Any(inner) = branch.kind() { inner } else { vec![branch] };
        let branches: Vec<Shape<'a>> = branches.into_iter().flat_map(inner).collect();
        let choices = branches.iter().map(|branch| match branch.kind() {
            Kind::Choice(choices) => Some(choices),
            _ => None,
        });
        match choices.collect::<Option<Vec<_>>>() {
            Some(choices) => Kind::Choice(choices.concat()),
            None => Kind::Any(branches),
        }
    }

    fn typed(self) -> Kind<'a> {
        let types: Vec<&str> = match self.node.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).filter(|name| *name != "null").collect(),
            _ => Vec::new(),
        };
        match types[..] {
            ["object"] if self.node.get("properties").is_some() => Kind::Table(self.keys()),
            ["object"] => match self.node.get("additionalProperties").filter(|open| **open != Json::Bool(false)) {
                Some(values) => Kind::Map(self.at(values)),
                None => Kind::Table(self.keys()),
            },
            ["array"] => {
                let length = |key: &str| self.node.get(key).and_then(Json::as_u64).map(|n| n as usize);
                let item = self.node.get("items").map_or(self.at(&Json::Bool(true)), |items| self.at(items));
                Kind::List(item, [length("minItems").unwrap_or(0), length("maxItems").unwrap_or(usize::MAX)])
            }
            ["integer"] => Kind::Number(self.range(true)),
            ["number"] => Kind::Number(self.range(false)),
            ["string"] => Kind::Text,
            ["boolean"] => Kind::Bool,
            _ => Kind::Free,
        }
    }

    fn range(self, whole: bool) -> Range {
        let end = |key: &str| self.node.get(key).and_then(Json::as_f64);
        let (above, below) = (end("exclusiveMinimum"), end("exclusiveMaximum"));
        let widest = match self.node.get("format").and_then(Json::as_str) {
            Some("uint32") => f64::from(u32::MAX),
            Some("int32") => f64::from(i32::MAX),
            _ => f64::INFINITY,
        };
        Range {
            whole,
            min: above.or(end("minimum")).unwrap_or(f64::NEG_INFINITY),
            max: below.or(end("maximum")).unwrap_or(widest),
            open: [above.is_some(), below.is_some()],
        }
    }

    fn keys(self) -> Vec<(&'a str, Shape<'a>)> {
        let keys = self.node.get("properties").and_then(Json::as_object);
        keys.map_or(Vec::new(), |keys| keys.iter().map(|(key, node)| (key.as_str(), self.at(node))).collect())
    }

    /// A branch of an externally tagged enum: a table with one key, which it must have.
    fn is_tag(self) -> bool {
        self.keys().len() == 1 && self.node.get("required").and_then(Json::as_array).is_some_and(|keys| keys.len() == 1)
    }

    fn is_null(self) -> bool {
        self.node.get("type").and_then(Json::as_str) == Some("null")
    }

    /// Whether a key may have no value at all.
    pub fn is_optional(self) -> bool {
        let this = self.resolve();
        let many = this.node.get("type").and_then(Json::as_array);
        many.is_some_and(|types| types.iter().any(|name| name == "null"))
            || this.list("anyOf").iter().any(|b| b.is_null())
    }

    /// What may stand under a key; `None` where the key is unknown.
    pub fn key(self, key: &str) -> Option<Shape<'a>> {
        match self.kind() {
            Kind::Table(keys) | Kind::Component(keys) => {
                keys.into_iter().find(|(name, _)| *name == key).map(|(_, s)| s)
            }
            Kind::Map(values) => Some(values),
            Kind::Any(branches) => branches.into_iter().find_map(|branch| branch.key(key)),
            _ => None,
        }
    }

    /// Every path of keys below, `optimizer.adam.lr` and the tables above it, without the insides of lists, and without
    /// what a component holds of its own family.
    pub fn paths(self) -> Vec<String> {
        self.paths_within(&mut Vec::new())
    }

    /// `above` are the places this one lies in: a type that holds itself would never end.
    fn paths_within(self, above: &mut Vec<&'a Json>) -> Vec<String> {
        let here = self.effective().node;
        if above.iter().any(|place| std::ptr::eq(*place, here)) {
            return Vec::new();
        }
        above.push(here);
        let mut paths = Vec::new();
        match self.kind() {
            Kind::Table(keys) | Kind::Component(keys) => {
                for (key, shape) in keys {
                    paths.push(key.to_string());
                    paths.extend(shape.paths_within(above).into_iter().map(|path| format!("{key}.{path}")));
                }
            }
            Kind::Any(branches) => paths.extend(branches.into_iter().flat_map(|branch| branch.paths_within(above))),
            _ => {}
        }
        above.pop();
        paths
    }

    /// In words: `a whole number of at least 1`.
    pub fn describe(self) -> String {
        match self.kind() {
            Kind::Table(keys) if keys.len() == 1 => format!("a table with `{}`", keys[0].0),
            Kind::Table(_) | Kind::Map(_) => "a table".into(),
            Kind::Component(names) => {
                format!("a table with one of {}", names.iter().map(|n| n.0).collect::<Vec<_>>().join(", "))
            }
            Kind::List(item, [min, max]) if min == max => format!("a list of {min}, each {}", item.describe()),
            Kind::List(item, _) => match item.kind() {
                Kind::Component(names) if !names.is_empty() => format!("a list such as [{{ {} = {{}} }}]", names[0].0),
                _ => format!("a list, each {}", item.describe()),
            },
            Kind::Number(range) => range.describe(),
            Kind::Text => "text in quotes".into(),
            Kind::Bool => "true or false".into(),
            Kind::Choice(choices) => join(choices.iter().map(|choice| choice.to_string())),
            Kind::Any(branches) => join(branches.iter().map(|branch| branch.describe())),
            Kind::Free => "a value".into(),
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
pub fn join(words: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<String> = words.into_iter().collect();
    match (words.pop(), words.is_empty()) {
        (Some(last), false) => format!("{} or {last}", words.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

impl Range {
    pub fn describe(&self) -> String {
        let number = if self.whole { "a whole number" } else { "a number" };
        let min = if self.open[0] { "greater than" } else { "of at least" };
        let max = if self.open[1] { "less than" } else { "of at most" };
        let endless = |end: f64| !end.is_finite() || end == f64::from(u32::MAX) || end == f64::from(i32::MAX);
        match (!endless(self.min), !endless(self.max)) {
            (true, true) if self.open == [false; 2] => format!("{number} between {} and {}", self.min, self.max),
            (true, true) => format!("{number} {min} {} and {max} {}", self.min, self.max),
            (true, false) => format!("{number} {min} {}", self.min),
            (false, true) => format!("{number} {max} {}", self.max),
            (false, false) => number.into(),
        }
    }
}
