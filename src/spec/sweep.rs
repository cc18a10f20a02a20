//! The `[sweep]` table: what varies, and the points that this makes of an experiment.

mod table;

use super::{
    conform::conform,
    merge::merge,
    mistake::{Mistake, Mistakes, Place},
    per_gpu::RunsPerGpu,
    race::Race,
    run::RunSpec,
    schema::{file_shape, layer_shape, run_shape},
    shape::Kind,
    size,
    space::{self, Sampler, Space},
    tree::{Entry, Node, Value},
    unknown::unknown_path,
};
use crate::prune::PrunerSpec;
use garde::Validate;
pub use table::SweepTable;

/// The `[sweep]` table.
#[derive(Clone, Debug, Default)]
pub struct SweepSpec {
    /// Seeds of every run whose block has none of its own.
    pub seeds: Vec<u64>,
    /// The folds of every run.
    pub folds: Option<Folds>,
    pub pruning: Option<PrunerSpec>,
    pub race: Option<Race>,
    /// Where `pruning` is written.
    pub(super) pruning_place: Option<Place>,
    /// Whether runs that begin alike share what they have in common.
    pub share_prefix: bool,
    /// Bytes that checkpoints may take.
    pub disk: Option<u64>,
    /// Runs at once on each GPU.
    pub runs_per_gpu: RunsPerGpu,
    /// `grid` and `zip` of the table itself, then every `[[sweep.block]]`.
    pub blocks: Vec<Block>,
}

/// `folds = 5`: every run becomes so many runs, which differ in `fold.index` alone.
#[derive(Clone, Debug)]
pub struct Folds {
    pub of: u32,
    /// Where the number is written.
    place: Place,
}

/// One space: which values go together, and for which experiments.
#[derive(Clone, Debug)]
pub struct Block {
    /// `None` for all.
    pub experiments: Option<Vec<String>>,
    pub seeds: Vec<u64>,
    pub grid: Vec<Axis>,
    pub zip: Vec<Axis>,
    /// In place of both.
    pub space: Option<Space>,
    /// Points are tried on the first seed, and the best so many of each experiment on the others; `None`: all on all.
    pub confirm: Option<usize>,
}

/// A key and the values it takes.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Dotted, e.g. `optimizer.adam.lr`.
    pub path: String,
    /// Where the key is written.
    pub(super) place: Place,
    pub(super) values: Vec<Node>,
}

/// More combinations than this are a slip of the pen: each is at least one training run.
const MOST_POINTS: usize = 100_000;

/// One combination of a block's values, not yet laid on an experiment.
pub type Combination<'a> = Vec<(&'a Axis, &'a Node)>;

/// One combination of the sweep's axes, laid on an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Dotted path and value, e.g. `("optimizer.adam.lr", "0.005")`, in the file's order.
    pub assignments: Vec<(String, String)>,
    pub spec: RunSpec,
    pub seeds: Vec<u64>,
    /// The block it belongs to; `None` where no block is for the experiment.
    pub block: Option<usize>,
}

impl Folds {
    /// Lays one fold on an experiment, which must not have said which fold it takes.
    pub(super) fn lay(&self, index: u32, tree: &mut Node, mistakes: &mut Mistakes) {
        for (path, number) in [("fold.index", index), ("fold.of", self.of)] {
            if let Some((_, place)) = tree.find(path.split('.')) {
                let mistake =
                    Mistake::new(format!("`{path}` is set here, and `[sweep] folds` sets it for every run"), place);
                mistakes.push(mistake.help("leave one of the two out"));
            }
            let node = Node { value: Value::Integer(number.into()), place: self.place.clone(), origin: "sweep".into() };
            let axis = Axis { path: path.into(), place: self.place.clone(), values: Vec::new() };
            axis.lay(tree, &node, mistakes);
        }
    }
}

impl Block {
    /// Whether it is for an experiment.
    pub fn is_for(&self, experiment: &str) -> bool {
        self.experiments.as_ref().is_none_or(|names| names.iter().any(|name| name == experiment))
    }

    /// Every axis of its grid and its zip.
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.grid.iter().chain(&self.zip)
    }

    /// The keys of its space.
    pub(super) fn searched(&self) -> impl Iterator<Item = &Axis> {
        self.space.iter().flat_map(|space| &space.dimensions).map(|dimension| &dimension.axis)
    }

    /// Every combination: the first axis of the grid varies slowest, the zipped ones fastest. One empty one without axes.
    pub fn combinations(&self) -> Vec<Combination<'_>> {
        let mut all: Vec<Combination> = vec![Vec::new()];
        for axis in &self.grid {
            all = extend(all, &axis.values.iter().map(|value| vec![(axis, value)]).collect::<Vec<_>>());
        }
        let length = self.zip.iter().map(|axis| axis.values.len()).min();
        let row = |index| self.zip.iter().map(|axis| (axis, &axis.values[index])).collect();
        length.map_or(all.clone(), |length| extend(all, &(0..length).map(row).collect::<Vec<_>>()))
    }
}

/// Every start with every continuation, the starts varying slowest.
fn extend<'a>(starts: Vec<Combination<'a>>, ends: &[Combination<'a>]) -> Vec<Combination<'a>> {
    starts.iter().flat_map(|start| ends.iter().map(|end| [&start[..], &end[..]].concat())).collect()
}

impl Axis {
    /// Lays one of the values on an experiment.
    pub(super) fn lay(&self, tree: &mut Node, value: &Node, mistakes: &mut Mistakes) {
        merge(tree, &self.nest(value), run_shape(), mistakes);
    }

    fn nest(&self, value: &Node) -> Node {
        self.path.rsplit('.').fold(value.clone(), |node, key| {
            let entry = Entry { key: key.into(), place: self.place.clone(), node };
            Node { value: Value::Table(vec![entry]), place: self.place.clone(), origin: value.origin.clone() }
        })
    }

    /// The variant that this axis names and an experiment does not use: family, wanted, used.
    pub(super) fn other_variant(&self, tree: &Node) -> Option<(String, String, String)> {
        let steps: Vec<&str> = self.path.split('.').collect();
        for depth in 1..steps.len() {
            let family = &steps[..depth];
            let shape = family.iter().try_fold(run_shape(), |shape, step| shape.key(step))?;
            if !matches!(shape.kind(), Kind::Component(_)) {
                continue;
            }
            let given = tree.find(family.iter().copied()).and_then(|(node, _)| node.entries().first());
            let default = shape.default().and_then(|json| json.as_object()?.keys().next().cloned());
            let used = given.map(|entry| entry.key.clone()).or(default)?;
            if used != steps[depth] {
                return Some((family.join("."), steps[depth].into(), used));
            }
        }
        None
    }
}

impl SweepSpec {
    /// Reads the table; `names` are the file's experiments.
    pub(super) fn read(entry: Option<Entry>, names: &[&str], mistakes: &mut Mistakes) -> Self {
        let Some(mut entry) = entry else { return Self { seeds: vec![0], ..Self::default() } };
        flatten_spaces(&mut entry.node);
        // `--set sweep.pruning=false` takes away what the file says.
        for key in ["pruning", "race"] {
            if matches!(entry.node.get(key).map(|node| &node.value), Some(Value::Bool(false))) {
                entry.node.take(key);
            }
        }
        let shape = file_shape().key("sweep").unwrap_or(file_shape());
        let mark = entry.mark().clone();
        conform(&mut entry.node, shape, &mark, ("[sweep]", "sweep"), mistakes);
        let seeds = entry.node.get("seeds").map_or(vec![0], |node| seeds(node, mistakes));
        let folds = entry.node.entry("folds").and_then(|folds| match folds.node.value {
            Value::Integer(of) => Some(Folds { of: of as u32, place: folds.mark().clone() }),
            _ => None,
        });
        let pruning = entry.node.entry("pruning").and_then(|entry| component(entry, mistakes));
        let race = entry.node.entry("race").and_then(|entry| component(entry, mistakes));
        check_race(&entry.node, &race, seeds.len(), mistakes);
        let pruning_place = entry.node.entry("pruning").map(|entry| entry.mark().clone());
        let disk = entry.node.get("disk").and_then(|node| size::read("disk", node, mistakes));
        let runs_per_gpu = match entry.node.get("runs_per_gpu").map(|node| &node.value) {
            Some(Value::Integer(count)) => RunsPerGpu::Count(*count as usize),
            Some(_) => RunsPerGpu::Auto,
            None => RunsPerGpu::default(),
        };
        let share_prefix = entry.node.get("share_prefix").is_some_and(|node| matches!(node.value, Value::Bool(true)));
        let mut reader = Reader { names, seeds: &seeds, table: &entry.node, mistakes };
        let mut blocks = Vec::new();
        if VARIES.iter().any(|key| entry.node.get(key).is_some()) {
            blocks.push(reader.block(&entry.node));
        }
        for block in entry.node.get("block").map_or(&[][..], Node::items) {
            if block.entries().iter().all(|entry| entry.key == "for") {
                let mistake = Mistake::new("this block varies nothing", &block.place);
                reader.mistakes.push(mistake.help("give it a `grid`, a `zip`, a `random`, a `tpe` or `seeds`"));
            }
            blocks.push(reader.block(block));
        }
        Self { seeds, folds, pruning, race, pruning_place, share_prefix, disk, runs_per_gpu, blocks }
    }
}

/// A race starts from two seeds, for a test, and ends with more.
fn check_race(table: &Node, race: &Option<Race>, seeds: usize, mistakes: &mut Mistakes) {
    let (Some(race), Some(entry)) = (race, table.entry("race")) else { return };
    let what = match (seeds, race.seeds) {
        (0 | 1, _) => "a race starts from at least two seeds: one tells nothing about how much they matter".to_string(),
        (seeds, most) if seeds >= most => format!("this race has no further seed to give: every run has {seeds}"),
        _ => return,
    };
    let mistake = Mistake::new(what, entry.mark());
    mistakes.push(mistake.help("`sweep.seeds` is what everyone gets, `race.seeds` the most that anyone gets"));
}

/// Reads a table that conforms to its schema.
fn component<T>(entry: &Entry, mistakes: &mut Mistakes) -> Option<T>
where
    T: serde::de::DeserializeOwned + Validate<Context = ()>,
{
    let read = entry.node.plain().try_into::<T>();
    let checked = read.map_err(|error| error.message().to_string()).and_then(|spec| match spec.validate() {
        Ok(()) => Ok(spec),
        Err(report) => Err(report.to_string()),
    });
    checked
        .map_err(|why| mistakes.push(Mistake::new(format!("`{}`: {}", entry.key, why.trim_end()), entry.mark())))
        .ok()
}

fn seeds(node: &Node, mistakes: &mut Mistakes) -> Vec<u64> {
    let mut seeds = Vec::new();
    match &node.value {
        Value::Integer(count) => seeds.extend(0..*count as u64),
        _ => {
            for item in node.items() {
                let Value::Integer(seed) = item.value else { continue };
                if seeds.contains(&(seed as u64)) {
                    mistakes.push(Mistake::new(format!("seed {seed} is given twice"), &item.place));
                }
                seeds.push(seed as u64);
            }
        }
    }
    seeds
}

/// What makes points of an experiment.
const VARIES: [&str; 4] = ["grid", "zip", "random", "tpe"];

/// Lets the keys of `random` and `tpe`, in the sweep and its blocks, be written as nested tables too.
fn flatten_spaces(table: &mut Node) {
    for entry in table.entries_mut().into_iter().flatten() {
        match (entry.key.as_str(), &mut entry.node.value) {
            ("random" | "tpe", _) => space::flatten(&mut entry.node),
            ("block", Value::List(blocks)) => blocks.iter_mut().for_each(flatten_spaces),
            _ => {}
        }
    }
}

struct Reader<'a> {
    names: &'a [&'a str],
    seeds: &'a [u64],
    /// The `[sweep]` table, which has what a block lacks.
    table: &'a Node,
    mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn block(&mut self, node: &Node) -> Block {
        let experiments = node.get("for").map(|names| self.experiments(names));
        let seeds = node.get("seeds").map_or(self.seeds.to_vec(), |node| seeds(node, self.mistakes));
        let space = self.space(node);
        let confirm = self.number(node, "confirm").or(space.is_some().then_some(3));
        let [grid, zip] = ["grid", "zip"].map(|key| node.get(key).map_or(Vec::new(), |node| self.axes(key, node)));
        if let Some(axis) = zip.iter().find(|axis| grid.iter().any(|other| other.path == axis.path)) {
            self.mistakes.push(Mistake::new(format!("`{}` is in both `grid` and `zip`", axis.path), &axis.place));
        }
        if let Some(odd) = zip.iter().find(|axis| axis.values.len() != zip[0].values.len()) {
            let lengths = zip.iter().map(|axis| format!("`{}` has {}", axis.path, axis.values.len()));
            let mistake = Mistake::new("zipped lists must have the same length", &odd.place);
            self.mistakes
                .push(mistake.help(lengths.collect::<Vec<_>>().join(", ")).help("use `grid` for every combination"));
        }
        let points = grid.iter().fold(1usize, |points, axis| points.saturating_mul(axis.values.len()));
        if points > MOST_POINTS {
            let mistake = Mistake::new(format!("this grid has {points} points"), &grid[0].place);
            self.mistakes.push(mistake.help(format!("a block may have {MOST_POINTS}; `zip` varies keys together")));
            return Block { experiments, seeds, grid: Vec::new(), zip, space, confirm };
        }
        Block { experiments, seeds, grid, zip, space, confirm }
    }

    /// A number of the block, or else of the sweep.
    fn number(&self, node: &Node, key: &str) -> Option<usize> {
        match node.get(key).or(self.table.get(key))?.value {
            Value::Integer(number) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    fn space(&mut self, node: &Node) -> Option<Space> {
        let found: Vec<&Entry> = VARIES.iter().filter_map(|key| node.entry(key)).collect();
        let sampler = Sampler::ALL.into_iter().find(|sampler| node.get(sampler.name()).is_some());
        let Some(sampler) = sampler else {
            self.needs_space(node);
            return None;
        };
        if let [first, .., last] = found[..] {
            let what = format!("`{}` and `{}` exclude each other in one place", first.key, last.key);
            let help = "give each a [[sweep.block]] of its own; a search may have fixed values as `choice`";
            self.mistakes.push(Mistake::new(what, &last.place).help(help));
            return None;
        }
        let mut reader = space::Reader { mistakes: self.mistakes, checked: true };
        let dimensions = reader.dimensions(sampler.name(), node.get(sampler.name())?);
        let trials = self.number(node, "trials").unwrap_or(20);
        let seed = self.number(node, "search_seed").unwrap_or(0) as u64;
        (!dimensions.is_empty()).then_some(Space { sampler, trials, seed, dimensions })
    }

    /// `trials` and `search_seed` mean nothing to a grid.
    fn needs_space(&mut self, node: &Node) {
        let root = std::ptr::eq(node, self.table);
        for key in ["trials", "search_seed"] {
            if let Some(entry) = node.entry(key).filter(|_| !root || self.table.get("block").is_none()) {
                let mistake =
                    Mistake::new(format!("`{key}` is about `random` and `tpe`, and there is neither"), &entry.place);
                self.mistakes.push(
                    mistake.help("add one: random = { \"optimizer.adam.lr\" = { log_uniform = [0.0001, 0.1] } }"),
                );
            }
        }
    }

    fn experiments(&mut self, names: &Node) -> Vec<String> {
        for item in names.items() {
            let name = item.text().unwrap_or_default();
            if !self.names.contains(&name) {
                let mistake = Mistake::new(format!("there is no experiment `{name}`"), &item.place);
                self.mistakes.push(mistake.names(name, "experiments", self.names.iter().copied()));
            }
        }
        names.items().iter().filter_map(|item| item.text().map(String::from)).collect()
    }

    fn axes(&mut self, kind: &str, node: &Node) -> Vec<Axis> {
        let mut axes = Vec::new();
        if node.entries().is_empty() {
            let mistake = Mistake::new(format!("`{kind}` is empty"), &node.place);
            self.mistakes.push(mistake.help(format!("write {kind} = {{ \"optimizer.adam.lr\" = [0.001, 0.01] }}")));
        }
        self.collect(node, "", &mut axes);
        axes
    }

    /// Keys may be quoted whole (`"optimizer.adam.lr"`) or written as nested tables.
    fn collect(&mut self, node: &Node, prefix: &str, axes: &mut Vec<Axis>) {
        for entry in node.entries() {
            let path = [prefix, &entry.key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            match &entry.node.value {
                Value::Table(_) => self.collect(&entry.node, &path, axes),
                Value::List(values) => axes.extend(self.axis(path, &entry.place, entry.mark(), values)),
                _ => {
                    let what = format!("`{path}` must be a list of values, not {}", entry.node.describe());
                    self.mistakes.push(Mistake::new(what, entry.mark()).help("for example: [0.001, 0.01]"));
                }
            }
        }
    }

    fn axis(&mut self, path: String, place: &Place, mark: &Place, values: &[Node]) -> Option<Axis> {
        let shape = path.split('.').try_fold(layer_shape(), |shape, step| shape.key(step));
        let Some(shape) = shape else {
            self.mistakes.push(unknown_path(&path, place));
            return None;
        };
        if values.is_empty() {
            let mistake = Mistake::new(format!("`{path}` has no values to take"), mark);
            self.mistakes.push(mistake.help("give it at least one, or leave the key out"));
        }
        let mut right = Vec::new();
        for (index, value) in values.iter().enumerate() {
            if values[..index].iter().any(|other| other.plain() == value.plain()) {
                self.mistakes.push(Mistake::new(format!("`{path}` takes this value twice"), &value.place));
            }
            let mut value = value.clone();
            value.relabel(&"sweep".into());
            let place = value.place.clone();
            let (stays, pruned) = conform(&mut value, shape, &place, ("[sweep]", &path), self.mistakes);
            right.extend((stays && pruned.is_empty()).then_some(value));
        }
        (!right.is_empty()).then(|| Axis { path, place: place.clone(), values: right })
    }
}
