//! The finished run that another one learns from.

use super::batches::{Images, Normalize};
use crate::{
    backbone::{self, Model},
    error::{Context, Error, Result},
    spec::{RunSpec, recipe::Distill},
    tensor::{Key, Pass, Tensor},
};
use candle_core::Device;
use std::path::{Path, PathBuf};

pub struct Teacher {
    model: Model,
    /// `(1, 1, 1, 3)`: what brings the student's images to the teacher's normalization.
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
        let image_size = spec.input.size;
        let options = backbone::Options { classes, drop_rate: 0.0, drop_path: 0.0, image_size };
        let model = backbone::build(&teacher.backbone.name, &options, device, Key::new(0))?;
        if !backbone::load_weights(&model, &folder.join(CHECKPOINT))?.is_empty() {
            let what =
                format!("distill.teacher = {:?} knows another number of classes than {classes}", distill.teacher);
            return Err(Error::user(what));
        }
        let [ours, its] = [Images::new(spec, device)?, Images::new(&teacher, device)?];
        let [scale, shift] = renormalization(ours.normalize, its.normalize);
        let wide = |values: [f32; 3]| Tensor::from_vec(values.to_vec(), (1, 1, 1, 3), device);
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

/// Scale and shift of each channel from one normalization to another.
fn renormalization(from: Normalize, to: Normalize) -> [[f32; 3]; 2] {
    let channel = |c: usize| (from.std[c] / to.std[c], (from.mean[c] - to.mean[c]) / to.std[c]);
    [[0, 1, 2].map(|c| channel(c).0), [0, 1, 2].map(|c| channel(c).1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_reach_the_other_normalization() {
        let from = Normalize { mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 0.2] };
        let to = Normalize { mean: [0.1, 0.2, 0.3], std: [0.3, 0.2, 0.1] };
        let [scale, shift] = renormalization(from, to);
        for (c, value) in [0.2f32, 0.7, 0.9].into_iter().enumerate() {
            let moved = (value - from.mean[c]) / from.std[c] * scale[c] + shift[c];
            assert!((moved - (value - to.mean[c]) / to.std[c]).abs() < 1e-5);
        }
    }
}
