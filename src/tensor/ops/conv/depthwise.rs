//! Depthwise convolution: every channel alone, so vectors run along channels.

use super::{
    geometry::Geometry,
    kernel::{Channels, Products, Registers, channels, products},
    pass::{Pass, Pixels, Shared, written},
};
use pulp::Arch;
use rayon::prelude::*;

/// Whether the convolution is one: one input and one output channel in each of several groups. A single channel is an
/// ordinary convolution, whose taps touch in memory.
pub fn is_depthwise(g: &Geometry) -> bool {
    g.groups > 1 && g.groups == g.inputs && g.groups == g.outputs
}

/// `(N, H, W, C)` and `(C, 1, kh, kw)` to `(N, H', W', C)`.
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

/// Each task makes one image: all channels of a few pixels, then the next pixels, as memory has them.
fn run(arch: Arch, g: &Geometry, pass: &Pass, source: &[f32], weight: &[f32], target: Shared) {
    assert_eq!(source.len(), pass.sizes().0, "the source of a convolution");
    let count = g.inputs;
    let packed: Vec<f32> =
        pass.taps.iter().flat_map(|tap| (0..count).map(move |channel| weight[channel * g.taps() + tap])).collect();
    let view = pass.view(source);
    let regions = pass.regions(&view, 1);
    let most = Registers::of(arch).rows(1).min(8);
    (0..g.batch).into_par_iter().for_each(|image| {
        for region in &regions {
            let pixels = pass.pixels(&view, region, image..image + 1, image);
            // Every channel of a run's pixel is read: the check of one channel, at the last one.
            pixels.check(region, &view, count - 1, pass.taps.len());
            let target = target.at(0, pixels.target + pixels.target_reach() + count);
            pixels.lines(most, |line| {
                let work = Channels {
                    source: view.values.as_ptr().wrapping_add(line.source),
                    source_step: line.source_step,
                    runs: &region.runs,
                    weights: packed.as_ptr(),
                    target: target.wrapping_add(line.target),
                    target_step: line.target_step,
                    channels: count,
                };
                // SAFETY: the region's first and last pixel were checked with all their channels, lines stay between
                // them, and `packed` has `channels` weights for each tap. Tasks differ in images.
                unsafe { channels(arch, line.count, work) }
            });
        }
    });
}

/// Floats of an output's gradient that a task goes over before it comes back for the next channels: they stay in the cache.
const BLOCK: usize = 1 << 15;

/// Parts of the batch whose sums are added at the end, in order: fixed, so that the bits do not depend on the threads.
const PARTS: usize = 8;

/// Of the input and the output's gradient, the weight's, `(C, 1, kh, kw)`.
pub fn weight_gradient(arch: Arch, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let pass = Pass::forward(g);
    assert_eq!(pass.sizes(), (x.len(), dy.len()), "a convolution's input and output gradient");
    let size = g.taps() * g.inputs;
    let mut parts = vec![0.0; PARTS * size];
    parts.par_chunks_mut(size).enumerate().for_each(|(part, sums)| {
        let images = part * g.batch / PARTS..(part + 1) * g.batch / PARTS;
        let step = (BLOCK / (g.output_pixels() * g.outputs)).max(1);
        for first in images.clone().step_by(step) {
            add_images(arch, g, &pass, x, dy, first..(first + step).min(images.end), sums);
        }
    });
    let sum = |at: usize| parts.iter().skip(at).step_by(size).sum();
    (0..g.inputs).flat_map(|channel| (0..g.taps()).map(move |tap| sum(tap * g.inputs + channel))).collect()
}

/// Adds the products of some images to `sums`, `[tap][channel]`.
fn add_images(
    arch: Arch,
    g: &Geometry,
    pass: &Pass,
    x: &[f32],
    dy: &[f32],
    images: std::ops::Range<usize>,
    sums: &mut [f32],
) {
    let view = pass.view(x);
    for region in pass.regions(&view, 1) {
        let pixels = pass.pixels(&view, &region, images.clone(), images.start);
        pixels.check(&region, &view, g.inputs - 1, g.taps());
        assert!(pixels.target + pixels.target_reach() + g.inputs <= dy.len() && sums.len() == g.taps() * g.inputs);
        for pixels in blocks(&pixels, g.outputs) {
            let work = Products {
                x: x.as_ptr(),
                dy: dy.as_ptr(),
                pixels: &pixels,
                runs: &region.runs,
                sums: sums.as_mut_ptr(),
                channels: g.inputs,
            };
            // SAFETY: the region's first and last pixel were checked with all their channels in `x` and `dy`; `sums` has
            // `channels` of them for each tap, and belongs to this task.
            unsafe { products(arch, work) }
        }
    }
}

/// The pixels in blocks of a few rows.
fn blocks(pixels: &Pixels, channels: usize) -> Vec<Pixels> {
    let [images, rows, columns] = pixels.loops;
    let step = (BLOCK / (columns.count * channels)).clamp(1, rows.count);
    let block = |start: usize| {
        let count = step.min(rows.count - start);
        Pixels {
            loops: [images, super::pass::Loop { count, ..rows }, columns],
            source: pixels.source + start * rows.source,
            target: pixels.target + start * rows.target,
        }
    };
    (0..rows.count).step_by(step).map(block).collect()
}
