//! The order in which samples are seen. Pure functions of a counter-based key: the same in every attempt of a run.

use crate::tensor::Key;

/// The order of `n` samples in one epoch: random under `key`, or as listed.
pub fn epoch_order(n: usize, shuffle: bool, key: Key) -> Vec<usize> {
    match shuffle {
        true => key.rng().permutation(n),
        false => (0..n).collect(),
    }
}

/// Batches of `batch_size`, in order; the last one is shorter, or dropped.
pub fn batches(order: &[usize], batch_size: usize, drop_last: bool) -> impl Iterator<Item = &[usize]> {
    let size = batch_size.max(1);
    order.chunks(size).filter(move |batch| !drop_last || batch.len() == size)
}

/// How many batches [`batches`] gives.
pub fn batch_count(n: usize, batch_size: usize, drop_last: bool) -> usize {
    let size = batch_size.max(1);
    if drop_last { n / size } else { n.div_ceil(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_every_sample_once_and_depends_on_the_key() {
        let order = |key: u64| epoch_order(1000, true, Key::new(0).with(key));
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, epoch_order(1000, false, Key::new(9)));
        let moved = order(3).iter().enumerate().filter(|(place, sample)| place != *sample).count();
        assert!(moved > 980, "{moved}");
    }

    #[test]
    fn the_last_batch_is_short_or_dropped() {
        let order: Vec<usize> = (0..10).collect();
        let sizes = |size, drop| batches(&order, size, drop).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(4, false), [4, 4, 2]);
        assert_eq!(sizes(4, true), [4, 4]);
        assert_eq!(sizes(5, true), [5, 5]);
        assert_eq!(sizes(11, true), [] as [usize; 0]);
        for (n, size) in [(0, 3), (1, 3), (9, 3), (10, 3), (10, 1), (10, 11), (10, 0)] {
            for drop in [false, true] {
                let order: Vec<usize> = (0..n).collect();
                assert_eq!(batches(&order, size, drop).count(), batch_count(n, size, drop), "{n} {size} {drop}");
            }
        }
    }
}
