//! The named parameters of a model, in order of creation: what is trained, saved, averaged and compared.

use super::{Init, Key, Pass};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor, Var};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// One parameter or buffer; cheap to clone, all clones share the value.
#[derive(Clone, Debug)]
pub struct Weight {
    name: Arc<str>,
    var: Var,
    /// Buffers (running statistics) are saved but never trained.
    buffer: bool,
    frozen: Arc<AtomicBool>,
}

impl Weight {
    /// timm's name, e.g. `layer1.0.conv1.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the name matches a pattern, see [`matches`].
    pub fn matches(&self, pattern: &str) -> bool {
        matches(pattern, &self.name)
    }

    /// The value to compute with: on the tape when this pass trains it, detached otherwise.
    pub fn get(&self, pass: &Pass) -> Tensor {
        match pass.train && self.trainable() {
            true => self.var.as_tensor().clone(),
            false => self.var.as_detached_tensor(),
        }
    }

    pub fn var(&self) -> &Var {
        &self.var
    }

    pub fn is_buffer(&self) -> bool {
        self.buffer
    }

    pub fn trainable(&self) -> bool {
        !self.buffer && !self.frozen.load(Ordering::Relaxed)
    }

    pub fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.var.elem_count()
    }
}

/// Every parameter and buffer of one model, in order of creation.
#[derive(Clone, Debug, Default)]
pub struct Params {
    weights: Vec<Weight>,
}

impl Params {
    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        self.weights.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.weights.iter().find(|weight| weight.name() == name)
    }

    /// The weights whose names `rename` gives another name, under that name; their values stay shared.
    pub fn renamed<'a>(&'a self, rename: impl Fn(&'a str) -> Option<&'a str>) -> Self {
        let weights = self.weights.iter();
        let weights = weights
            .filter_map(|weight| rename(weight.name()).map(|name| Weight { name: name.into(), ..weight.clone() }));
        Self { weights: weights.collect() }
    }

    /// What an optimizer updates, in order of creation.
    pub fn trainable(&self) -> impl Iterator<Item = &Weight> {
        self.weights.iter().filter(|weight| weight.trainable())
    }

    /// The number of parameters, buffers not counted: what papers call the size of a model.
    pub fn count(&self) -> usize {
        self.weights.iter().filter(|weight| !weight.buffer).map(Weight::count).sum()
    }
}

/// Creates a model's parameters under a prefix: `b.pp("layer1").pp(0).param("weight", ..)`.
#[derive(Clone)]
pub struct Builder {
    params: Rc<RefCell<Params>>,
    prefix: String,
    device: Device,
    key: Option<Key>,
}

impl Builder {
    /// Initial values depend on the key and each parameter's name, not on the order of creation.
    pub fn new(device: &Device, key: Key) -> Self {
        Self { key: Some(key), ..Self::blank(device) }
    }

    /// All zeros: for the names and shapes alone, and for parameters that are loaded next.
    pub fn blank(device: &Device) -> Self {
        Self { params: Rc::default(), prefix: String::new(), device: device.clone(), key: None }
    }

    /// The builder one level down, as torch names sub-modules.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.path(&name), ..self.clone() }
    }

    /// The name of the module being built, e.g. `layer1.0`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A trained parameter.
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Weight> {
        let (name, shape) = (self.path(&name), shape.into());
        let value = match self.key {
            Some(key) => Tensor::from_vec(init.values(shape.dims(), &mut key.named(&name).rng()), shape, &self.device)?,
            None => Tensor::zeros(shape, DType::F32, &self.device)?,
        };
        self.add(name, value, false)
    }

    /// A value that is saved with the model but not trained.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, value: f32) -> Result<Weight> {
        let tensor = Tensor::full(value, shape, &self.device)?;
        self.add(self.path(&name), tensor, true)
    }

    /// A saved counter: a scalar I64, such as `num_batches_tracked`.
    pub fn counter(&self, name: &str) -> Result<Weight> {
        self.add(self.path(&name), Tensor::zeros((), DType::I64, &self.device)?, true)
    }

    /// Everything created so far through this builder or any of its descendants.
    pub fn params(&self) -> Params {
        self.params.borrow().clone()
    }

    fn path(&self, name: &dyn std::fmt::Display) -> String {
        match self.prefix.is_empty() {
            true => name.to_string(),
            false => format!("{}.{name}", self.prefix),
        }
    }

    fn add(&self, name: String, value: Tensor, buffer: bool) -> Result<Weight> {
        if self.params.borrow().get(&name).is_some() {
            return Err(Error::bug(format!("the model creates the parameter {name} twice")));
        }
        let weight = Weight { name: name.into(), var: Var::from_tensor(&value)?, buffer, frozen: Arc::default() };
        self.params.borrow_mut().weights.push(weight.clone());
        Ok(weight)
    }
}

/// Whether a parameter's name matches `pattern`, in which `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("layer1.*", "layer1.0.conv1.weight"));
        assert!(matches("*bn*.bias", "layer1.0.bn1.bias"));
        assert!(matches("fc.weight", "fc.weight"));
        assert!(!matches("fc", "fc.weight"));
        assert!(!matches("layer1.*", "layer2.0.conv1.weight"));
    }
}
