//! Ctrl-C and its kin. A handler only counts; whoever runs the loop looks at the count between two steps.

use crate::error::{Error, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

/// How often this process was asked to stop while it was listening.
#[derive(Debug)]
pub struct Interrupts {
    count: Arc<AtomicUsize>,
}

/// Nobody listens: signals do what they do by default.
const DEAF: usize = usize::MAX;

static COUNT: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

impl Interrupts {
    /// Listens to Ctrl-C, SIGTERM and SIGUSR1 until dropped. The third one ends the process whatever it is doing.
    pub fn listen() -> Result<Self> {
        let count = match COUNT.get() {
            Some(count) => count.clone(),
            None => Self::install()?,
        };
        count.store(0, SeqCst);
        Ok(Self { count })
    }

    fn install() -> Result<Arc<AtomicUsize>> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        let count = COUNT.get_or_init(|| Arc::new(AtomicUsize::new(DEAF))).clone();
        let counter = count.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let before = counter.load(SeqCst);
                if before == DEAF || before >= 2 {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                counter.store(before + 1, SeqCst);
            }
        });
        Ok(count)
    }

    /// Never interrupted.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { count: Arc::default() }
    }

    /// 1: stop cleanly. 2 and more: stop at once.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.count.store(DEAF, SeqCst);
    }
}

/// A worker's stop flag: set by SIGTERM, Ctrl-C and SIGUSR1.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, flag.clone()).map_err(Error::from)?;
    }
    Ok(flag)
}
