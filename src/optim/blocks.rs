//! The loops of the rules: in blocks of a fixed size, so that the bits never depend on the number of threads.

use rayon::prelude::*;

/// Elements that one task works on.
pub const BLOCK: usize = 1 << 15;

/// Runs a loop compiled for the widest vectors this processor has.
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Replaces each element of the parameter and of its slots by what `rule` makes of (parameter, gradient, slots).
pub fn elementwise<const N: usize>(
    parameter: &mut [f32],
    gradient: &[f32],
    slots: [&mut Vec<f32>; N],
    rule: impl Fn(f32, f32, [f32; N]) -> (f32, [f32; N]) + Sync,
) {
    let mut slots = slots.map(|slot| slot.chunks_mut(BLOCK));
    let mut tasks = Vec::with_capacity(parameter.len().div_ceil(BLOCK));
    for (parameter, gradient) in parameter.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK)) {
        tasks.push((parameter, gradient, slots.each_mut().map(|slot| slot.next().unwrap_or_default())));
    }
    tasks.into_par_iter().for_each(|(parameter, gradient, mut slots)| {
        let size = slots.iter().map(|slot| slot.len()).fold(parameter.len().min(gradient.len()), usize::min);
        let (parameter, gradient) = (&mut parameter[..size], &gradient[..size]);
        let mut slots = slots.each_mut().map(|slot| &mut slot[..size]);
        vectorized(|| {
            for i in 0..size {
                let (new, kept) = rule(parameter[i], gradient[i], std::array::from_fn(|slot| slots[slot][i]));
                parameter[i] = new;
                slots.iter_mut().zip(kept).for_each(|(slot, kept)| slot[i] = kept);
            }
        });
    });
}

/// The norm of what `value` makes of each index below `size`.
pub fn norm(size: usize, value: impl Fn(usize) -> f32 + Sync) -> f64 {
    let blocks = (0..size.div_ceil(BLOCK)).into_par_iter().map(|block| {
        let indices = block * BLOCK..((block + 1) * BLOCK).min(size);
        indices.map(|index| f64::from(value(index)).powi(2)).sum::<f64>()
    });
    blocks.collect::<Vec<f64>>().iter().sum::<f64>().sqrt()
}
