//! What `[sweep]` may hold, as written: read as a schema only.

use crate::{
    prune::PrunerSpec,
    spec::{Race, space::DistributionTable},
};
use schemars::JsonSchema;
use std::collections::BTreeMap;

/// What varies beside the experiments themselves: seeds, and values of keys.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // read as a schema only
pub struct SweepTable {
    /// Seeds of every run: a list, or a count `n` for 0 to n - 1; default: [0].
    seeds: Option<Seeds>,
    /// Makes every run a k-fold cross-validation: one run of each fold, with `fold.index` from 0 to k - 1 and `fold.of` = k.
    /// Reports take the folds together, experiments are compared fold by fold.
    #[schemars(range(min = 2, max = 1000))]
    folds: Option<u32>,
    /// Runs of one seed that differ only in what happens later (epochs, a schedule's later part, the start of `swa`) do the
    /// epochs they have in common once: the first goes ahead, the others start from its checkpoint. Their numbers are the
    /// same as without; the report says so. Not for searches and pruning.
    share_prefix: Option<bool>,
    /// What the checkpoints of the sweep may take on the disk, for example "20 GB": beyond it, those of finished runs go, the
    /// worst first, but never the best of an experiment.
    disk: Option<String>,
    /// Runs at once on each GPU: a number, or "auto" for one and then further ones, as long as what runs of their kind were
    /// measured to take fits its memory and it is not busy all the time. Default: 1.
    runs_per_gpu: Option<RunsPerGpu>,
    /// Dotted keys with a list of values each: every combination of them, the first key varying slowest.
    grid: Option<BTreeMap<String, serde_json::Value>>,
    /// Dotted keys with lists of one length: the first values together, then the second ones, ..
    zip: Option<BTreeMap<String, serde_json::Value>>,
    /// Dotted keys with a distribution each: `trials` points drawn at random. The same points for every experiment.
    random: Option<BTreeMap<String, DistributionTable>>,
    /// Dotted keys with a distribution each: `trials` points for each experiment, picked by the results so far
    /// (tree-structured Parzen estimators, Bergstra et al. 2011; Watanabe 2023, arXiv:2304.11127).
    tpe: Option<BTreeMap<String, DistributionTable>>,
    /// Points of `random` or `tpe` in all; raising it adds the difference. Default: 20.
    #[schemars(range(min = 1, max = 100000))]
    trials: Option<u32>,
    /// Seed of the draws of `random` and `tpe`; default: 0.
    search_seed: Option<u64>,
    /// Points are tried on the first seed alone, and the best so many of each experiment then on the other seeds. Default:
    /// 3 for `random` and `tpe`; `grid` and `zip` try every point on every seed.
    #[schemars(range(min = 1))]
    confirm: Option<u32>,
    /// Pauses runs after some epochs and lets the best go on from their checkpoints. Schedules see all epochs all the time.
    pruning: Option<PrunerSpec>,
    /// Further seeds for those still in contention: once every point has the seeds of the sweep, one more seed at a time goes
    /// to each that no paired t test against the best has shown worse. The report says who was dropped, and on what
    /// evidence. After the races of Maron & Moore 1994 and Birattari et al. 2002.
    race: Option<Race>,
    /// Further spaces side by side, each with its own `grid`, `zip`, `random`, `tpe` and `seeds`, for some experiments or all.
    block: Option<Vec<BlockTable>>,
}

/// One space of a sweep.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Block")]
#[allow(dead_code)] // read as a schema only
struct BlockTable {
    /// The experiments it is for; default: all.
    #[schemars(length(min = 1))]
    r#for: Option<Vec<String>>,
    /// Seeds of its runs; default: those of the sweep.
    seeds: Option<Seeds>,
    /// Dotted keys with a list of values each: every combination of them, the first key varying slowest.
    grid: Option<BTreeMap<String, serde_json::Value>>,
    /// Dotted keys with lists of one length: the first values together, then the second ones, ..
    zip: Option<BTreeMap<String, serde_json::Value>>,
    /// Dotted keys with a distribution each: `trials` points drawn at random.
    random: Option<BTreeMap<String, DistributionTable>>,
    /// Dotted keys with a distribution each: `trials` points for each experiment, picked by the results so far.
    tpe: Option<BTreeMap<String, DistributionTable>>,
    /// Points of `random` or `tpe` in all; default: those of the sweep, or 20.
    #[schemars(range(min = 1, max = 100000))]
    trials: Option<u32>,
    /// Seed of the draws of `random` and `tpe`; default: that of the sweep.
    search_seed: Option<u64>,
    /// The best so many points are tried on all seeds; default: that of the sweep.
    #[schemars(range(min = 1))]
    confirm: Option<u32>,
}

/// A number, or "auto".
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // read as a schema only
enum RunsPerGpu {
    Count(#[schemars(range(min = 1, max = 48))] u32),
    Measured(Measured),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // read as a schema only
enum Measured {
    Auto,
}

/// A list of seeds, or how many to use.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // read as a schema only
enum Seeds {
    Count(#[schemars(range(min = 1, max = 100000))] u64),
    List(#[schemars(length(min = 1))] Vec<u64>),
}
