//! What a sweep decides while it runs: searches, pruning, confirmation. Runs are simulated, so that hundreds take no time.

use runner::{
    error::Result,
    event::{Event, Split},
    spec::{ExperimentFile, RunSpec},
    sweep::{self, Decided, Director, Order, PlannedRun, Seen},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// A file with one experiment of nine epochs and this sweep.
fn load(sweep: &str) -> ExperimentFile {
    load_with("[[experiment]]\nname = \"a\"", sweep)
}

fn load_with(experiments: &str, sweep: &str) -> ExperimentFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.toml");
    let text = format!("[data.synthetic]\n[defaults]\nepochs = 9\n{experiments}\n[sweep]\n{sweep}\n");
    std::fs::write(&path, text).unwrap();
    ExperimentFile::load(&path, &[]).unwrap()
}

fn fingerprint(_: &RunSpec) -> Result<String> {
    Ok("data".into())
}

fn points(file: &ExperimentFile) -> Vec<Vec<(String, String)>> {
    sweep::plan(file, &fingerprint).unwrap().into_iter().map(|run| run.point).collect()
}

/// What a run comes to: its AUC at an epoch.
type Curve = dyn Fn(&PlannedRun, u32) -> f64;

/// Runs as they would be in a store.
#[derive(Default)]
struct World {
    runs: BTreeMap<String, (Rc<PlannedRun>, Vec<f64>)>,
    finished: BTreeSet<String>,
    decided: Vec<Decided>,
    /// Epochs trained in all, and orders given.
    epochs: usize,
    orders: usize,
    pruned: BTreeSet<String>,
    losses: Vec<sweep::Loss>,
}

impl World {
    /// Runs `jobs` at once until nothing is left, or `stop_after` epochs; some are faster than others.
    fn run(&mut self, file: &ExperimentFile, jobs: usize, stop_after: usize, curve: &Curve) {
        let mut director = Director::new(file, &fingerprint, &self.decided).unwrap();
        let known: Vec<_> = director.runs().cloned().collect();
        known.iter().for_each(|run| self.recall(&mut director, run));
        let mut active: Vec<Order> = Vec::new();
        let mut told: BTreeSet<String> = known.iter().map(|run| run.id.clone()).collect();
        let (mut clock, last) = (0usize, self.epochs + stop_after);
        loop {
            while active.len() < jobs {
                let orders = director.next(jobs - active.len()).unwrap();
                self.decided.extend(director.decided());
                if orders.is_empty() {
                    break;
                }
                for order in orders {
                    if told.insert(order.run.id.clone()) && self.runs.contains_key(&order.run.id) {
                        self.recall(&mut director, &order.run);
                        continue;
                    }
                    assert!(!active.iter().any(|other| other.run.id == order.run.id), "ordered twice at once");
                    assert!(!self.finished.contains(&order.run.id), "ordered again after it finished");
                    self.orders += 1;
                    director.begun(&order.run.id);
                    active.push(order);
                }
            }
            if active.is_empty() || self.epochs == last {
                break;
            }
            clock = (clock * 7 + 3) % 101;
            let at = clock % active.len();
            if self.epoch(&mut director, &active[at], curve) {
                active.remove(at);
            }
        }
        self.pruned = director.pruned().into_iter().collect();
        self.losses = director.losses().to_vec();
    }

    /// Trains one epoch; true when the order is done.
    fn epoch(&mut self, director: &mut Director, order: &Order, curve: &Curve) -> bool {
        let (run, id) = (&order.run, &order.run.id);
        let (_, so_far) = self.runs.entry(id.clone()).or_insert((run.clone(), Vec::new()));
        let epoch = so_far.len() as u32 + 1;
        so_far.push(curve(run, epoch));
        self.epochs += 1;
        let values = |value: f64| [("auc".to_string(), value)].into();
        director.saw(id, &Event::Epoch { epoch, split: Split::Val, values: values(so_far[epoch as usize - 1]) });
        if epoch == run.spec.epochs {
            self.finished.insert(id.clone());
            let best = so_far.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            director.saw(id, &Event::Finished { best_epoch: epoch, summary: values(best) });
            return true;
        }
        let pauses = order.until == Some(epoch);
        if pauses {
            director.saw(id, &Event::Paused { epoch });
        }
        pauses
    }

    fn recall(&self, director: &mut Director, run: &PlannedRun) {
        director.recall(&run.id, Seen { pruned: self.pruned.contains(&run.id), ..Seen::default() });
        let Some((_, curve)) = self.runs.get(&run.id) else { return };
        for (epoch, value) in (1..).zip(curve) {
            let values = [("auc".to_string(), *value)].into();
            director.saw(&run.id, &Event::Epoch { epoch, split: Split::Val, values });
        }
        if self.finished.contains(&run.id) {
            let best = curve.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let summary = [("auc".to_string(), best)].into();
            director.saw(&run.id, &Event::Finished { best_epoch: 1, summary });
        }
    }

    fn best(&self) -> f64 {
        let finished = self.runs.iter().filter(|(id, _)| self.finished.contains(*id));
        finished.flat_map(|(_, (_, curve))| curve.iter().copied()).fold(f64::NEG_INFINITY, f64::max)
    }

    /// How many runs came to each epoch.
    fn lengths(&self) -> BTreeMap<usize, usize> {
        let mut lengths = BTreeMap::new();
        self.runs.values().for_each(|(_, curve)| *lengths.entry(curve.len()).or_default() += 1);
        lengths
    }
}

fn done(file: &ExperimentFile, jobs: usize, curve: &Curve) -> World {
    let mut world = World::default();
    world.run(file, jobs, usize::MAX / 2, curve);
    world
}

fn number(run: &PlannedRun, key: &str) -> f64 {
    run.point.iter().find(|(path, _)| path == key).map_or(f64::NAN, |(_, value)| value.parse().unwrap())
}

/// Best at a learning rate of 0.01, a little better every epoch; seeds differ a little.
fn by_rate(run: &PlannedRun, epoch: u32) -> f64 {
    let off = (number(run, "optimizer.adam.lr").log10() + 2.0).abs();
    0.9 - 0.1 * off + 0.005 * f64::from(epoch) + 0.001 * run.seed as f64
}

const RATES: &str = "{ \"optimizer.adam.lr\" = { log_uniform = [0.0001, 1.0] } }";

#[test]
fn random_points_follow_from_the_seed_and_their_number() {
    let file = |trials: u32, seed: u32| load(&format!("trials = {trials}\nsearch_seed = {seed}\nrandom = {RATES}"));
    let twenty = points(&file(20, 0));
    assert_eq!(twenty.len(), 20);
    assert_eq!(twenty, points(&file(20, 0)));
    assert_eq!(twenty[..12], points(&file(12, 0)), "more trials add points, and change none");
    assert_ne!(twenty, points(&file(20, 1)));
    let rates: Vec<f64> = twenty.iter().map(|point| point[0].1.parse().unwrap()).collect();
    assert!(rates.iter().all(|rate| (0.0001..=1.0).contains(rate)));
    let below = rates.iter().filter(|rate| **rate < 0.01).count();
    assert!((5..=15).contains(&below), "half of the orders of magnitude, not of the range: {below} of 20");
}

#[test]
fn another_dimension_changes_nothing_about_the_first() {
    let one = points(&load(&format!("trials = 8\nrandom = {RATES}")));
    let two = points(&load(
        "trials = 8\n[sweep.random]\n\"optimizer.adam.lr\" = { log_uniform = [0.0001, 1.0] }\nbatch_size = { int = [8, 64], step = 8 }",
    ));
    assert_eq!(one.iter().flatten().collect::<Vec<_>>(), two.iter().map(|point| &point[1]).collect::<Vec<_>>());
    assert!(two.iter().all(|point| point[0].1.parse::<u32>().unwrap() % 8 == 0));
}

#[test]
fn conditional_keys_exist_only_where_their_condition_holds() {
    let file = load(
        "trials = 30\n[sweep.random]\noptimizer = { choice = [{ adam = {} }, { sgd = { lr = 0.1 } }] }\n\
         \"optimizer.sgd.momentum\" = { uniform = [0.0, 0.9], when = { optimizer = \"sgd\" } }\n",
    );
    let points = points(&file);
    let momentum = |point: &&Vec<(String, String)>| point.iter().any(|(key, _)| key == "optimizer.sgd.momentum");
    let sgd = |point: &&Vec<(String, String)>| point[0].1.contains("sgd");
    assert!(points.iter().all(|point| momentum(&point) == sgd(&point)), "{points:?}");
    assert!(points.iter().any(|point| sgd(&point)) && !points.iter().all(|point| sgd(&point)));
}

#[test]
fn a_small_space_is_tried_once_and_no_more() {
    let file = load("trials = 50\nrandom = { epochs = { int = [7, 9] } }");
    let mut points = points(&file);
    points.sort();
    assert_eq!(points.iter().map(|point| point[0].1.as_str()).collect::<Vec<_>>(), ["7", "8", "9"]);
    let file = load("trials = 50\ntpe = { epochs = { int = [7, 9] } }");
    assert_eq!(done(&file, 1, &|run, _| f64::from(run.spec.epochs)).finished.len(), 3);
}

#[test]
fn a_search_goes_on_as_if_it_had_not_been_stopped() {
    let file = load(&format!("trials = 25\ntpe = {RATES}"));
    let whole = done(&file, 1, &by_rate);
    assert_eq!(whole.finished.len(), 25);
    let mut parts = World::default();
    for _ in 0..20 {
        parts.run(&file, 1, 13, &by_rate);
    }
    assert_eq!(parts.finished, whole.finished);
    assert_eq!(parts.epochs, whole.epochs, "nothing was trained twice");
}

#[test]
fn trials_are_a_total() {
    let file = |trials: u32| load(&format!("trials = {trials}\ntpe = {RATES}"));
    let mut world = done(&file(15), 3, &by_rate);
    let first = world.finished.clone();
    world.run(&file(15), 3, usize::MAX / 2, &by_rate);
    assert_eq!(world.finished, first, "the same total adds nothing");
    world.run(&file(22), 3, usize::MAX / 2, &by_rate);
    assert!(world.finished.len() == 22 && world.finished.is_superset(&first), "a larger one adds the difference");
}

#[test]
fn the_best_points_get_the_other_seeds() {
    let file = load(&format!("seeds = 3\nconfirm = 2\ntrials = 12\nrandom = {RATES}"));
    let world = done(&file, 2, &by_rate);
    assert_eq!(world.finished.len(), 12 + 2 * 2);
    let mut first: Vec<f64> =
        world.runs.values().filter(|(run, _)| run.seed == 0).map(|(run, _)| by_rate(run, 0)).collect();
    first.sort_by(|a, b| b.total_cmp(a));
    let confirmed = world.runs.values().filter(|(run, _)| run.seed == 2).map(|(run, _)| by_rate(run, 0) - 0.002);
    assert!(confirmed.collect::<Vec<_>>().iter().all(|value| *value >= first[1] - 1e-9));
}

#[test]
fn asha_promotes_one_in_three_and_finds_the_best() {
    let grid = (1..=27).map(|step| format!("{}", 0.001 * f64::from(step))).collect::<Vec<_>>().join(", ");
    let file = load(&format!("pruning.asha = {{ reduction = 3 }}\ngrid = {{ \"optimizer.adam.lr\" = [{grid}] }}"));
    let world = done(&file, 1, &by_rate);
    assert_eq!(world.lengths(), [(1, 18), (3, 6), (9, 3)].into(), "27, 9 and 3 trials at epochs 1, 3 and 9");
    assert_eq!(world.pruned.len(), 24);
    let whole = done(&load(&format!("grid = {{ \"optimizer.adam.lr\" = [{grid}] }}")), 1, &by_rate);
    assert_eq!(world.best(), whole.best());
    assert!(world.epochs * 3 <= whole.epochs);
}

#[test]
fn asha_is_right_with_several_at_once_and_after_every_stop() {
    let sweep = format!("trials = 30\npruning.asha = {{}}\nrandom = {RATES}");
    let file = load(&sweep);
    let alone = done(&file, 1, &by_rate);
    for (jobs, piece) in [(1, 7), (1, 1), (3, 1000), (3, 11), (5, 4)] {
        let mut world = World::default();
        for _ in 0..200 {
            world.run(&file, jobs, piece, &by_rate);
        }
        assert_eq!(world.best(), alone.best(), "{jobs} at once, stopped every {piece} epochs");
        let open = world.runs.len() - world.finished.len();
        assert_eq!(world.pruned.len(), open, "every run has finished or was pruned");
        assert_eq!(world.runs.len(), 30);
        if jobs == 1 {
            assert_eq!((world.epochs, world.lengths()), (alone.epochs, alone.lengths()));
        }
        let before = world.epochs;
        world.run(&file, jobs, 1000, &by_rate);
        assert_eq!(world.epochs, before, "the same again adds nothing");
    }
}

#[test]
fn pruned_runs_go_on_when_more_trials_or_no_pruning_ask_for_them() {
    let sweep = |trials: u32, pruning: &str| load(&format!("trials = {trials}\n{pruning}\nrandom = {RATES}"));
    let mut world = done(&sweep(9, "pruning.asha = {}"), 1, &by_rate);
    assert_eq!(world.lengths(), [(1, 6), (3, 2), (9, 1)].into());
    world.run(&sweep(27, "pruning.asha = {}"), 1, usize::MAX / 2, &by_rate);
    assert_eq!(world.runs.len(), 27);
    assert!(world.lengths()[&9] >= 3);
    world.run(&sweep(27, ""), 1, usize::MAX / 2, &by_rate);
    assert_eq!((world.lengths(), world.epochs), ([(9, 27)].into(), 27 * 9), "each epoch was trained once");
}

#[test]
fn the_median_drops_the_worse_half_and_stays_with_it() {
    let file = load(&format!("trials = 40\npruning.median = {{ min_epochs = 2, startup = 4 }}\nrandom = {RATES}"));
    let world = done(&file, 1, &by_rate);
    let whole = done(&load(&format!("trials = 40\nrandom = {RATES}")), 1, &by_rate);
    assert_eq!(world.best(), whole.best());
    assert!(world.pruned.len() > 10 && world.epochs < whole.epochs * 7 / 10, "{} {}", world.pruned.len(), world.epochs);
    for piece in [1, 5, 17] {
        let mut parts = World::default();
        for _ in 0..400 {
            parts.run(&file, 1, piece, &by_rate);
        }
        assert_eq!(
            (parts.lengths(), parts.pruned, parts.epochs),
            (world.lengths(), world.pruned.clone(), world.epochs)
        );
    }
}

#[test]
fn experiments_compete_only_where_the_file_says_so() {
    let experiments = "[[experiment]]\nname = \"a\"\n[[experiment]]\nname = \"b\"\noptimizer.sgd = { lr = 0.1 }";
    let curve = |run: &PlannedRun, epoch: u32| f64::from(epoch) * 0.01 + if run.experiment == "a" { 0.5 } else { 0.6 };
    let sweep = |among: &str| {
        format!("seeds = 2\npruning.asha = {{ among = \"{among}\" }}\ngrid = {{ batch_size = [8, 16, 24] }}")
    };
    let apart = done(&load_with(experiments, &sweep("points")), 1, &curve);
    let winners = |world: &World| {
        let finished = world.runs.values().filter(|(run, _)| world.finished.contains(&run.id));
        finished.map(|(run, _)| format!("{}{}", run.experiment, run.seed)).collect::<Vec<_>>()
    };
    let sorted = |world: &World| {
        let mut all = winners(world);
        all.sort();
        all
    };
    assert_eq!(sorted(&apart), ["a0", "a1", "b0", "b1"], "both seeds of the best point of each");
    assert_eq!(sorted(&done(&load_with(experiments, &sweep("all")), 1, &curve)), ["b0", "b1"]);
}

#[test]
fn searching_and_pruning_work_together() {
    let file = load(&format!("seeds = 2\nconfirm = 1\ntrials = 40\npruning.asha = {{}}\ntpe = {RATES}"));
    let world = done(&file, 2, &by_rate);
    let trials = world.runs.values().filter(|(run, _)| run.seed == 0).count();
    assert_eq!((trials, world.runs.len()), (40, 41), "the best trial alone gets the other seed");
    assert!(world.best() > 0.935, "{}", world.best());
}

/// Three experiments: `a` and `b` are as good as each other, `c` is worse; seeds matter a little to each.
fn racing(run: &PlannedRun, _: u32) -> f64 {
    let level = if run.experiment == "c" { 0.7 } else { 0.8 };
    let own = u64::from(run.experiment.as_bytes()[0]);
    let noise = (run.seed * 2_654_435_761 + own * 40_503) % 1000;
    level + 0.01 * noise as f64 / 1000.0
}

const THREE: &str = "[[experiment]]\nname = \"a\"\n[[experiment]]\nname = \"b\"\nbatch_size = 8\n[[experiment]]\nname = \"c\"\nbatch_size = 16";

#[test]
fn further_seeds_go_to_those_in_contention() {
    let file = load_with(THREE, "seeds = 3\nrace = { seeds = 9 }");
    let world = done(&file, 2, &racing);
    let seeds = |experiment: &str| world.runs.values().filter(|(run, _)| run.experiment == experiment).count();
    assert_eq!((seeds("a"), seeds("b")), (9, 9), "nothing tells these two apart");
    let [loss] = &world.losses[..] else { panic!("{:?}", world.losses) };
    assert_eq!((loss.experiment.as_str(), loss.seeds), ("c", seeds("c")));
    assert!(loss.seeds < 6 && loss.p <= loss.level && loss.behind.interval.unwrap().0 > 0.0, "{loss:?}");

    for (jobs, piece) in [(1, usize::MAX / 2), (4, 10), (1, 3)] {
        let mut parts = World::default();
        for _ in 0..200 {
            parts.run(&file, jobs, piece, &racing);
        }
        assert_eq!((parts.finished, parts.losses), (world.finished.clone(), world.losses.clone()));
    }
}

#[test]
fn a_race_takes_confirmed_points_and_the_seeds_of_the_file() {
    let file = load(&format!("seeds = [3, 1]\nconfirm = 2\ntrials = 8\nrace = {{ seeds = 4 }}\nrandom = {RATES}"));
    let noisy = |run: &PlannedRun, epoch: u32| {
        by_rate(run, epoch) + 0.05 * ((run.seed * 7 + run.spec.batch_size as u64) % 5) as f64
    };
    let world = done(&file, 1, &noisy);
    let mut seeds: Vec<u64> = world.runs.values().map(|(run, _)| run.seed).collect();
    seeds.sort_unstable();
    let of = |seed: u64| seeds.iter().filter(|other| **other == seed).count();
    assert_eq!((of(3), of(1), of(0), of(2), seeds.len()), (8, 2, 2, 2, 14));
}
