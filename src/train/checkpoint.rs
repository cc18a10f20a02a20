//! A run's checkpoints: `last` holds everything a resume needs, `previous` is the one before in case it is damaged, `best`
//! has the selected epoch's weights under timm's names.

use super::{average::Average, progress::Progress, update::Updater};
use crate::{
    error::{Context, Error, Result},
    tensor::{
        Params,
        safetensors::{self, Stored},
        weights,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The `checkpoints` folder of one run.
pub struct Folder {
    path: PathBuf,
}

/// What `last.safetensors` holds beside tensors, as JSON in its metadata.
#[derive(Serialize, Deserialize)]
struct State {
    progress: Progress,
    optimizer_steps: u64,
}

impl Folder {
    const STATE: &str = "runner.state";

    /// Of a run's folder; made where it is missing.
    pub fn create(run: &Path) -> Result<Self> {
        let path = run.join("checkpoints");
        std::fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    fn previous(&self) -> PathBuf {
        self.path.join("previous.safetensors")
    }

    fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Writes `last` whole: weights under their own names, optimizer slots, average and progress.
    pub fn save(
        &self,
        params: &Params,
        updater: &Updater,
        average: Option<&Average>,
        progress: &Progress,
    ) -> Result<()> {
        let mut arrays = weights::arrays(params)?;
        arrays.extend(updater.arrays()?);
        if let Some(average) = average {
            arrays.extend(average.arrays(params)?);
        }
        let state = State { progress: progress.clone(), optimizer_steps: updater.count() };
        let state = serde_json::to_string(&state).map_err(Error::bug)?;
        self.keep_previous()?;
        safetensors::write(&self.last(), &arrays, &BTreeMap::from([(Self::STATE.into(), state)]))
    }

    /// Gives `last` a second name, so that it outlives the new one's coming.
    fn keep_previous(&self) -> Result<()> {
        if self.last().exists() {
            remove(&self.previous())?;
            // A file system without such links does without.
            let _ = std::fs::hard_link(self.last(), self.previous());
        }
        Ok(())
    }

    /// Puts `previous` in the place of a `last` that cannot be used; false where there is none, and `last` is gone.
    pub fn step_back(&self) -> Result<bool> {
        match std::fs::rename(self.previous(), self.last()) {
            // Nothing is renamed where both are one file still: then this goes back no further.
            Ok(()) => remove(&self.previous()).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => remove(&self.last()).map(|()| false),
            Err(error) => Err(error).context(|| format!("cannot replace {}", self.last().display())),
        }
    }

    /// Takes `last` back; `None` where there is none.
    pub fn load(
        &self,
        params: &Params,
        updater: &mut Updater,
        average: Option<&mut Average>,
    ) -> Result<Option<Progress>> {
        let place = || format!("cannot read {}", self.last().display());
        if !self.last().try_exists().context(place)? {
            return Ok(None);
        }
        let stored = Stored::read(&self.last())?;
        let text = stored.metadata().get(Self::STATE).ok_or_else(|| Error::user("it holds no training state"))?;
        let state: State = serde_json::from_str(text).map_err(Error::user)?;
        updater.restore(state.optimizer_steps, &stored)?;
        // An average that has nothing in it yet needs nothing: the first weights to come replace it.
        if let Some(average) = average.filter(|average| average.ready(state.progress.epoch)) {
            average.restore(params, &stored)?;
        }
        weights::load(params, &stored, None, None)?;
        Ok(Some(state.progress))
    }

    /// Checks the weights that a run needs again once it has trained: those of its best epoch, if it has one by now, and
    /// of the epochs kept for a soup. Of these one may be gone: a later epoch, which comes again, was better.
    pub fn check_selected(&self, best: u32, kept: &[u32]) -> Result<()> {
        let best = (best > 0).then(|| self.best());
        let kept = kept.iter().map(|epoch| self.epoch(*epoch)).filter(|path| path.exists());
        best.into_iter().chain(kept).try_for_each(|path| Stored::read(&path).map(drop))
    }

    /// Writes the selected epoch's weights.
    pub fn save_best(&self, params: &Params, epoch: u32) -> Result<()> {
        write(&self.best(), params, epoch)
    }

    /// Takes the selected epoch's weights into the model.
    pub fn load_best(&self, params: &Params) -> Result<()> {
        read(&self.best(), params)
    }

    fn epoch(&self, epoch: u32) -> PathBuf {
        self.path.join(format!("epoch-{epoch}.safetensors"))
    }

    /// Keeps the weights of one epoch beside the best.
    pub fn save_epoch(&self, params: &Params, epoch: u32) -> Result<()> {
        write(&self.epoch(epoch), params, epoch)
    }

    /// Takes the weights that were kept of an epoch into the model.
    pub fn load_epoch(&self, params: &Params, epoch: u32) -> Result<()> {
        read(&self.epoch(epoch), params)
    }

    /// Removes the weights of every epoch up to `last` that is not among these.
    pub fn keep_epochs(&self, epochs: &[u32], last: u32) -> Result<()> {
        (1..=last).filter(|epoch| !epochs.contains(epoch)).try_for_each(|epoch| remove(&self.epoch(epoch)))
    }

    /// Only a run at work goes back to it.
    pub fn remove_previous(&self) -> Result<()> {
        remove(&self.previous())
    }

    /// Removes what a resume would need, where it is there.
    pub fn remove_last(&self) -> Result<()> {
        remove(&self.last())
    }

    /// Removes the selected epoch's weights, where they are there.
    pub fn remove_best(&self) -> Result<()> {
        remove(&self.best())
    }
}

/// Writes weights alone, under timm's names.
fn write(path: &Path, params: &Params, epoch: u32) -> Result<()> {
    let metadata = BTreeMap::from([("epoch".to_string(), epoch.to_string())]);
    safetensors::write(path, &weights::arrays(params)?, &metadata)
}

fn read(path: &Path, params: &Params) -> Result<()> {
    weights::load(params, &Stored::read(path)?, None, None).map(drop)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
