//! Before the first run starts: every data set it needs is decoded, once, with all cores, so that a broken image is told
//! before anything trains and workers only map what is there.

use super::{
    signals::Interrupts,
    worker::{data_key, decode},
};
use crate::{
    data,
    error::{Cause, Error, Result},
    progress::Progress,
    spec::RunSpec,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// Decodes what the cache does not hold yet, showing progress.
pub fn prepare<'a>(
    specs: impl Iterator<Item = &'a RunSpec>,
    cache: &Path,
    progress: &mut Progress,
    interrupts: &Interrupts,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for spec in specs {
        if seen.insert(data_key(spec)?) {
            open(spec, cache, progress, interrupts)?;
        }
    }
    Ok(())
}

/// Opens one data set on a thread of its own: a data set that takes an hour must not take Ctrl-C with it.
fn open(spec: &RunSpec, cache: &Path, progress: &mut Progress, interrupts: &Interrupts) -> Result<()> {
    let (source, decode, cache) = (spec.data.clone(), decode(spec), cache.to_path_buf());
    let (sender, news) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let tell = |news| {
            // Nobody listens any more when the sweep was stopped.
            let _ = sender.send(news);
        };
        data::open(&source, decode, &cache, &tell).map(drop)
    });
    loop {
        match news.recv_timeout(Duration::from_millis(100)) {
            Ok(news) => progress.data(news),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if thread.is_finished() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupts.count() > 0 {
            return Err(Error::new(Cause::Interrupted, "stopped while decoding images; no run was started"));
        }
    }
    let panicked = |_| Err(Error::bug("decoding the data set panicked"));
    let result = thread.join().unwrap_or_else(panicked);
    progress.data_done();
    result
}
