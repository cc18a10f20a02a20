//! Rows of channels seen as wide rows: loops stay long and full vectors wide whatever the number of channels.

/// How `(rows, channels)` values are walked: several rows at once, as one wide row that is a multiple of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    pub channels: usize,
    /// Elements of a wide row, a multiple of `channels`.
    pub width: usize,
}

impl Lanes {
    /// Wide rows have at least this many elements.
    const LEAST: usize = 256;
    /// Elements of the widest vector.
    const VECTOR: usize = 16;

    pub fn new(channels: usize) -> Self {
        let channels = channels.max(1);
        let whole = channels * (Self::VECTOR / gcd(channels, Self::VECTOR));
        Self { channels, width: whole * Self::LEAST.div_ceil(whole) }
    }

    /// Elements of a block of wide rows that fits the nearest caches: fixed, so that sums do not depend on threads.
    pub fn block(&self) -> usize {
        self.width * (16_384 / self.width).max(16)
    }

    /// One value a channel, repeated along a wide row.
    pub fn widen(&self, channels: &[f32]) -> Vec<f32> {
        channels.iter().copied().cycle().take(self.width).collect()
    }

    /// Adds the sums of a wide row's elements to their channels.
    pub fn fold(&self, wide: &[f32], channels: &mut [f64]) {
        for row in wide.chunks_exact(self.channels) {
            for (channel, &value) in channels.iter_mut().zip(row) {
                *channel += f64::from(value);
            }
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
