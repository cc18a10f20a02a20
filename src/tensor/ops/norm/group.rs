//! Group normalization, on the rows of batch normalization: within one image, channels of a group share their statistics.

use super::{Back, Map, Moments, backward_rows, forward_rows, fresh_input_gradient, sums_of_blocks};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Grid, Queue, View, args},
        ops::{
            Activation,
            function::with_function,
            lanes::Lanes,
            memory::Fresh,
            op::{Given, Gradient, Known, Op, apply3},
        },
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `act(torch.nn.functional.group_norm(x, groups, weight, bias, eps))` of images `(N, H, W, C)`; weight and bias `(C)`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
    eps: f64,
) -> Result<Tensor> {
    match *x.dims() {
        [_, h, w, c]
            if h * w * c > 0 && groups > 0 && c % groups == 0 && weight.dims() == [c] && bias.dims() == [c] =>
        {
            let on_device = OnceLock::new();
            let op = GroupNorm { image: h * w * c, channels: c, groups, activation, eps, on_device };
            Ok(apply3(op, [x, weight, bias])?)
        }
        _ => Err(Error::bug(format!(
            "group normalization of {:?} in {groups} groups: weight {:?}, bias {:?}",
            x.dims(),
            weight.dims(),
            bias.dims()
        ))),
    }
}

struct GroupNorm {
    /// Elements of one image.
    image: usize,
    channels: usize,
    groups: usize,
    activation: Activation,
    eps: f64,
    /// Each image's groups' mean and 1 / sqrt(var + eps), as a GPU's forward pass found them.
    on_device: OnceLock<Array>,
}

/// Each channel's group's mean and 1 / sqrt(var + eps).
struct Statistics {
    mean: Vec<f64>,
    inverse: Vec<f64>,
}

impl GroupNorm {
    fn members(&self) -> usize {
        self.channels / self.groups
    }

    /// The mean of each group, repeated for its channels.
    fn group_means(&self, channels: &[f64]) -> Vec<f64> {
        let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
        channels.chunks(self.members()).flat_map(|group| std::iter::repeat_n(mean(group), group.len())).collect()
    }

    fn statistics(&self, x: &[f32]) -> Statistics {
        let moments = Moments::of(x, self.channels);
        let mean = self.group_means(&moments.mean);
        let apart = moments.mean.iter().zip(&mean).map(|(channel, group)| (channel - group).powi(2));
        let vars: Vec<f64> = moments.var.iter().zip(apart).map(|(var, apart)| var + apart).collect();
        let inverse = self.group_means(&vars).iter().map(|var| 1.0 / (var + self.eps).sqrt()).collect();
        Statistics { mean, inverse }
    }

    /// `y = (x - center) * scale + shift`; the mean is rounded to f32 and the shift makes up for it.
    fn map(&self, statistics: &Statistics, weight: &[f32], bias: &[f32], lanes: &Lanes) -> Map {
        let center: Vec<f32> = statistics.mean.iter().map(|&mean| mean as f32).collect();
        let exact: Vec<f64> = weight.iter().zip(&statistics.inverse).map(|(&w, inv)| f64::from(w) * inv).collect();
        let lost = center.iter().zip(&statistics.mean).map(|(&center, mean)| f64::from(center) - mean);
        let shift: Vec<f32> =
            bias.iter().zip(lost.zip(&exact)).map(|(&bias, (lost, k))| (f64::from(bias) + lost * k) as f32).collect();
        let scale: Vec<f32> = exact.iter().map(|&scale| scale as f32).collect();
        Map { center: lanes.widen(&center), scale: lanes.widen(&scale), shift: lanes.widen(&shift) }
    }

    /// One image: `dx`, and each channel's sums for the gradients of weight and bias.
    fn image_gradient(&self, x: &[f32], weight: &[f32], bias: &[f32], dy: &[f32]) -> (Vec<f32>, [Vec<f64>; 2]) {
        let (lanes, statistics) = (Lanes::new(self.channels), self.statistics(x));
        let (map, block) = (self.map(&statistics, weight, bias, &lanes), lanes.block());
        let mut dz = Fresh::new(x.len());
        let blocks = dz.slots().chunks_mut(block).zip(x.chunks(block)).zip(dy.chunks(block));
        let [sums, products] = sums_of_blocks(&lanes, blocks, |((dz, x), dy), sums, products| {
            with_function!(self.activation, F => backward_rows::<F>(&map, dz, x, dy, sums, products));
        });
        // SAFETY: the blocks cover all of `dz`; `x` and `dy` have its length.
        let dz = unsafe { dz.done() };
        // From the rounded mean to the mean, and to the normalized value.
        let products: Vec<f64> = (0..self.channels)
            .map(|c| {
                let lost = f64::from(statistics.mean[c] as f32) - statistics.mean[c];
                (products[c] + lost * sums[c]) * statistics.inverse[c]
            })
            .collect();
        let back = self.back(&statistics, weight, [&sums, &products], &lanes);
        (fresh_input_gradient(&back, x, &dz, block), [products, sums])
    }

    /// `dx = (weight * dz - mean(weight * dz) - xhat * mean(weight * dz * xhat)) / sqrt(var + eps)` with means over the
    /// group, as a function of `dz` and `x - center`.
    fn back(&self, statistics: &Statistics, weight: &[f32], [sums, products]: [&[f64]; 2], lanes: &Lanes) -> Back {
        let pixels = (self.image / self.channels) as f64;
        let weighted = |values: &[f64]| -> Vec<f64> {
            let values: Vec<f64> = values.iter().zip(weight).map(|(value, &w)| value * f64::from(w) / pixels).collect();
            self.group_means(&values)
        };
        let (mean, slope) = (weighted(sums), weighted(products));
        let [mut center, mut scales, mut slopes, mut shifts] = [const { Vec::new() }; 4];
        for c in 0..self.channels {
            let (group_mean, inverse) = (statistics.mean[c], statistics.inverse[c]);
            let exact = -slope[c] * inverse * inverse;
            let rounded = group_mean as f32;
            center.push(rounded);
            scales.push((f64::from(weight[c]) * inverse) as f32);
            slopes.push(exact as f32);
            shifts.push((exact * (f64::from(rounded) - group_mean) - mean[c] * inverse) as f32);
        }
        let [center, scale, slope, shift] = [center, scales, slopes, shifts].map(|values| lanes.widen(&values));
        Back { center, scale, slope, shift }
    }
}

impl Op<3> for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu(&self, [x, weight, bias]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, weight, bias) = (x.values, weight.values, bias.values);
        let lanes = Lanes::new(self.channels);
        let mut y = Fresh::new(x.len());
        y.slots().par_chunks_mut(self.image).zip(x.par_chunks(self.image)).for_each(|(y, x)| {
            let map = self.map(&self.statistics(x), weight, bias, &lanes);
            let blocks = y.par_chunks_mut(lanes.block()).zip(x.par_chunks(lanes.block()));
            with_function!(self.activation, F => blocks.for_each(|(y, x)| forward_rows::<F>(&map, y, x)));
        });
        // SAFETY: the images' blocks cover all of `y`.
        Ok((unsafe { y.done() }, shape.clone()))
    }

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [x, weight, bias], dy, .. } = known;
        let mut dx = vec![0.0f32; x.count()];
        let inputs = x.values.par_chunks(self.image).zip(dy.values.par_chunks(self.image));
        let images = dx.par_chunks_mut(self.image).zip(inputs);
        let sums: Vec<[Vec<f64>; 2]> = images
            .map(|(dx, (x, dy))| {
                let (gradient, sums) = self.image_gradient(x, weight.values, bias.values, dy);
                dx.copy_from_slice(&gradient);
                sums
            })
            .collect();
        let affine = super::total(&sums, self.channels);
        let [dweight, dbias] = affine.map(|total| total.into_iter().map(|sum| sum as f32).collect());
        Ok([dx, dweight, dbias].map(Gradient::New))
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias]: [View; 3]) -> Candle<Array> {
        let y = queue.like(x)?;
        let statistics = self.statistics_on_device(queue, x)?;
        let (images, pixels, columns) = self.walk(x, None);
        let (kind, wide) = (self.activation as i32, i32::from(columns.wide));
        let arguments = args![x, &statistics, weight, bias, &y, images, pixels, self.channels, self.groups, kind, wide];
        queue.launch("group_norm", x.dtype, columns.each_of(images), arguments)?;
        let _ = self.on_device.set(statistics);
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, weight, bias], dy, needs, .. } = known;
        let Some(statistics) = self.on_device.get() else {
            candle_core::bail!("group_norm went backward before forward")
        };
        let (channels, groups) = (self.channels, self.groups);
        let (images, pixels, columns) = self.walk(x, Some(dy));
        let (kind, wide) = (self.activation as i32, i32::from(columns.wide));
        let chunks = columns.chunks_of(images);
        let partial = queue.array((images, chunks, 2, channels), DType::F32)?;
        let arguments = args![x, dy, statistics, weight, bias, &partial, images, pixels, channels, groups, kind, wide];
        queue.launch("group_sums", x.dtype, columns.sums_of(images), arguments)?;
        let (dweight, dbias) = (queue.array(channels, DType::F32)?, queue.array(channels, DType::F32)?);
        let arguments = args![&partial, statistics, &dweight, &dbias, images, chunks, channels, groups];
        queue.launch("group_affine", x.dtype, Columns::last(2 * channels), arguments)?;
        let dx = Gradient::needed(needs[0], || {
            let back = queue.array((images, groups, 2), DType::F32)?;
            let arguments = args![&partial, statistics, weight, &back, images, chunks, pixels, channels, groups];
            queue.launch("group_back", x.dtype, Grid::warps(images * groups), arguments)?;
            let dx = queue.like(x)?;
            let arguments =
                args![x, dy, statistics, weight, bias, &back, &dx, images, pixels, channels, groups, kind, wide];
            queue.launch("group_gradient", x.dtype, columns.each_of(images), arguments)?;
            Ok(dx)
        })?;
        Ok([dx, Gradient::New(dweight), Gradient::New(dbias)])
    }
}

impl GroupNorm {
    /// Images, their pixels, and how the kernels walk down one.
    fn walk(&self, x: View, other: Option<View>) -> (usize, usize, Columns) {
        let pixels = self.image / self.channels;
        (x.count() / self.image, pixels, Columns::of(x, &[other]).with_rows(pixels))
    }

    fn statistics_on_device(&self, queue: &Queue, x: View) -> Candle<Array> {
        let (images, pixels, columns) = self.walk(x, None);
        let (channels, chunks) = (self.channels, columns.chunks_of(images));
        let partial = queue.array((images, chunks, 2, channels), DType::F32)?;
        let arguments = args![x, &partial, images, pixels, channels, i32::from(columns.wide)];
        queue.launch("group_moments", x.dtype, columns.sums_of(images), arguments)?;
        let statistics = queue.array((images, self.groups, 2), DType::F32)?;
        let arguments = args![x, &partial, &statistics, images, chunks, pixels, channels, self.groups, self.eps as f32];
        queue.launch("group_statistics", x.dtype, Grid::warps(images * self.groups), arguments)?;
        Ok(statistics)
    }
}
