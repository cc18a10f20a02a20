//! The token sequence of a vision transformer.

use super::memory::{Values, slice};
use crate::error::{Error, Result};
use candle_core::{CpuStorage, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// The class token in front of the patches, and each token's position added: `patches (N, T, C)`, `class (1, 1, C)`,
/// `positions (1, T + 1, C)` to `(N, T + 1, C)`.
pub fn tokens(patches: &Tensor, class: &Tensor, positions: &Tensor) -> Result<Tensor> {
    match (patches.dims(), class.dims(), positions.dims()) {
        (&[_, count, width], &[1, 1, class_width], &[1, all, positions_width])
            if all == count + 1 && width == class_width && width == positions_width && width > 0 =>
        {
            Ok(patches.contiguous()?.apply_op3(&class.contiguous()?, &positions.contiguous()?, Tokens)?)
        }
        (patches, class, positions) => Err(Error::bug(format!(
            "tokens: patches {patches:?}, class token {class:?} and positions {positions:?} do not fit together"
        ))),
    }
}

struct Tokens;

impl CustomOp3 for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn cpu_fwd(
        &self,
        patches: &CpuStorage,
        patches_at: &Layout,
        class: &CpuStorage,
        class_at: &Layout,
        positions: &CpuStorage,
        positions_at: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (patches, class) = (slice(patches, patches_at)?, slice(class, class_at)?);
        let (positions, (images, count, width)) = (slice(positions, positions_at)?, patches_at.shape().dims3()?);
        let mut y = vec![0.0f32; images * positions.len()];
        y.par_chunks_mut(positions.len()).enumerate().for_each(|(image, y)| {
            let patches = &patches[image * count * width..][..count * width];
            for (y, (token, position)) in y.iter_mut().zip(class.iter().chain(patches).zip(positions)) {
                *y = token + position;
            }
        });
        Ok((CpuStorage::F32(y), (images, count + 1, width).into()))
    }

    fn bwd(
        &self,
        patches: &Tensor,
        class: &Tensor,
        positions: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dy, (_, count, width)) = (dy.contiguous()?, patches.dims3()?);
        let values = Values::of(&dy)?;
        let dys = &*values;
        let image = (count + 1) * width;
        let sums: Vec<f32> = (0..image)
            .into_par_iter()
            .map(|at| dys[at..].iter().step_by(image).map(|&value| f64::from(value)).sum::<f64>() as f32)
            .collect();
        let dclass = Tensor::from_slice(&sums[..width], class.shape(), class.device())?;
        let dpositions = Tensor::from_vec(sums, positions.shape(), positions.device())?;
        let dpatches = patches.track_op().then(|| dy.narrow(1, 1, count)?.contiguous()).transpose()?;
        Ok((dpatches, class.track_op().then_some(dclass), positions.track_op().then_some(dpositions)))
    }
}
