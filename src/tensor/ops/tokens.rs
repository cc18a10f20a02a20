//! The token sequence of a vision transformer.

use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply3},
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

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [patches, ..], dy, needs, .. } = known;
        let (_, count, width) = patches.shape.dims3()?;
        let (dy, image) = (dy.values, (count + 1) * width);
        let sums: Vec<f32> = (0..image)
            .into_par_iter()
            .map(|at| dy[at..].iter().step_by(image).map(|&value| f64::from(value)).sum::<f64>() as f32)
            .collect();
        let dpatches = needs[0].then(|| dy.chunks_exact(image).flat_map(|dy| &dy[width..]).copied().collect());
        let dclass = sums[..width].to_vec();
        Ok([dpatches.into(), Gradient::New(dclass), Gradient::New(sums)])
    }

    fn gpu(&self, queue: &Queue, [patches, class, positions]: [View; 3]) -> Candle<Array> {
        let (images, count, width) = patches.shape.dims3()?;
        let y = queue.array((images, count + 1, width), patches.dtype)?;
        let columns = Columns::of(y.view(), &[Some(patches)]);
        let arguments = args![patches, class, positions, &y, count, columns.rows, width, i32::from(columns.wide)];
        queue.launch("tokens", patches.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [patches, class, positions], dy, needs, .. } = known;
        let (images, count, width) = patches.shape.dims3()?;
        let dpatches = Gradient::needed(needs[0], || {
            let dpatches = queue.like(patches)?;
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
