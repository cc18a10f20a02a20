//! The experiment file: types, loading with good errors, cross-field checks, JSON schema.
//!
//! A file is read as a tree that remembers its places ([`tree`]), each layer is compared with the schema ([`conform`]),
//! layers are laid on each other ([`merge`]), and the result becomes a [`RunSpec`] ([`resolve`], [`checks`]).

mod assign;
mod backbone;
mod checks;
mod conform;
mod explain;
mod images;
mod input;
mod keep;
mod load;
mod merge;
mod mistake;
mod per_gpu;
mod points;
mod progressive;
mod race;
pub mod recipe;
mod resolve;
mod run;
mod schema;
mod shape;
mod size;
mod space;
mod sweep;
mod tree;
mod unknown;
mod use_pretrained;

use crate::error::{Error, Result};
pub use backbone::{BackboneSpec, HybridSpec};
pub use checks::Data;
pub use explain::explain;
pub use images::Images;
pub use input::Input;
pub use keep::Keep;
pub use per_gpu::RunsPerGpu;
pub use progressive::Progressive;
pub use race::Race;
pub use run::*;
pub use schema::schema;
pub use space::{Condition, Dimension, Domain, Sample, Sampler, Space};
use std::path::{Path, PathBuf};
pub use sweep::{Axis, Block, Point, SweepSpec};
pub use use_pretrained::UsePretrained;

/// A commented file to start from, which loads as it is.
pub fn starter() -> &'static str {
    include_str!("starter.toml")
}

/// An experiment file, read, merged and checked.
#[derive(Clone, Debug)]
pub struct ExperimentFile {
    pub name: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// The text as written, for the record.
    pub text: String,
    /// Whether experiments of the file were left out.
    pub partial: bool,
    pub experiments: Vec<Experiment>,
    pub sweep: SweepSpec,
    /// What `precision = "auto"` means, once that is known.
    cuda: Option<bool>,
}

/// One `[[experiment]]`, resolved.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub name: String,
    pub spec: RunSpec,
    /// The images it names; `None` where nobody could tell.
    pub images: Option<Images>,
    /// Every value of the specification and where it came from, in the specification's order.
    pub origins: Vec<Origin>,
    /// What the sweep's axes make of it: one point without assignments where there is no axis.
    pub points: Vec<Point>,
    /// Its keys as merged, which points are laid on.
    merged: resolve::Merged,
}

/// Where one value of a resolved specification came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Dotted, e.g. `optimizer.adam.lr`.
    pub path: String,
    /// As TOML.
    pub value: String,
    /// `defaults, line 12`, `extends strong-baseline, line 30`, `--set`, `default`, ..
    pub from: String,
}

impl ExperimentFile {
    /// Reads a file and applies `--set key=value` assignments. Reports every independent mistake at once.
    pub fn load(path: &Path, assignments: &[String]) -> Result<Self> {
        load::load(path, assignments)
    }

    /// What its data sources hold, a line for each.
    pub fn images(&self) -> Vec<String> {
        images::lines(&self.experiments)
    }

    /// Replaces `precision = "auto"` by what it means on the device the runs go to: bf16 on CUDA, f32 on the CPU, which
    /// can do nothing else.
    pub fn resolve_precision(&mut self, cuda: bool) -> Result<()> {
        self.cuda = Some(cuda);
        for experiment in &mut self.experiments {
            let points = experiment.points.iter_mut().map(|point| &mut point.spec);
            for spec in points.chain([&mut experiment.spec]) {
                if !settle_precision(spec, cuda) {
                    return Err(needs_cuda(&experiment.name, &experiment.origins));
                }
            }
        }
        Ok(())
    }

    /// Lays a sample of a block's space on an experiment: the point it makes, one for each fold. `data` keeps what was looked
    /// up.
    ///
    /// # Errors
    /// The user's mistake, with its place: values that each may stand there, and not together.
    pub fn lay(&self, experiment: usize, block: usize, sample: &[Option<f64>], data: &mut Data) -> Result<Vec<Point>> {
        let (Some(experiment), Some(searched)) = (self.experiments.get(experiment), self.sweep.blocks.get(block))
        else {
            return Err(Error::bug("a sample of no block"));
        };
        let mut mistakes = mistake::Mistakes::default();
        let mut points = points::sampled(self, experiment, (block, searched), sample, data, &mut mistakes);
        mistakes.into_result(&self.path.display().to_string())?;
        if let Some(cuda) = self.cuda
            && !points.iter_mut().all(|point| settle_precision(&mut point.spec, cuda))
        {
            return Err(needs_cuda(&experiment.name, &experiment.origins));
        }
        Ok(points)
    }
}

/// Replaces "auto"; false where the device cannot do what is asked for.
fn settle_precision(spec: &mut RunSpec, cuda: bool) -> bool {
    if spec.precision == Precision::Auto {
        spec.precision = if cuda { Precision::Bf16 } else { Precision::F32 };
    }
    cuda || spec.precision == Precision::F32
}

fn needs_cuda(experiment: &str, origins: &[Origin]) -> Error {
    let origin = origins.iter().find(|origin| origin.path == "precision");
    let (value, from) = origin.map_or(("", "sweep"), |origin| (origin.value.as_str(), origin.from.as_str()));
    Error::user(format!(
        "experiment `{experiment}`: precision = {value} ({from}) needs a CUDA device, and the runs go to the CPU; \
         write precision = \"auto\" (f32 on the CPU, bf16 on CUDA) or \"f32\""
    ))
}
