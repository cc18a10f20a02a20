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

/// Loads the arrays of a section (`ema` for `ema:fc.weight`; plain names where `None`) into the parameters of their names.
///
/// The parameters below `classifier` keep their values where the file is of another number of classes or has no
/// classifier, timm's rule. With a classifier to replace, a first convolution of RGB images also takes on the model's other
/// number of input channels, timm's rule too. `num_batches_tracked` may be missing. Whatever else does not fit is one error, all of it
/// together, and then nothing was loaded. Returns the names of the parameters that keep their values.
pub fn load(params: &Params, stored: &Stored, section: Option<&str>, classifier: Option<&str>) -> Result<Vec<String>> {
    let prefix = section.map(|section| format!("{section}:")).unwrap_or_default();
    let source = Source { stored, prefix, adapts: classifier.is_some() };
    let fresh = source.fresh(params, classifier);
    let wanted: Vec<&Weight> = params.iter().filter(|weight| !fresh.iter().any(|name| name == weight.name())).collect();
    source.check(params, &wanted).context(|| format!("cannot load {}", stored.path().display()))?;
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
    /// Whether the first convolution may have another number of input channels.
    adapts: bool,
}

impl Source<'_> {
    fn name(&self, weight: &Weight) -> String {
        format!("{}{}", self.prefix, weight.name())
    }

    fn shape(&self, weight: &Weight) -> Option<&[usize]> {
        self.stored.shape(&self.name(weight))
    }

    /// Of a convolution of RGB images, where the model's has other channels; only a network's first one can be.
    fn adapted(&self, weight: &Weight) -> bool {
        match (self.shape(weight), weight.var().dims()) {
            (Some(&[outputs, 3, ref kernel @ ..]), &[ours, inputs, ref window @ ..]) => {
                self.adapts && inputs != 3 && kernel.len() == 2 && outputs == ours && kernel == window
            }
            _ => false,
        }
    }

    fn tensor(&self, weight: &Weight) -> Result<Tensor> {
        let tensor = self.stored.tensor(&self.name(weight))?;
        match self.adapted(weight) {
            true => adapt_channels(&tensor, weight.var().dims()[1]),
            false => Ok(tensor),
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

    fn check(&self, params: &Params, wanted: &[&Weight]) -> Result<()> {
        let counter = |weight: &Weight| weight.name().ends_with("num_batches_tracked");
        let (mut missing, mut reshaped) = (Vec::new(), Vec::new());
        for weight in wanted {
            match (self.shape(weight), weight.var().dims()) {
                (None, _) if !counter(weight) => missing.push(weight.name().to_owned()),
                (Some(theirs), ours) if theirs != ours && !self.adapted(weight) => {
                    reshaped.push(format!("{} is {theirs:?}, needed {ours:?}", weight.name()));
                }
                _ => {}
            }
        }
        let unexpected: Vec<String> = self.present().into_iter().filter(|name| params.get(name).is_none()).collect();
        let lists = [("missing in the file", missing), ("not in the model", unexpected), ("other shapes", reshaped)];
        let lines: Vec<String> = lists.iter().filter_map(|(what, names)| line(what, names)).collect();
        if lines.is_empty() { Ok(()) } else { Err(Error::user(format!("\n{}", lines.join("\n")))) }
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

/// timm's `adapt_input_conv` for `(out, 3, kh, kw)`: the kernels of the three colours repeat over the channels, scaled by
/// 3 / channels so that the responses keep their size.
fn adapt_channels(weight: &Tensor, channels: usize) -> Result<Tensor> {
    let repeated = Tensor::cat(&vec![weight; channels.div_ceil(3)], 1)?.narrow(1, 0, channels)?;
    Ok((repeated.contiguous()? * (3.0 / channels as f64))?)
}

/// The first few of a list of names.
fn line(what: &str, names: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(", and {more} more") } else { String::new() };
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    (!names.is_empty()).then(|| format!("  {what}: {shown}{tail}"))
}
