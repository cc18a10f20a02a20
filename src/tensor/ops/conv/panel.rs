//! Channels in panels of whole vectors, and the weights in the order the kernels read them.

use super::{
    kernel::{PANEL_VECTORS, Registers},
    transpose::{Lanes, NONE, pack},
};
use std::ops::Range;

/// Some channels, cut into panels of [`PANEL_VECTORS`] vectors; the last may have fewer.
#[derive(Clone, Copy, Debug)]
pub struct Panels {
    pub channels: usize,
    pub lanes: usize,
}

impl Panels {
    pub fn new(channels: usize, registers: Registers) -> Self {
        Self { channels, lanes: registers.lanes }
    }

    pub fn count(&self) -> usize {
        self.channels.div_ceil(PANEL_VECTORS * self.lanes)
    }

    /// The channels of a panel.
    pub fn channels(&self, panel: usize) -> Range<usize> {
        let full = PANEL_VECTORS * self.lanes;
        panel * full..((panel + 1) * full).min(self.channels)
    }

    /// Vectors that hold the panel's channels.
    pub fn vectors(&self, panel: usize) -> usize {
        self.channels(panel).len().div_ceil(self.lanes)
    }

    /// Lanes of the panel's vectors.
    pub fn width(&self, panel: usize) -> usize {
        self.vectors(panel) * self.lanes
    }

    /// Lanes of all panels before this one.
    pub fn start(&self, panel: usize) -> usize {
        panel * PANEL_VECTORS * self.lanes
    }

    /// Lanes of all panels.
    pub fn total(&self) -> usize {
        self.channels.div_ceil(self.lanes) * self.lanes
    }
}

/// A weight `(out, in / groups, kh, kw)` as one pass over it needs it.
#[derive(Clone, Copy, Debug)]
pub struct Packing<'a> {
    pub weight: &'a [f32],
    /// Channels of a group.
    pub inputs: usize,
    pub outputs: usize,
    /// Positions of the kernel.
    pub kernel: usize,
    /// The positions to pack, in the order of the pass.
    pub taps: &'a [usize],
    /// Whether output channels are summed over and input channels are lanes: the input gradient.
    pub backward: bool,
}

impl Packing<'_> {
    /// Packs one panel of one group: `[tap][summed channel][lane]`, zeros behind the last channel.
    pub fn pack(&self, panels: &Panels, group: usize, panel: usize, packed: &mut [f32]) {
        let (channels, width) = (panels.channels(panel), panels.width(panel));
        if channels.len() < width {
            packed.fill(0.0);
        }
        let size = self.inputs * self.outputs * self.kernel;
        let weight = &self.weight[group * size..][..size];
        match self.backward {
            false => self.outputs_in_lanes(weight, channels, width, packed),
            true => self.inputs_in_lanes(weight, channels, width, packed),
        }
    }

    /// A block of inputs at a time, so that its rows stay in the cache while the lanes fill up.
    fn outputs_in_lanes(&self, weight: &[f32], channels: Range<usize>, width: usize, packed: &mut [f32]) {
        const BLOCK: usize = 16;
        let lanes = Lanes { count: channels.len(), stride: self.inputs * self.kernel };
        let mut rows = Vec::new();
        for start in (0..self.inputs).step_by(BLOCK) {
            rows.clear();
            for input in start..(start + BLOCK).min(self.inputs) {
                rows.extend(self.places().map(|place| place.map_or(NONE, |place| place * self.inputs + input)));
            }
            pack(&weight[channels.start * lanes.stride + start * self.kernel..], lanes, &rows, packed, width);
        }
    }

    fn inputs_in_lanes(&self, weight: &[f32], channels: Range<usize>, width: usize, packed: &mut [f32]) {
        for output in 0..self.outputs {
            let weight =
                &weight[(output * self.inputs + channels.start) * self.kernel..][..channels.len() * self.kernel];
            for (place, &tap) in self.taps.iter().enumerate() {
                let packed = &mut packed[(place * self.outputs + output) * width..][..channels.len()];
                let weights = weight.chunks_exact(self.kernel);
                packed.iter_mut().zip(weights).for_each(|(packed, weight)| *packed = weight[tap]);
            }
        }
    }

    /// For each position of the kernel its place in the pass.
    fn places(&self) -> impl Iterator<Item = Option<usize>> {
        (0..self.kernel).map(|position| self.taps.iter().position(|tap| *tap == position))
    }
}
