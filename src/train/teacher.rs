//! The finished run that another one learns from.

use super::images::Normalize;
use crate::{
    backbone::{self, Architecture, Model},
    error::{Context, Error, Result},
    spec::{RunSpec, recipe::Distill},
    tensor::{Key, Pass, Tensor},
};
use candle_core::Device;
use std::path::{Path, PathBuf};

/// A trained model whose predictions are learnt.
pub struct Teacher {
    model: Model,
    /// `(1, 1, 1, channels)`: what brings the student's images to the teacher's normalization.
    scale: Tensor,
    shift: Tensor,
}

impl Teacher {
    /// Loads the teacher of a run in `dir`, which lies at `<results>/<sweep>/runs/<id>`, for a number of classes.
    pub fn load(distill: &Distill, spec: &RunSpec, dir: &Path, classes: usize, device: &Device) -> Result<Self> {
        let results = dir.ancestors().nth(3).ok_or_else(|| Error::bug("a run outside a results folder"))?;
        let folder = folder(results, &distill.teacher)?;
        let file = folder.join("spec.toml");
        let text = std::fs::read_to_string(&file).context(|| file.display().to_string())?;
        let wrong = |error| Error::user(format!("{}: {error}", file.display()));
        let teacher: RunSpec = toml::from_str(&text).map_err(wrong)?;
        check_inputs(distill, spec, &teacher)?;
        let options = backbone::Options {
            in_channels: spec.input.channels.count(),
            image_size: spec.input.size,
            ..backbone::Options::new(classes)
        };
        let model = backbone::build(&teacher.backbone.name, &options, device, Key::new(0))?;
        if !backbone::load_weights(&model, &folder.join(CHECKPOINT))?.is_empty() {
            let what =
                format!("distill.teacher = {:?} knows another number of classes than {classes}", distill.teacher);
            return Err(Error::user(what));
        }
        let [scale, shift] = renormalization(Normalize::new(spec)?, Normalize::new(&teacher)?);
        let wide = |values: Vec<f32>| Tensor::from_vec(values, (1, 1, 1, ()), device)?.to_dtype(spec.precision.dtype());
        Ok(Self { model, scale: wide(scale)?, shift: wide(shift)? })
    }

    /// The logits `(N, classes)` of images as the student sees them.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.detach().broadcast_mul(&self.scale)?.broadcast_add(&self.shift)?;
        Ok(self.model.net.forward(&images, &Pass::eval())?.detach())
    }
}

const CHECKPOINT: &str = "checkpoints/best.safetensors";

/// A run's folder with a best checkpoint, whichever sweep of the results folder it was made for.
pub fn folder(results: &Path, run: &str) -> Result<PathBuf> {
    let sweeps = std::fs::read_dir(results).context(|| results.display().to_string())?;
    let folders = sweeps.flatten().map(|sweep| sweep.path().join("runs").join(run));
    folders.into_iter().find(|folder| folder.join(CHECKPOINT).is_file()).ok_or_else(|| {
        Error::user(format!(
            "distill.teacher = {run:?}: no run of that id in {} has a best checkpoint (`runner list` shows runs; \
             keep = \"none\" removes checkpoints)",
            results.display()
        ))
    })
}

/// A teacher must look at what the student looks at.
///
/// # Errors
/// The user's, where size or channels differ, or would during the training.
pub fn check_inputs(distill: &Distill, student: &RunSpec, teacher: &RunSpec) -> Result<()> {
    let id = &distill.teacher;
    let (theirs, ours) = (&teacher.input, &student.input);
    if theirs.size != ours.size {
        return Err(Error::user(format!(
            "distill.teacher = {id:?} learnt from images of {} pixels, this run sees {}: set input.size alike",
            theirs.size, ours.size
        )));
    }
    if theirs.channels != ours.channels {
        return Err(Error::user(format!(
            "distill.teacher = {id:?} learnt from {} images, this run sees {}: set input.channels alike",
            theirs.channels.name(),
            ours.channels.name()
        )));
    }
    let any_size = |name| Architecture::parse(name).is_ok_and(|teacher| teacher.takes_any_size());
    if student.progressive.is_some() && !any_size(&teacher.backbone.name) {
        return Err(Error::user(format!(
            "distill.teacher = {id:?} is {}, which takes one size of images, and `progressive` changes it",
            teacher.backbone.name
        )));
    }
    Ok(())
}

/// Scale and shift of each channel from one normalization to another, of the same channels; what is added to the colours
/// is not normalized.
fn renormalization(from: Normalize, to: Normalize) -> [Vec<f32>; 2] {
    let channel = |c: usize| (from.std[c] / to.std[c], (from.mean[c] - to.mean[c]) / to.std[c]);
    let (mut scale, mut shift): (Vec<f32>, Vec<f32>) = (0..3).map(channel).unzip();
    scale.resize(from.channels.count(), 1.0);
    shift.resize(from.channels.count(), 0.0);
    [scale, shift]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Channels;

    #[test]
    fn images_reach_the_other_normalization() {
        let from = Normalize { channels: Channels::Srm, mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 0.2] };
        let to = Normalize { channels: Channels::Srm, mean: [0.1, 0.2, 0.3], std: [0.3, 0.2, 0.1] };
        let [scale, shift] = renormalization(from, to);
        assert_eq!((&scale[3..], &shift[3..]), (&[1.0; 3][..], &[0.0; 3][..]));
        for (c, value) in [0.2f32, 0.7, 0.9].into_iter().enumerate() {
            let moved = (value - from.mean[c]) / from.std[c] * scale[c] + shift[c];
            assert!((moved - (value - to.mean[c]) / to.std[c]).abs() < 1e-5);
        }
    }
}
