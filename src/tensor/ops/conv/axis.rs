//! One axis of a convolution: which positions of the source each position of the result reads.
//!
//! The convolution and its input gradient are the same thing seen so: the result's positions lie on a grid, and each
//! reads the source at a few shifts. With stride `s` the gradient falls into `s` such grids, its phases, each without
//! holes. Positions near the borders see fewer taps; [`Axis::spans`] groups them, so nobody multiplies padding.

use super::geometry::Geometry;
use std::ops::Range;

/// Result position `first + every * j`, `j < count`, reads source position `step * j + shift` for each tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    pub first: usize,
    pub every: usize,
    pub count: usize,
    pub step: usize,
    /// Ascending by shift.
    pub taps: Vec<Tap>,
    /// Positions of the source.
    length: usize,
}

/// A position of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub kernel: usize,
    pub shift: isize,
}

/// Neighbouring positions of the result that see the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Positions `j`.
    pub positions: Range<usize>,
    /// Places in [`Axis::taps`].
    pub taps: Range<usize>,
}

impl Axis {
    /// From the input to the output.
    pub fn forward(g: &Geometry, axis: usize) -> Self {
        let window = &g.window;
        let tap = |kernel: usize| {
            let shift = (kernel * window.dilation[axis]) as isize - window.padding[axis] as isize;
            Tap { kernel, shift }
        };
        let taps = (0..window.kernel[axis]).map(tap).collect();
        let step = window.stride[axis];
        Self { first: 0, every: 1, count: g.output[axis], step, taps, length: g.input[axis] }
    }

    /// From the output's gradient to the input's: an axis for each phase that has positions.
    pub fn backward(g: &Geometry, axis: usize) -> Vec<Self> {
        let phases = g.window.stride[axis].min(g.input[axis]);
        (0..phases).map(|phase| Self::phase(g, axis, phase)).collect()
    }

    /// Input positions `phase`, `phase + stride`, ..: position `i` was read by the output position `o` and tap `k` with
    /// `o * stride = i + padding - k * dilation`.
    fn phase(g: &Geometry, axis: usize, phase: usize) -> Self {
        let window = &g.window;
        let stride = window.stride[axis];
        let tap = |kernel: usize| {
            let distance = (phase + window.padding[axis]) as isize - (kernel * window.dilation[axis]) as isize;
            (distance % stride as isize == 0).then(|| Tap { kernel, shift: distance / stride as isize })
        };
        let taps = (0..window.kernel[axis]).rev().filter_map(tap).collect();
        let count = (g.input[axis] - phase).div_ceil(stride);
        Self { first: phase, every: stride, count, step: 1, taps, length: g.output[axis] }
    }

    /// The positions, grouped by the taps that fall inside the source.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for at in 0..self.count {
            let taps = self.inside(at);
            match spans.last_mut() {
                Some(span) if span.taps == taps => span.positions.end = at + 1,
                _ => spans.push(Span { positions: at..at + 1, taps }),
            }
        }
        spans
    }

    /// The taps that read inside the source at position `at`: neighbours, because shifts ascend.
    fn inside(&self, at: usize) -> Range<usize> {
        let place = |tap: &Tap| (at * self.step) as isize + tap.shift;
        let start = self.taps.partition_point(|tap| place(tap) < 0);
        let end = self.taps.partition_point(|tap| place(tap) < self.length as isize);
        if start < end { start..end } else { 0..0 }
    }

    /// The positions whose reading at `tap` falls inside the source.
    pub fn reached(&self, tap: &Tap) -> Range<usize> {
        let step = self.step as isize;
        let start = (-tap.shift).max(0).unsigned_abs().div_ceil(self.step);
        let end = (self.length as isize - tap.shift + step - 1).div_euclid(step).max(0) as usize;
        start..end.min(self.count).max(start)
    }

    /// Whether the taps read neighbouring positions of the source, so that a row of them is one run.
    pub fn dense(&self) -> bool {
        self.taps.windows(2).all(|pair| pair[1].shift == pair[0].shift + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ops::Window;

    fn geometry(length: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Geometry {
        let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, padding) };
        Geometry::new(&[1, length, length, 1], &[1, 1, kernel, kernel], window, 1).unwrap()
    }

    /// Every pair (output, input, tap) of an axis.
    fn pairs(axis: &Axis) -> Vec<(usize, usize, usize)> {
        let mut pairs = Vec::new();
        for span in axis.spans() {
            for at in span.positions {
                let read =
                    |tap: &Tap| (axis.first + axis.every * at, (axis.step * at) as isize + tap.shift, tap.kernel);
                pairs.extend(axis.taps[span.taps.clone()].iter().map(read).map(|(a, b, k)| (a, b as usize, k)));
            }
        }
        pairs.sort();
        pairs
    }

    #[test]
    fn forward_and_backward_pair_the_same_positions() {
        for (length, kernel, stride, padding, dilation) in [
            (8, 3, 1, 1, 1),
            (9, 3, 2, 1, 1),
            (7, 7, 2, 3, 1),
            (5, 5, 3, 2, 2),
            (6, 1, 2, 0, 1),
            (2, 3, 1, 4, 1),
            (9, 2, 3, 0, 3),
        ] {
            let g = geometry(length, kernel, stride, padding, dilation);
            let forward = pairs(&Axis::forward(&g, 0));
            let all = (0..g.output[0]).flat_map(|o| (0..kernel).map(move |k| (o, k)));
            let wanted: Vec<_> = all.filter_map(|(o, k)| g.source(0, o, k).map(|i| (o, i, k))).collect();
            assert_eq!(forward, wanted, "{g:?}");
            let mut backward: Vec<_> =
                Axis::backward(&g, 0).iter().flat_map(pairs).map(|(i, o, k)| (o, i, k)).collect();
            backward.sort();
            assert_eq!(backward, wanted, "{g:?}");
            let covered: usize = Axis::backward(&g, 0).iter().map(|axis| axis.count).sum();
            assert_eq!(covered, length);
        }
    }

    #[test]
    fn reached_positions_are_those_whose_reading_is_inside() {
        for (length, kernel, stride, padding, dilation) in
            [(8, 3, 1, 1, 1), (9, 3, 2, 1, 1), (5, 5, 3, 2, 2), (2, 3, 1, 4, 1)]
        {
            let g = geometry(length, kernel, stride, padding, dilation);
            let axis = Axis::forward(&g, 0);
            for tap in &axis.taps {
                let inside: Vec<_> = (0..axis.count).filter(|&o| g.source(0, o, tap.kernel).is_some()).collect();
                assert_eq!(axis.reached(tap).collect::<Vec<_>>(), inside, "{g:?} {tap:?}");
            }
        }
    }
}
