//! The loops over rows of channels.

use super::{Back, Map};
use crate::tensor::ops::{function::Function, memory::Slot, simd::vectorized};

vectorized! {
    pub fn add_distances(x: &[f32], center: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        for x in x.chunks(center.len()) {
            for (((&x, &center), sum), square) in x.iter().zip(center).zip(&mut *sums).zip(&mut *squares) {
                let distance = x - center;
                *sum += distance;
                *square = distance.mul_add(distance, *square);
            }
        }
    }

    /// `y = act((x - center) * scale + shift)`.
    pub fn forward_rows<F: Function>(map: &Map, y: &mut [Slot], x: &[f32]) {
        let (center, scale, shift) = (&map.center[..], &map.scale[..], &map.shift[..]);
        for (y, x) in y.chunks_mut(center.len()).zip(x.chunks(center.len())) {
            for ((((y, &x), &center), &scale), &shift) in y.iter_mut().zip(x).zip(center).zip(scale).zip(shift) {
                y.write(F::value((x - center).mul_add(scale, shift)));
            }
        }
    }

    /// `y = act((x - center) * scale + shift + residual)`.
    pub fn forward_rows_residual<F: Function>(map: &Map, y: &mut [Slot], x: &[f32], residual: &[f32]) {
        let (center, scale, shift) = (&map.center[..], &map.scale[..], &map.shift[..]);
        let width = center.len();
        for ((y, x), residual) in y.chunks_mut(width).zip(x.chunks(width)).zip(residual.chunks(width)) {
            let inputs = x.iter().zip(residual);
            for ((((y, (&x, &residual)), &center), &scale), &shift) in
                y.iter_mut().zip(inputs).zip(center).zip(scale).zip(shift)
            {
                y.write(F::value((x - center).mul_add(scale, shift) + residual));
            }
        }
    }

    /// `dz`, the gradient in front of the activation; adds it and `dz * (x - center)` to the sums.
    pub fn backward_rows<F: Function>(
        map: &Map,
        dz: &mut [Slot],
        x: &[f32],
        dy: &[f32],
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let width = map.center.len();
        let (center, scale, shift) = (&map.center[..width], &map.scale[..width], &map.shift[..width]);
        let (sums, products) = (&mut sums[..width], &mut products[..width]);
        for ((dz, x), dy) in dz.chunks_mut(width).zip(x.chunks(width)).zip(dy.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(dy.len()).min(width) {
                let distance = x[i] - center[i];
                let gradient = dy[i] * F::slope(distance.mul_add(scale[i], shift[i]));
                dz[i].write(gradient);
                sums[i] += gradient;
                products[i] = gradient.mul_add(distance, products[i]);
            }
        }
    }

    /// The same with a residual.
    pub fn backward_rows_residual<F: Function>(
        map: &Map,
        dz: &mut [Slot],
        x: &[f32],
        residual: &[f32],
        dy: &[f32],
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let width = map.center.len();
        let (center, scale, shift) = (&map.center[..width], &map.scale[..width], &map.shift[..width]);
        let (sums, products) = (&mut sums[..width], &mut products[..width]);
        let inputs = x.chunks(width).zip(residual.chunks(width));
        for ((dz, (x, residual)), dy) in dz.chunks_mut(width).zip(inputs).zip(dy.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(residual.len()).min(dy.len()).min(width) {
                let distance = x[i] - center[i];
                let gradient = dy[i] * F::slope(distance.mul_add(scale[i], shift[i]) + residual[i]);
                dz[i].write(gradient);
                sums[i] += gradient;
                products[i] = gradient.mul_add(distance, products[i]);
            }
        }
    }

    /// Where `dz` is at hand: adds it and `dz * (x - center)` to the sums.
    pub fn add_gradients(x: &[f32], dz: &[f32], center: &[f32], sums: &mut [f32], products: &mut [f32]) {
        for (x, dz) in x.chunks(center.len()).zip(dz.chunks(center.len())) {
            let inputs = x.iter().zip(dz).zip(center);
            for (((&x, &dz), &center), (sum, product)) in inputs.zip(sums.iter_mut().zip(&mut *products)) {
                *sum += dz;
                *product = dz.mul_add(x - center, *product);
            }
        }
    }

    /// `dx = dz * scale + (x - center) * slope + shift`.
    pub fn input_rows(map: &Back, dx: &mut [Slot], x: &[f32], dz: &[f32]) {
        let width = map.center.len();
        let (center, scale, slope, shift) =
            (&map.center[..width], &map.scale[..width], &map.slope[..width], &map.shift[..width]);
        for ((dx, x), dz) in dx.chunks_mut(width).zip(x.chunks(width)).zip(dz.chunks(width)) {
            for i in 0..dx.len().min(x.len()).min(dz.len()).min(width) {
                dx[i].write(dz[i].mul_add(scale[i], (x[i] - center[i]).mul_add(slope[i], shift[i])));
            }
        }
    }

    /// The same over `dz` itself.
    pub fn input_rows_in_place(map: &Back, dz: &mut [f32], x: &[f32]) {
        let width = map.center.len();
        let (center, scale, slope, shift) =
            (&map.center[..width], &map.scale[..width], &map.slope[..width], &map.shift[..width]);
        for (dz, x) in dz.chunks_mut(width).zip(x.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(width) {
                dz[i] = dz[i].mul_add(scale[i], (x[i] - center[i]).mul_add(slope[i], shift[i]));
            }
        }
    }
}
