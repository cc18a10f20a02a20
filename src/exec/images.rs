//! The images of runs: what a worker keeps open from one run to the next, and what a run's fold, subset and synthesizer
//! make of a data set.

use super::{devices, protocol::Assignment};
use crate::{
    data::{self, Dataset, Decode},
    error::{Error, Result},
    spec::RunSpec,
    sweep,
    synthesize::{self, On},
    tensor::Device,
};
use std::{path::Path, sync::Arc};

/// What a worker has open: the data set of its last run and what that run saw of it.
#[derive(Default)]
pub struct Open {
    whole: Option<(String, Arc<Dataset>)>,
    cut: Option<(String, Arc<Dataset>)>,
}

impl Open {
    /// The images of a run on this device.
    ///
    /// # Errors
    /// Also when they are others than those the run was planned with, of which its id speaks.
    pub fn of(&mut self, job: &Assignment, device: &Device) -> Result<Arc<Dataset>> {
        let whole = keep(&mut self.whole, source_key(&job.spec)?, || {
            data::open(&job.spec.data, decode(&job.spec), &job.cache, &|_| ()).map(Arc::new)
        })?;
        if sweep::identity(&job.spec, &whole.fingerprint, job.seed)? != job.run {
            let what = "the images have changed since the sweep was planned; the same command plans it anew";
            return Err(Error::user(what));
        }
        let on = On::of(device)?;
        keep(&mut self.cut, data_key(&job.spec)?, || cut(&whole, &job.spec, &job.cache, &on, &|_| ()))
    }
}

/// What stands under `key`; made anew where something else does.
fn keep(
    place: &mut Option<(String, Arc<Dataset>)>,
    key: String,
    make: impl FnOnce() -> Result<Arc<Dataset>>,
) -> Result<Arc<Dataset>> {
    if let Some((_, data)) = place.as_ref().filter(|(open, _)| *open == key) {
        return Ok(data.clone());
    }
    *place = None;
    let data = make()?;
    *place = Some((key, data.clone()));
    Ok(data)
}

/// A run's images: what its fold and subset leave of its data set, decoded, and what is synthesized from the training
/// images among that, on the device of this name.
pub fn open(
    spec: &RunSpec,
    cache: &Path,
    device: &str,
    progress: &(dyn Fn(data::Progress) + Sync),
) -> Result<Arc<Dataset>> {
    let whole = Arc::new(data::open(&spec.data, decode(spec), cache, progress)?);
    let name = device.to_string();
    let on = if device == "cpu" { On::Cpu } else { On::Gpu(Box::new(move || devices::open(&name))) };
    cut(&whole, spec, cache, &on, progress)
}

fn cut(
    whole: &Arc<Dataset>,
    spec: &RunSpec,
    cache: &Path,
    on: &On,
    progress: &(dyn Fn(data::Progress) + Sync),
) -> Result<Arc<Dataset>> {
    if spec.fold.is_none() && spec.subset.is_none() && spec.synthesize.is_none() {
        return Ok(whole.clone());
    }
    let mut data = whole.cut(spec.fold.as_ref(), spec.subset.as_ref())?;
    if let Some(synthesizer) = &spec.synthesize {
        synthesize::add(&mut data, synthesizer, decode(spec), cache, on, progress)?;
    }
    Ok(Arc::new(data))
}

/// How a run's images are brought to size.
fn decode(spec: &RunSpec) -> Decode {
    Decode { size: spec.input.loaded(), interpolation: spec.input.interpolation }
}

/// Equal for runs of one decoded data set.
fn source_key(spec: &RunSpec) -> Result<String> {
    key(&(&spec.data, spec.input.loaded(), spec.input.interpolation))
}

/// Equal for runs that share their images.
pub fn data_key(spec: &RunSpec) -> Result<String> {
    let RunSpec { data, fold, subset, input, synthesize, .. } = spec;
    key(&(data, fold, subset, input.loaded(), input.interpolation, synthesize))
}

fn key(parts: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(parts).map_err(Error::bug)
}
