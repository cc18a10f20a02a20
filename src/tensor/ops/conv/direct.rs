//! Convolution and its input gradient without a matrix of columns: blocks of pixels times panels of channels, summed in
//! registers straight from the image (after Georganas et al. 2018, "Anatomy of high-performance deep learning
//! convolutions on SIMD architectures", arXiv:1808.05567).
//!
//! Every element of the result is one chain of multiply-adds in one order, so its bits depend neither on threads nor on
//! the other images of the batch.

use super::{
    geometry::Geometry,
    kernel::{Registers, Tile, tile},
    panel::{Packing, Panels},
    pass::{Pass, Region, Shared, View, written},
};
use pulp::Arch;
use rayon::prelude::*;
use std::ops::Range;

/// `(N, H, W, in)` and `(out, in / groups, kh, kw)` to `(N, H', W', out)`.
pub fn forward(arch: Arch, g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let pass = Pass::forward(g);
    // SAFETY: the pass has every position of the output.
    unsafe { written(pass.sizes().1, |y| run(arch, g, &pass, x, weight, y)) }
}

/// Of the output's gradient, the input's.
pub fn input_gradient(arch: Arch, g: &Geometry, dy: &[f32], weight: &[f32]) -> Vec<f32> {
    let passes = Pass::backward(g);
    // SAFETY: together the passes have every position of the input.
    unsafe {
        written(g.batch * g.input_image(), |dx| passes.iter().for_each(|pass| run(arch, g, pass, dy, weight, dx)))
    }
}

fn run(arch: Arch, g: &Geometry, pass: &Pass, source: &[f32], weight: &[f32], target: Shared) {
    assert_eq!(source.len(), pass.sizes().0, "the source of a convolution");
    let registers = Registers::of(arch);
    let panels = Panels::new(pass.outputs(), registers);
    let (inputs, outputs) = (g.group_inputs(), g.group_outputs());
    let packing = Packing { weight, inputs, outputs, kernel: g.taps(), taps: &pass.taps, backward: pass.backward };
    let work = Work { arch, registers, pass, panels, depth: pass.taps.len() * pass.inputs(), target };
    match weight.len() > source.len() {
        true => work.by_panels(source, &packing),
        false => work.by_images(source, &packing),
    }
}

struct Work<'a> {
    arch: Arch,
    registers: Registers,
    pass: &'a Pass,
    panels: Panels,
    /// Rows of a packed panel.
    depth: usize,
    target: Shared,
}

impl Work<'_> {
    /// Heavy weights, small images: each task packs a panel and runs all images through it while it is in the cache.
    fn by_panels(&self, source: &[f32], packing: &Packing) {
        let view = self.view(source);
        let regions = self.pass.regions(&view, self.pass.inputs());
        (0..self.pass.groups * self.panels.count()).into_par_iter().for_each(|task| {
            let (group, panel) = (task / self.panels.count(), task % self.panels.count());
            let mut packed = vec![0.0; self.depth * self.panels.width(panel)];
            packing.pack(&self.panels, group, panel, &mut packed);
            self.panel(&view, &regions, 0..self.pass.batch, (group, panel), &packed);
        });
    }

    /// Big images: the weights are packed once, each task runs a few images through all panels.
    fn by_images(&self, source: &[f32], packing: &Packing) {
        let place = |group: usize, panel: usize| {
            let at = self.depth * (group * self.panels.total() + self.panels.start(panel));
            at..at + self.depth * self.panels.width(panel)
        };
        let every =
            || (0..self.pass.groups).flat_map(|group| (0..self.panels.count()).map(move |panel| (group, panel)));
        let mut packed = vec![0.0; self.pass.groups * self.depth * self.panels.total()];
        every().for_each(|(group, panel)| packing.pack(&self.panels, group, panel, &mut packed[place(group, panel)]));
        let (blocks, batch, image) = (self.image_blocks(), self.pass.batch, self.pass.source.image());
        (0..blocks).into_par_iter().for_each(|block| {
            let images = block * batch / blocks..(block + 1) * batch / blocks;
            let view = self.view(&source[images.start * image..images.end * image]);
            let regions = self.pass.regions(&view, self.pass.inputs());
            every().for_each(|at| self.panel(&view, &regions, images.clone(), at, &packed[place(at.0, at.1)]));
        });
    }

    /// Blocks of enough pixels that a panel of weights pays for its way into the cache, and of enough images where lines
    /// of pixels must run across them.
    fn image_blocks(&self) -> usize {
        const PIXELS: usize = 512;
        let most = self.registers.rows(2);
        let (rows, columns, batch) = (self.pass.rows.count, self.pass.columns.count, self.pass.batch);
        let across = if rows.min(columns) < most { most } else { 1 };
        let images = PIXELS.div_ceil((rows * columns).max(1)).max(across);
        batch.div_ceil(images).next_multiple_of(rayon::current_num_threads()).min(batch)
    }

    /// A 1x1 kernel reads each pixel once, so it takes it where it lies; others reread, and want a copy that suits the
    /// cache.
    fn view<'a>(&self, source: &'a [f32]) -> View<'a> {
        match self.pass.taps.len() > 1 || self.pass.source.channels.is_multiple_of(512) {
            true => self.pass.apart(source),
            false => self.pass.view(source),
        }
    }

    /// One panel of target channels for some images, which are all that `view` holds.
    fn panel(&self, view: &View, regions: &[Region], images: Range<usize>, at: (usize, usize), packed: &[f32]) {
        let ((group, panel), pass) = (at, self.pass);
        let (vectors, channels) = (self.panels.vectors(panel), self.panels.channels(panel));
        let (skip, channel) = (group * pass.inputs(), group * pass.outputs() + channels.start);
        for region in regions {
            let pixels = pass.pixels(view, region, images.clone(), 0);
            pixels.check(region, view, skip, packed.len() / self.panels.width(panel));
            let target = self.target.at(channel, pixels.target + pixels.target_reach() + channels.len());
            let source = view.values.as_ptr().wrapping_add(skip);
            pixels.lines(self.registers.rows(vectors), |line| {
                let tile_of = Tile {
                    source: source.wrapping_add(line.source),
                    source_step: line.source_step,
                    runs: &region.runs,
                    length: region.length,
                    weights: packed.as_ptr(),
                    target: target.wrapping_add(line.target),
                    target_step: line.target_step,
                    channels: channels.len(),
                };
                // SAFETY: the region's first and last pixel were checked against source, weights and target, and lines
                // stay between them. No other task writes here: tasks differ in images or channels, regions in positions.
                unsafe { tile(self.arch, line.count, vectors, tile_of) }
            });
        }
    }
}
