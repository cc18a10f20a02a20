//! The token sequence of a vision transformer.

use super::memory::Values;
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Op, apply3},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// The class token in front of the patches, and each token's position added: `patches (N, T, C)`, `class (1, 1, C)`,
/// `positions (1, T + 1, C)` to `(N, T + 1, C)`.
pub fn tokens(patches: &Tensor, class: &Tensor, positions: &Tensor) -> Result<Tensor> {
    match (patches.dims(), class.dims(), positions.dims()) {
        (&[_, count, width], &[1, 1, class_width], &[1, all, positions_width])
            if all == count + 1 && width == class_width && width == positions_width && width > 0 =>
        {
            Ok(apply3(Tokens, [patches, class, positions])?)
        }
        (patches, class, positions) => Err(Error::bug(format!(
            "tokens: patches {patches:?}, class token {class:?} and positions {positions:?} do not fit together"
        ))),
    }
}

struct Tokens;

impl Op<3> for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn reads(&self) -> [bool; 3] {
        [false; 3]
    }

    fn cpu(&self, [patches, class, positions]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let shape = patches.shape;
        let (patches, class) = (patches.values, class.values);
        let (positions, (images, count, width)) = (positions.values, shape.dims3()?);
        let mut y = vec![0.0f32; images * positions.len()];
        y.par_chunks_mut(positions.len()).enumerate().for_each(|(image, y)| {
            let patches = &patches[image * count * width..][..count * width];
            for (y, (token, position)) in y.iter_mut().zip(class.iter().chain(patches).zip(positions)) {
                *y = token + position;
            }
        });
        Ok((y, (images, count + 1, width).into()))
    }

    fn cpu_gradients(
        &self,
        [patches, class, positions]: [&Tensor; 3],
        _y: &Tensor,
        dy: &Tensor,
    ) -> Candle<[Option<Tensor>; 3]> {
        let (_, count, width) = patches.dims3()?;
        let values = Values::of(dy)?;
        let dys = &*values;
        let image = (count + 1) * width;
        let sums: Vec<f32> = (0..image)
            .into_par_iter()
            .map(|at| dys[at..].iter().step_by(image).map(|&value| f64::from(value)).sum::<f64>() as f32)
            .collect();
        let dclass = Tensor::from_slice(&sums[..width], class.shape(), class.device())?;
        let dpositions = Tensor::from_vec(sums, positions.shape(), positions.device())?;
        let dpatches = patches.track_op().then(|| dy.narrow(1, 1, count)?.contiguous()).transpose()?;
        Ok([dpatches, Some(dclass), Some(dpositions)])
    }

    fn gpu(&self, queue: &Queue, [patches, class, positions]: [View; 3]) -> Candle<Array> {
        let (images, count, width) = patches.shape.dims3()?;
        let y = queue.array((images, count + 1, width), patches.dtype)?;
        let columns = Columns::of(y.view(), &[Some(patches)]);
        let arguments = args![patches, class, positions, &y, count, columns.rows, width, i32::from(columns.wide)];
        queue.launch("tokens", patches.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(
        &self,
        queue: &Queue,
        [patches, class, positions]: [View; 3],
        _y: View,
        dy: View,
        needs: [bool; 3],
    ) -> Candle<[Gradient; 3]> {
        let (images, count, width) = patches.shape.dims3()?;
        let dpatches = Gradient::needed(needs[0], || {
            let dpatches = queue.array(patches.shape.clone(), patches.dtype)?;
            let columns = Columns::of(dpatches.view(), &[Some(dy)]);
            let arguments = args![dy, &dpatches, count, columns.rows, width, i32::from(columns.wide)];
            queue.launch("tokens_patches", patches.dtype, columns.each(), arguments)?;
            Ok(dpatches)
        })?;
        if !needs[1] && !needs[2] {
            return Ok([dpatches, Gradient::None, Gradient::None]);
        }
        let [dclass, dpositions] = [class, positions].map(|input| queue.array(input.shape.clone(), DType::F32));
        let (dclass, dpositions) = (dclass?, dpositions?);
        let columns = Columns::of(dy, &[]).with_rows(count + 1);
        let arguments = args![dy, &dpositions, &dclass, images, columns.rows, width, i32::from(columns.wide)];
        queue.launch("tokens_positions", patches.dtype, columns.each(), arguments)?;
        Ok([dpatches, Gradient::New(dclass), Gradient::New(dpositions)])
    }
}
