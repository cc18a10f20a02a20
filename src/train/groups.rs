//! Which parameters are trained differently: weight decay by shape, groups by name, layer-wise learning-rate decay.

use crate::{
    backbone::{Model, layers},
    error::{Error, Result},
    spec::{RunSpec, WeightDecayOn, recipe},
    tensor::Weight,
};
use std::collections::BTreeMap;

/// How one parameter is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Times the learning rate.
    pub lr_scale: f64,
    /// `None`: the optimizer's.
    pub weight_decay: Option<f64>,
}

/// What a specification says about groups.
#[derive(Default)]
pub struct Groups {
    pub decay_on: WeightDecayOn,
    pub groups: Vec<recipe::Group>,
    /// The learning rate's factor by parameter, where layers differ.
    pub layers: BTreeMap<String, f64>,
}

impl Groups {
    /// # Errors
    /// The user's, where a pattern matches no parameter.
    pub fn new(spec: &RunSpec, model: &Model) -> Result<Self> {
        for group in &spec.groups {
            check(&group.pattern, "groups.match", model)?;
        }
        let names = model.params.iter().filter(|weight| !weight.is_buffer()).map(Weight::name);
        let layers = spec.layer_decay.map(|decay| layers::scales(&model.name, names, decay)).unwrap_or_default();
        Ok(Self { decay_on: spec.weight_decay_on, groups: spec.groups.clone(), layers })
    }

    /// How a parameter is trained: of several groups that name it, the last one counts.
    pub fn of(&self, weight: &Weight) -> Group {
        let matching = || self.groups.iter().rev().filter(|group| weight.matches(&group.pattern));
        let decays = self.decay_on == WeightDecayOn::All || weight.var().dims().len() >= 2;
        let layer = self.layers.get(weight.name()).copied().unwrap_or(1.0);
        Group {
            lr_scale: layer * matching().find_map(|group| group.lr_scale).unwrap_or(1.0),
            weight_decay: matching().find_map(|group| group.weight_decay).or((!decays).then_some(0.0)),
        }
    }
}

/// A pattern that matches nothing is a mistake.
pub fn check(pattern: &str, key: &str, model: &Model) -> Result<()> {
    if model.params.iter().any(|weight| weight.matches(pattern)) {
        return Ok(());
    }
    let names: Vec<&str> = model.params.iter().map(Weight::name).take(5).collect();
    Err(Error::user(format!("{key} = \"{pattern}\" matches no parameter; names look like {}", names.join(", "))))
}
