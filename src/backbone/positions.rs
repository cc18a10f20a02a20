//! Position embeddings of vision transformers at another grid.

use crate::{
    error::Result,
    tensor::{Tensor, weights::Adapt},
};

/// Position embeddings of a file at the grid of the model, where only that differs.
pub const ADAPT: Adapt = Adapt { fits, adapt };

/// `(1, 1 + rows * columns, width)` both, square grids, a class token in front.
fn fits(name: &str, theirs: &[usize], ours: &[usize]) -> bool {
    let alike = |a: &[usize], b: &[usize]| a.len() == 3 && b.len() == 3 && a[0] == 1 && b[0] == 1 && a[2] == b[2];
    name.ends_with("pos_embed") && alike(theirs, ours) && side(theirs[1]).is_some() && side(ours[1]).is_some()
}

/// The side of the square grid behind the class token.
fn side(tokens: usize) -> Option<usize> {
    let side = tokens.checked_sub(1)?.isqrt();
    (side > 0 && side * side + 1 == tokens).then_some(side)
}

fn adapt(positions: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (_, tokens, width) = positions.dims3()?;
    let (from, to) = (side(tokens).unwrap_or(1), side(shape[1]).unwrap_or(1));
    let values: Vec<f32> = positions.flatten_all()?.to_vec1()?;
    Ok(Tensor::from_vec(resample(&values, width, from, to), shape, positions.device())?)
}

/// timm's `resample_abs_pos_embed`: bicubic and antialiased, as `torch.nn.functional.interpolate` does it; the class
/// token in front stays.
fn resample(positions: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    let (class, grid) = positions.split_at(width);
    let taps = taps(from, to);
    let rows = combine(grid, &taps, from, width);
    let both = rows.chunks(from * width).flat_map(|row| combine(row, &taps, 1, width));
    class.iter().copied().chain(both).collect()
}

/// Each output's sum of weighted inputs; `stride` inputs of `width` elements lie between neighbours.
fn combine(x: &[f32], taps: &[Vec<(usize, f64)>], stride: usize, width: usize) -> Vec<f32> {
    let span = stride * width;
    let mut all = Vec::with_capacity(taps.len() * span);
    for taps in taps {
        all.extend((0..span).map(|at| {
            taps.iter().map(|&(input, weight)| f64::from(x[input * span + at]) * weight).sum::<f64>() as f32
        }));
    }
    all
}

/// What each of `to` outputs sees of `from` inputs: places and weights, which add up to one.
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let scale = from as f64 / to as f64;
    let (stretch, reach) = (scale.max(1.0), 2.0 * scale.max(1.0));
    let of = |output: usize| {
        let center = scale * (output as f64 + 0.5);
        let first = (center - reach + 0.5).max(0.0) as usize;
        let last = ((center + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..last).map(|at| cubic((at as f64 - center + 0.5) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        (first..last).zip(weights).map(|(at, weight)| (at, weight / sum)).collect()
    };
    (0..to).map(of).collect()
}

/// Keys' kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        from: usize,
        to: usize,
        y: Vec<f32>,
    }

    /// `tests/golden/positions.py` resampled the same sines with timm.
    #[test]
    fn positions_are_resampled_as_in_timm() {
        const WIDTH: usize = 3;
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/positions.json")).unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            let count = (1 + case.from * case.from) * WIDTH;
            let x: Vec<f32> = (0..count).map(|i| (i as f64 * 1.7 + 1.0).sin() as f32).collect();
            let ours = resample(&x, WIDTH, case.from, case.to);
            assert_eq!(ours.len(), case.y.len());
            let apart = ours.iter().zip(&case.y).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{} to {}: {apart}", case.from, case.to);
        }
    }

    #[test]
    fn only_square_grids_of_one_width_fit() {
        let fits = |theirs: [usize; 3], ours: [usize; 3]| fits("pos_embed", &theirs, &ours);
        assert!(fits([1, 197, 192], [1, 65, 192]) && fits([1, 2, 192], [1, 65, 192]));
        assert!(!fits([1, 198, 192], [1, 65, 192]) && !fits([1, 197, 192], [1, 65, 384]));
        assert!(!super::fits("head.weight", &[1, 197, 192], &[1, 65, 192]));
    }
}
