//! Batch normalization on the CPU.

use super::{
    moments::{Moments, sums_of_blocks, total},
    rows::*,
};
use crate::tensor::ops::{
    Activation,
    function::with_function,
    lanes::Lanes,
    memory::Fresh,
    op::{Given, Gradient},
};
use rayon::prelude::*;

/// A normalization with its statistics at hand.
pub struct Host<'a> {
    pub moments: &'a Moments,
    pub activation: Activation,
    pub eps: f64,
}

/// The channelwise part of the forward pass, widened.
pub struct Map {
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// The channelwise part of the input's gradient, widened.
pub struct Back {
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    pub slope: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Host<'_> {
    fn lanes(&self) -> Lanes {
        Lanes::new(self.moments.mean.len())
    }

    /// 1 / sqrt(var + eps) of each channel.
    fn inverses(&self) -> Vec<f64> {
        self.moments.var.iter().map(|var| 1.0 / (var + self.eps).sqrt()).collect()
    }

    /// The mean is rounded to f32; the shift makes up for it.
    fn map(&self, [weight, bias]: [&[f32]; 2], lanes: &Lanes) -> Map {
        let (center, lost) = self.moments.centers();
        let exact: Vec<f64> =
            weight.iter().zip(self.inverses()).map(|(&weight, inv)| f64::from(weight) * inv).collect();
        let shift =
            bias.iter().zip(lost.iter().zip(&exact)).map(|(&bias, (lost, k))| (f64::from(bias) + lost * k) as f32);
        let scale: Vec<f32> = exact.iter().map(|&scale| scale as f32).collect();
        Map { center: lanes.widen(&center), scale: lanes.widen(&scale), shift: lanes.widen(&shift.collect::<Vec<_>>()) }
    }

    pub fn forward(&self, x: &[f32], affine: [&[f32]; 2], residual: Option<&[f32]>) -> Vec<f32> {
        let lanes = self.lanes();
        let (map, block) = (self.map(affine, &lanes), lanes.block());
        let mut y = Fresh::new(x.len());
        // Backwards: the end of `x` has just been read for the statistics and is still in the caches.
        let blocks = y.slots().par_chunks_mut(block).zip(x.par_chunks(block));
        with_function!(self.activation, F => match residual {
            None => blocks.rev().for_each(|(y, x)| forward_rows::<F>(&map, y, x)),
            Some(residual) => blocks.zip(residual.par_chunks(block)).rev()
                .for_each(|((y, x), residual)| forward_rows_residual::<F>(&map, y, x, residual)),
        });
        // SAFETY: the blocks cover all of `y`; `x` and the residual have its length.
        unsafe { y.done() }
    }

    /// The gradients of `x`, weight, bias and the residual; `needs` says whether the first and the last are asked for.
    pub fn gradients(
        &self,
        [x, weight, bias]: [Given; 3],
        residual: Option<Given>,
        dy: Given,
        needs: [bool; 2],
    ) -> [Gradient<Vec<f32>>; 4] {
        let lanes = self.lanes();
        let (x, weight, dy) = (x.values, weight.values, dy.values);
        let (dz, [sums, products]) = match self.activation {
            Activation::Identity => (None, self.sums(x, dy, &lanes)),
            _ => {
                let map = self.map([weight, bias.values], &lanes);
                let (dz, sums) = self.inner_gradient(&map, x, residual.map(|residual| residual.values), dy, &lanes);
                (Some(dz), sums)
            }
        };
        let back = || self.back(weight, [&sums, &products], x.len(), &lanes);
        let block = lanes.block();
        let (dx, dresidual) = match (needs, dz) {
            ([false, residual], None) => (Gradient::None, Gradient::same(residual)),
            ([false, _], Some(dz)) => (Gradient::None, Gradient::New(dz)),
            ([true, residual], None) => {
                (Gradient::New(fresh_input_gradient(&back(), x, dy, block)), Gradient::same(residual))
            }
            ([true, true], Some(dz)) => {
                (Gradient::New(fresh_input_gradient(&back(), x, &dz, block)), Gradient::New(dz))
            }
            ([true, false], Some(mut dz)) => {
                let back = back();
                let blocks = dz.par_chunks_mut(block).zip(x.par_chunks(block));
                blocks.rev().for_each(|(dz, x)| input_rows_in_place(&back, dz, x));
                (Gradient::New(dz), Gradient::None)
            }
        };
        let dweight = products.iter().zip(self.inverses()).map(|(product, inv)| (product * inv) as f32).collect();
        let dbias = sums.iter().map(|&sum| sum as f32).collect();
        [dx, Gradient::New(dweight), Gradient::New(dbias), dresidual]
    }

    /// The sums over rows of `dz` and of `dz * (x - mean)`.
    fn sums(&self, x: &[f32], dz: &[f32], lanes: &Lanes) -> [Vec<f64>; 2] {
        let (center, _) = self.moments.centers();
        let (wide, block) = (lanes.widen(&center), lanes.block());
        let task = block * Moments::BLOCKS;
        let tasks = x.par_chunks(task).zip(dz.par_chunks(task)).map(|(x, dz)| {
            sums_of_blocks(lanes, x.chunks(block).zip(dz.chunks(block)), |(x, dz), sums, products| {
                add_gradients(x, dz, &wide, sums, products);
            })
        });
        self.about_the_mean(total(&tasks.collect::<Vec<_>>(), lanes.channels))
    }

    /// `dz` and, on the way, its sums.
    fn inner_gradient(
        &self,
        map: &Map,
        x: &[f32],
        residual: Option<&[f32]>,
        dy: &[f32],
        lanes: &Lanes,
    ) -> (Vec<f32>, [Vec<f64>; 2]) {
        let block = lanes.block();
        let task = block * Moments::BLOCKS;
        let mut dz = Fresh::new(x.len());
        let inputs = x.par_chunks(task).zip(dy.par_chunks(task));
        let tasks = dz.slots().par_chunks_mut(task).zip(inputs).enumerate().map(|(i, (dz, (x, dy)))| {
            let blocks = dz.chunks_mut(block).zip(x.chunks(block)).zip(dy.chunks(block)).enumerate();
            sums_of_blocks(lanes, blocks, |(j, ((dz, x), dy)), sums, products| {
                with_function!(self.activation, F => match residual {
                    None => backward_rows::<F>(map, dz, x, dy, sums, products),
                    Some(residual) => {
                        let residual = &residual[i * task + j * block..];
                        backward_rows_residual::<F>(map, dz, x, residual, dy, sums, products);
                    }
                })
            })
        });
        let sums = total(&tasks.collect::<Vec<_>>(), lanes.channels);
        // SAFETY: the tasks' blocks cover all of `dz`; the others have its length.
        (unsafe { dz.done() }, self.about_the_mean(sums))
    }

    /// From the rounded mean to the mean.
    fn about_the_mean(&self, [sums, mut products]: [Vec<f64>; 2]) -> [Vec<f64>; 2] {
        let (_, lost) = self.moments.centers();
        for (product, (lost, sum)) in products.iter_mut().zip(lost.iter().zip(&sums)) {
            *product += lost * sum;
        }
        [sums, products]
    }

    /// `dx = weight / sqrt(var + eps) * (dz - mean(dz) - xhat * mean(dz * xhat))`, as a function of `dz` and `x - center`.
    fn back(&self, weight: &[f32], [sums, products]: [&[f64]; 2], len: usize, lanes: &Lanes) -> Back {
        let rows = (len / lanes.channels) as f64;
        let (center, lost) = self.moments.centers();
        let [mut scale, mut slope, mut shift] = [const { Vec::new() }; 3];
        for (c, inverse) in self.inverses().into_iter().enumerate() {
            let k = f64::from(weight[c]) * inverse;
            let exact = -k * inverse * inverse * products[c] / rows;
            scale.push(k as f32);
            slope.push(exact as f32);
            shift.push((exact * lost[c] - k * sums[c] / rows) as f32);
        }
        let [center, scale, slope, shift] = [center, scale, slope, shift].map(|values| lanes.widen(&values));
        Back { center, scale, slope, shift }
    }
}

pub fn fresh_input_gradient(back: &Back, x: &[f32], dz: &[f32], block: usize) -> Vec<f32> {
    let mut dx = Fresh::new(x.len());
    let blocks = dx.slots().par_chunks_mut(block).zip(x.par_chunks(block)).zip(dz.par_chunks(block));
    blocks.rev().for_each(|((dx, x), dz)| input_rows(back, dx, x, dz));
    // SAFETY: the blocks cover all of `dx`, whose length is that of `x` and `dz`.
    unsafe { dx.done() }
}
