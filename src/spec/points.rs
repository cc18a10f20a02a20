//! The points that a sweep's axes lay on an experiment, each resolved and checked.

use super::{
    Experiment, ExperimentFile,
    checks::Data,
    mistake::{Mistake, Mistakes},
    resolve::{Merged, resolve},
    space::Space,
    sweep::{Axis, Block, Folds, Point, SweepSpec},
    tree::Node,
};

/// The sweep's points of one experiment; itself alone where no block is for it. Those of a searched space come later.
pub fn points(
    sweep: &SweepSpec,
    experiment: &str,
    merged: &Merged,
    data: &mut Data,
    mistakes: &mut Mistakes,
) -> Vec<Point> {
    let blocks: Vec<_> = sweep.blocks.iter().enumerate().filter(|(_, block)| block.is_for(experiment)).collect();
    let mut points = Vec::new();
    for &(index, block) in &blocks {
        let mut lay = Lay { folds: sweep.folds.as_ref(), seeds: &block.seeds, block: Some(index), data, mistakes };
        match &block.space {
            Some(space) => probe(&mut lay, merged, space),
            None => block.combinations().iter().for_each(|combination| points.extend(lay.folded(merged, combination))),
        }
    }
    if blocks.is_empty() {
        let (folds, seeds) = (sweep.folds.as_ref(), &sweep.seeds);
        points.extend(Lay { folds, seeds, block: None, data, mistakes }.folded(merged, &[]));
    }
    points
}

/// The point of a sample, for each fold.
pub fn sampled(
    file: &ExperimentFile,
    experiment: &Experiment,
    (block, searched): (usize, &Block),
    sample: &[Option<f64>],
    data: &mut Data,
    mistakes: &mut Mistakes,
) -> Vec<Point> {
    let nodes = searched.space.as_ref().map_or(Vec::new(), |space| space.nodes(sample));
    let combination: Vec<_> = nodes.iter().map(|(axis, node)| (*axis, node)).collect();
    let folds = file.sweep.folds.as_ref();
    Lay { folds, seeds: &searched.seeds, block: Some(block), data, mistakes }.folded(&experiment.merged, &combination)
}

/// Tries what a space holds at its ends, so that mistakes show before anything starts.
fn probe(lay: &mut Lay, merged: &Merged, space: &Space) {
    for (dimension, sample) in space.probes() {
        let nodes = space.nodes(&sample);
        let path = space.dimensions[dimension].path();
        let mut under = merged.clone();
        let others = nodes.iter().filter(|(axis, _)| axis.path != path);
        others.for_each(|(axis, node)| axis.lay(&mut under.tree, node, lay.mistakes));
        let axis = nodes.iter().map(|(axis, _)| axis).find(|axis| axis.path == path);
        if let Some((family, wanted, used)) = axis.and_then(|axis| axis.other_variant(&under.tree)) {
            let what = format!("`{path}` means nothing to {}: its {family} is `{used}`", merged.scope);
            let place = axis.map_or(&merged.place, |axis| &axis.place);
            let help = match space.dimensions.iter().any(|other| other.path() == family) {
                true => format!("add when = {{ {family} = \"{wanted}\" }}"),
                false => "put it into a [[sweep.block]] with `for`".into(),
            };
            lay.mistakes.push(Mistake::new(what, place).help(help));
            continue;
        }
        let combination: Vec<_> = nodes.iter().map(|(axis, node)| (*axis, node)).collect();
        lay.folded(merged, &combination);
    }
}

/// Lays points on an experiment.
struct Lay<'a> {
    folds: Option<&'a Folds>,
    seeds: &'a [u64],
    block: Option<usize>,
    data: &'a mut Data,
    mistakes: &'a mut Mistakes,
}

impl Lay<'_> {
    /// The point of each fold of a combination; of the combination itself where the sweep has no folds.
    fn folded(&mut self, merged: &Merged, combination: &[(&Axis, &Node)]) -> Vec<Point> {
        let mut merged = merged.clone();
        combination.iter().for_each(|(axis, value)| axis.lay(&mut merged.tree, value, self.mistakes));
        let Some(folds) = self.folds else { return self.point(&merged, combination).into_iter().collect() };
        let mut points = Vec::new();
        for index in 0..folds.of {
            let mut merged = merged.clone();
            folds.lay(index, &mut merged.tree, self.mistakes);
            points.extend(self.point(&merged, combination));
        }
        points
    }

    fn point(&mut self, merged: &Merged, combination: &[(&Axis, &Node)]) -> Option<Point> {
        let assignments = combination.iter().map(|(axis, value)| (axis.path.clone(), named(&value.plain())));
        let spec = resolve(merged, self.data, self.mistakes)?;
        Some(Point { assignments: assignments.collect(), spec, seeds: self.seeds.to_vec(), block: self.block })
    }
}

/// A value as points are called by it: a component without parameters by its name alone.
fn named(value: &toml::Value) -> String {
    match value.as_table().and_then(|table| table.iter().next().filter(|_| table.len() == 1)) {
        Some((name, parameters)) if parameters.as_table().is_some_and(toml::Table::is_empty) => name.clone(),
        _ => value.to_string(),
    }
}
