//! The learning rate and the momentum of a step.

use crate::{
    schedule::{self, Clock},
    spec::RunSpec,
};

/// The step's learning rate and, where the schedule cycles it, momentum: the schedule's, until weight averaging has a rate
/// of its own.
pub fn rates(spec: &RunSpec, clock: &Clock) -> (f64, Option<f64>) {
    let epoch = (clock.step / clock.steps_per_epoch.max(1)) as u32 + 1;
    let Some((swa, lr)) = spec.swa.as_ref().and_then(|swa| Some((swa, swa.lr?))).filter(|(swa, _)| epoch >= swa.start)
    else {
        return scheduled(spec, clock);
    };
    let step = u64::from(swa.start - 1) * clock.steps_per_epoch;
    let evaluations = ((swa.start - 1) / spec.eval_every) as usize;
    let history = &clock.history[..evaluations.min(clock.history.len())];
    let (from, momentum) = scheduled(spec, &Clock { step, history, ..*clock });
    (swa.anneal(lr, from, epoch), momentum)
}

/// The schedule's learning rate, behind the warm-up where there is one, and its momentum.
fn scheduled(spec: &RunSpec, clock: &Clock) -> (f64, Option<f64>) {
    let (base, schedule) = (spec.optimizer.as_dyn().lr(), spec.scheduler.as_dyn());
    match &spec.warmup {
        None => (schedule.lr(base, clock), schedule.momentum(clock)),
        Some(warmup) => {
            let steps = warmup.length.steps(clock.steps_per_epoch);
            let lr = schedule::warmed_up(base, warmup.start_factor, steps, clock, schedule);
            (lr, schedule.momentum(&clock.after(steps)))
        }
    }
}
