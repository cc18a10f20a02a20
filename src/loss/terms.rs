//! Terms that a training recipe adds to its loss, of Candle's operations whose gradients are right.

use super::log_softmax;
use crate::{
    error::Result,
    tensor::{DType, Tensor, ops},
};

/// The supervised contrastive loss: the mean over images that have another one of their class of
/// `-mean_p log(exp(z_i z_p / t) / sum_a exp(z_i z_a / t))`, with `z` the features at length 1, `p` the others of the
/// class and `a` all others. Khosla et al. 2020, arXiv:2004.11362, L_out. `features (N, width)`; 0 without any pair.
pub fn supervised_contrastive(features: &Tensor, classes: &[u32], temperature: f64) -> Result<Tensor> {
    let count = classes.len();
    let pair = |i: usize, j: usize| i != j && classes[i] == classes[j];
    let partners: Vec<usize> = (0..count).map(|i| (0..count).filter(|&j| pair(i, j)).count()).collect();
    let anchors = partners.iter().filter(|partners| **partners > 0).count();
    let share = |at: usize| match pair(at / count, at % count) {
        true => 1.0 / (partners[at / count] * anchors) as f32,
        false => 0.0,
    };
    let shares =
        Tensor::from_vec((0..count * count).map(share).collect::<Vec<f32>>(), (count, count), features.device())?;
    // Far below any similarity: an image is not its own partner.
    let own = (Tensor::eye(count, DType::F32, features.device())? * -1e9)?;
    // As in torch's `normalize`, shorter features stay as they are.
    let length = features.sqr()?.sum_keepdim(1)?.maximum(1e-24)?.sqrt()?;
    let unit = features.broadcast_div(&length)?;
    let similar = (unit.matmul(&unit.t()?)? / temperature)?;
    Ok(((log_softmax(&(similar + own)?)? * shares)?.sum_all()? * -1.0)?)
}

/// `temperature^2` times the mean divergence `KL(teacher || student)` of class probabilities at a temperature. Hinton et
/// al. 2015, arXiv:1503.02531. Both `(N, C)` logits; no gradient flows into the teacher's.
pub fn distillation(logits: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let wanted = log_softmax(&(teacher.detach() / temperature)?)?;
    let wanted_p = wanted.exp()?;
    let crossed = ops::soft_cross_entropy(&(logits / temperature)?, &wanted_p, None)?.mean_all()?;
    let own = ((wanted_p * wanted)?.sum_all()? / logits.dim(0)?.max(1) as f64)?;
    Ok(((crossed + own)? * (temperature * temperature))?)
}
