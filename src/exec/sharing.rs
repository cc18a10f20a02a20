//! Whether one more run fits on a GPU beside those at work, by what runs of their kinds were measured to take of its memory
//! and by how busy it is.

use super::{
    devices::Gpu,
    load::{Load, Now},
};
use crate::spec::RunsPerGpu;
use std::collections::BTreeMap;

/// The share of a GPU's memory that runs may fill: fragments and libraries want some.
const FILLED: f64 = 0.9;

/// From here on a GPU is busy enough: the share of the time in which it computes.
const BUSY: f64 = 0.9;

/// What a process takes beside the arrays it holds, in bytes: the CUDA context, kernels and the libraries' own workspaces.
pub const PROCESS: u64 = 600 << 20;

/// How the GPUs of a sweep are shared.
pub struct Sharing {
    /// Whether runs are added by measuring.
    measured: bool,
    gpus: BTreeMap<String, Seat>,
    load: Load,
}

/// A GPU and what was learnt of it.
struct Seat {
    gpu: Option<Gpu>,
    /// The most runs at once: memory ran out with more.
    most: usize,
    /// Runs at once that there has been time for.
    reached: usize,
}

impl Sharing {
    /// `devices` with what the driver knows of each.
    pub fn new(rule: RunsPerGpu, devices: Vec<(String, Option<Gpu>)>, load: Load) -> Self {
        let seat = |(name, gpu)| (name, Seat { gpu, most: usize::MAX, reached: 0 });
        Self { measured: rule == RunsPerGpu::Auto, gpus: devices.into_iter().map(seat).collect(), load }
    }

    /// Whether runs are added by measuring; otherwise every slot may be filled.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// Whether a run that is expected to take `run` bytes may join those at work on a device, which take `at_work`. What was
    /// never measured runs alone.
    pub fn may_join(&self, device: &str, at_work: &[Option<u64>], run: Option<u64>) -> bool {
        let Some(seat) = self.gpus.get(device) else { return true };
        if at_work.is_empty() {
            return true;
        }
        if at_work.len() >= seat.most {
            return false;
        }
        if !self.measured {
            return true;
        }
        let taken = at_work.iter().copied().chain([run]).sum::<Option<u64>>();
        let (Some(taken), Some(gpu)) = (taken, &seat.gpu) else { return false };
        let room = (gpu.memory as f64 * FILLED) as u64;
        taken <= room && (at_work.len() < seat.reached || self.has_time(gpu, run.unwrap_or(0), room))
    }

    /// Whether a GPU is idle often enough for one more run than it had so far, and nobody else has the memory for it.
    fn has_time(&self, gpu: &Gpu, run: u64, room: u64) -> bool {
        let idle = |load: Now| load.busy < BUSY && load.used + run <= room;
        !self.load.is_unsettled(&gpu.uuid) && self.load.of(&gpu.uuid).is_none_or(idle)
    }

    /// A run has begun on a device, which now has `at_once`.
    pub fn joined(&mut self, device: &str, at_once: usize) {
        let Some(seat) = self.gpus.get_mut(device).filter(|seat| at_once > seat.reached) else { return };
        seat.reached = at_once;
        // How busy it was with fewer tells nothing about now.
        if let Some(gpu) = &seat.gpu {
            self.load.forget(&gpu.uuid);
        }
    }

    /// Memory ran out with `others` beside a run; true where fewer will be tried before a smaller batch is.
    pub fn crowded(&mut self, device: &str, others: usize) -> bool {
        match self.gpus.get_mut(device) {
            Some(seat) if self.measured && others > 0 => {
                seat.most = seat.most.min(others);
                seat.reached = seat.reached.min(others);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn sharing(rule: RunsPerGpu, load: Load) -> Sharing {
        let gpu = Gpu { model: "Test 80GB".into(), uuid: "GPU-0".into(), memory: 80 * GB };
        Sharing::new(rule, vec![("cuda:0".into(), Some(gpu)), ("cuda:1".into(), None)], load)
    }

    #[test]
    fn memory_decides_how_many_runs_share_a_gpu() {
        let auto = sharing(RunsPerGpu::Auto, Load::default());
        let joins = |at_work: &[Option<u64>], run| auto.may_join("cuda:0", at_work, run);
        assert!(joins(&[], None), "the first run of a kind is measured alone");
        assert!(!joins(&[None], Some(GB)) && !joins(&[Some(GB)], None), "what is not known is not added");
        assert!(joins(&[Some(30 * GB)], Some(42 * GB)));
        assert!(!joins(&[Some(30 * GB)], Some(43 * GB)), "a tenth stays free");
        assert!(joins(&[Some(10 * GB); 6], Some(10 * GB)) && !joins(&[Some(10 * GB); 7], Some(10 * GB)));
        assert!(!auto.may_join("cuda:1", &[Some(GB)], Some(GB)), "a GPU of which nothing is known takes one run");
    }

    #[test]
    fn a_given_number_is_taken_at_its_word() {
        let two = sharing(RunsPerGpu::Count(2), Load::default());
        assert!(two.may_join("cuda:0", &[None], None) && !two.is_measured());
        assert!(two.may_join("cpu", &[None], None));
    }

    #[test]
    fn a_busy_gpu_takes_no_further_run() {
        let load = Load::default();
        let mut auto = sharing(RunsPerGpu::Auto, load.clone());
        let joins = |auto: &Sharing, others: usize| auto.may_join("cuda:0", &vec![Some(GB); others], Some(GB));
        let samples = |busy, used| (0..Load::ENOUGH).for_each(|_| load.sample("GPU-0", busy, used));
        assert!(joins(&auto, 1), "nobody samples, so memory decides alone");
        load.sample("GPU-0", 0.5, 2 * GB);
        assert!(!joins(&auto, 1), "too early to tell");
        samples(0.5, 2 * GB);
        assert!(joins(&auto, 1));
        auto.joined("cuda:0", 2);
        assert!(!joins(&auto, 2), "too early again");
        samples(0.98, 3 * GB);
        assert!(!joins(&auto, 2) && joins(&auto, 1), "another one in place of one that has ended");
        samples(0.5, 79 * GB);
        assert!(!joins(&auto, 2), "somebody else has the memory");
    }

    #[test]
    fn where_memory_ran_out_fewer_runs_are_tried_first() {
        let mut auto = sharing(RunsPerGpu::Auto, Load::default());
        assert!(!auto.crowded("cuda:0", 0), "alone, only a smaller batch helps");
        assert!(auto.crowded("cuda:0", 2));
        assert!(auto.may_join("cuda:0", &[Some(GB)], Some(GB)) && !auto.may_join("cuda:0", &[Some(GB); 2], Some(GB)));
        assert!(!sharing(RunsPerGpu::Count(4), Load::default()).crowded("cuda:0", 3));
    }
}
