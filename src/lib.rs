//! `runner`: every training run an experiment file describes, and a report that says which experiment is better,
//! by how much, and how sure that is.
//!
//! The house, top to bottom; imports point down only, and modules of one rank do not see each other:
//!
//! ```text
//! cli          one file per command
//! exec         fans runs out: slots, workers, retries; the one event dispatcher; the one SQLite writer
//! sweep  train  report  progress
//! spec   store
//! synthesize
//! backbone  augment  optim  schedule  prune  loss  metric  statistics  data
//! tensor       named parameters, rng, init, layers; ops = our own differentiable operations, each with a CPU and a GPU side;
//!              gpu = kernels, and who launches them
//! event  duration  component  error
//! ```
//!
//! A component (an augmentation, an optimizer, ..) is one file and one line of its family's registry; see [`component`].

pub mod augment;
pub mod backbone;
pub mod cli;
pub mod component;
pub mod data;
pub mod duration;
pub mod error;
pub mod event;
pub mod exec;
pub mod loss;
pub mod metric;
pub mod optim;
pub mod progress;
pub mod prune;
pub mod report;
pub mod schedule;
pub mod spec;
pub mod statistics;
pub mod store;
pub mod sweep;
pub mod synthesize;
pub mod tensor;
pub mod train;
