//! A model's parameters in and out of safetensors files.

use super::{
    Params, Tensor, Weight,
    safetensors::{Array, Stored},
};
use crate::error::{Context, Error, Result};

/// Every parameter and buffer of a model, in order of creation, under its own name.
pub fn arrays(params: &Params) -> Result<Vec<Array<'static>>> {
    params.iter().map(|weight| Array::of_tensor(weight.name(), weight.var())).collect()
}

/// What may be made of an array of another shape than its parameter.
#[derive(Clone, Copy, Debug)]
pub struct Adapt {
    /// Whether an array of this name and shape can become one of that shape.
    pub fits: fn(name: &str, theirs: &[usize], ours: &[usize]) -> bool,
    pub adapt: fn(array: &Tensor, shape: &[usize]) -> Result<Tensor>,
}

/// How the arrays of a file meet the parameters of a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// `ema` for `ema:fc.weight`; plain names where `None`.
    pub section: Option<&'a str>,
    /// The module whose parameters keep their values where the file is of another number of classes or has none.
    pub classifier: Option<&'a str>,
    /// What arrays of other shapes may become; of several that fit, the first.
    pub adapts: &'a [Adapt],
    /// Whether the file may hold arrays that the model has no parameter for.
    pub partial: bool,
}

/// Loads the arrays of a section (`ema` for `ema:fc.weight`; plain names where `None`) into the parameters of their names.
///
/// The parameters below `classifier` keep their values where the file is of another number of classes or has no
/// classifier, timm's rule. `num_batches_tracked` may be missing. Whatever else does not fit is one error, all of it
/// together, and then nothing was loaded. Returns the names of the parameters that keep their values.
pub fn load(params: &Params, stored: &Stored, section: Option<&str>, classifier: Option<&str>) -> Result<Vec<String>> {
    load_by(params, stored, &Rules { section, classifier, ..Rules::default() })
}

/// The same under other rules.
pub fn load_by(params: &Params, stored: &Stored, rules: &Rules) -> Result<Vec<String>> {
    let prefix = rules.section.map(|section| format!("{section}:")).unwrap_or_default();
    let source = Source { stored, prefix, adapts: rules.adapts };
    let fresh = source.fresh(params, rules.classifier);
    let wanted: Vec<&Weight> = params.iter().filter(|weight| !fresh.iter().any(|name| name == weight.name())).collect();
    let unexpected = if rules.partial { Vec::new() } else { source.unexpected(params) };
    source.check(&wanted, unexpected).context(|| format!("cannot load {}", stored.path().display()))?;
    let tensors: Vec<(&Weight, Tensor)> = wanted
        .into_iter()
        .filter(|weight| source.shape(weight).is_some())
        .map(|weight| Ok((weight, source.tensor(weight)?)))
        .collect::<Result<_>>()?;
    for (weight, tensor) in tensors {
        let var = weight.var();
        var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
    }
    Ok(fresh)
}

struct Source<'a> {
    stored: &'a Stored,
    prefix: String,
    adapts: &'a [Adapt],
}

impl Source<'_> {
    fn name(&self, weight: &Weight) -> String {
        format!("{}{}", self.prefix, weight.name())
    }

    fn shape(&self, weight: &Weight) -> Option<&[usize]> {
        self.stored.shape(&self.name(weight))
    }

    /// The rule by which the array of a parameter can take its shape.
    fn rule(&self, weight: &Weight) -> Option<&Adapt> {
        let (theirs, ours) = (self.shape(weight)?, weight.var().dims());
        self.adapts.iter().find(|rule| (rule.fits)(weight.name(), theirs, ours))
    }

    /// The array of a parameter, in its shape.
    fn tensor(&self, weight: &Weight) -> Result<Tensor> {
        let (tensor, shape) = (self.stored.tensor(&self.name(weight))?, weight.var().dims());
        match self.rule(weight) {
            Some(rule) if tensor.dims() != shape => (rule.adapt)(&tensor, shape),
            _ => Ok(tensor),
        }
    }

    /// The classifier's parameters, if the file has none or one of another number of classes.
    fn fresh(&self, params: &Params, classifier: Option<&str>) -> Vec<String> {
        let Some(classifier) = classifier else { return Vec::new() };
        let below = |weight: &&Weight| weight.name().strip_prefix(classifier).is_some_and(|rest| rest.starts_with('.'));
        let other = |weight: &Weight| match (self.shape(weight), weight.var().dims()) {
            (None, _) => true,
            (Some([theirs, inside @ ..]), [ours, rest @ ..]) => theirs != ours && inside == rest,
            _ => false,
        };
        let head: Vec<&Weight> = params.iter().filter(below).collect();
        match head.iter().all(|weight| other(weight)) {
            true => head.into_iter().map(|weight| weight.name().to_owned()).collect(),
            false => Vec::new(),
        }
    }

    fn check(&self, wanted: &[&Weight], unexpected: Vec<String>) -> Result<()> {
        let counter = |weight: &Weight| weight.name().ends_with("num_batches_tracked");
        let (mut missing, mut reshaped) = (Vec::new(), Vec::new());
        for weight in wanted {
            match (self.shape(weight), weight.var().dims()) {
                (None, _) if !counter(weight) => missing.push(weight.name().to_owned()),
                (Some(theirs), ours) if theirs != ours && self.rule(weight).is_none() => {
                    reshaped.push(format!("{} is {theirs:?}, needed {ours:?}", weight.name()));
                }
                _ => {}
            }
        }
        let lists = [("missing in the file", missing), ("not in the model", unexpected), ("other shapes", reshaped)];
        let lines: Vec<String> = lists.iter().filter_map(|(what, names)| line(what, names)).collect();
        if lines.is_empty() { Ok(()) } else { Err(Error::user(format!("\n{}", lines.join("\n")))) }
    }

    /// The section's arrays that no parameter is for.
    fn unexpected(&self, params: &Params) -> Vec<String> {
        self.present().into_iter().filter(|name| params.get(name).is_none()).collect()
    }

    /// The names of the section's arrays, without its prefix.
    fn present(&self) -> Vec<String> {
        let names = self.stored.names().into_iter();
        match self.prefix.as_str() {
            "" => names.filter(|name| !name.contains(':')).collect(),
            prefix => names.filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect(),
        }
    }
}

/// The first few of a list of names.
fn line(what: &str, names: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(", and {more} more") } else { String::new() };
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    (!names.is_empty()).then(|| format!("  {what}: {shown}{tail}"))
}
