//! Means, spreads, paired intervals, corrections: the numbers behind a verdict.

use crate::tensor::rng::Key;
use rayon::prelude::*;

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (n - 1); `None` of fewer than two values.
pub fn sd(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Half the width of the 95 % Student t interval of the mean; `overlap` as in [`resampled`].
pub fn half_width(values: &[f64], overlap: f64) -> Option<f64> {
    let n = values.len() as f64;
    Some(t_quantile(0.975, n - 1.0) * sd(values)? * (1.0 / n + overlap).sqrt())
}

/// The difference of pairs that share everything but the treatment (the seed, the images).
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    pub n: usize,
    /// Mean of the differences.
    pub difference: f64,
    /// Their standard deviation; `None` for one pair.
    pub sd: Option<f64>,
    /// The 95 % Student t interval of the mean difference; `None` for one pair, or when all differences are equal:
    /// there is no spread to judge by.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p-value of the paired t test; `None` where there is no interval.
    pub p: Option<f64>,
}

/// The paired t test of `differences`; `None` of nothing.
pub fn paired(differences: &[f64]) -> Option<Paired> {
    resampled(differences, 0.0)
}

/// The same where the models behind the differences share training images: Nadeau & Bengio's corrected resampled t test
/// (2003, "Inference for the generalization error"). `overlap` is the share of test to training images, `1 / (k - 1)` of
/// k folds: it is added to `1 / n` in the variance of the mean, which many folds alone can therefore not bring to zero.
pub fn resampled(differences: &[f64], overlap: f64) -> Option<Paired> {
    let (n, difference, sd) = (differences.len(), mean(differences)?, sd(differences));
    // Equal differences come out of floating point with a spread of about one rounding error.
    let error =
        sd.map(|sd| sd * (1.0 / n as f64 + overlap).sqrt()).filter(|error| *error > 1e-12 * difference.abs().max(1e-3));
    let df = n as f64 - 1.0;
    let interval = error.map(|error| {
        let half = t_quantile(0.975, df) * error;
        (difference - half, difference + half)
    });
    let p = error.map(|error| 2.0 * t_cdf(-(difference / error).abs(), df));
    Some(Paired { n, difference, sd, interval, p })
}

/// Holm's step-down adjustment of p-values for several comparisons (Holm 1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        least = least.max((p[index] * (p.len() - rank) as f64).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

/// About how many pairs show a true mean difference of `difference` at level `alpha`, two-sided, four times in five;
/// `None` beyond a thousand. From the t quantiles, one pair or so from the exact noncentral answer. `overlap` as in
/// [`resampled`].
pub fn pairs_needed(sd: f64, difference: f64, alpha: f64, overlap: f64) -> Option<usize> {
    let ratio = (sd / difference).abs();
    (2..=1000).find(|n| {
        let df = (*n - 1) as f64;
        let both = t_quantile(1.0 - alpha / 2.0, df) + t_quantile(0.8, df);
        1.0 / (1.0 / *n as f64 + overlap) >= (both * ratio).powi(2)
    })
}

/// Student's t distribution function with `df` > 0 degrees of freedom.
pub fn t_cdf(t: f64, df: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(0.5 * df, 0.5, df / (df + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The value Student's t distribution stays under with probability `p`; infinite where `df` is not positive.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    if df <= 0.0 || p <= 0.0 || p >= 1.0 {
        return if p < 0.5 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if p < 0.5 {
        return -t_quantile(1.0 - p, df);
    }
    let mut high = 1.0;
    while t_cdf(high, df) < p {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if t_cdf(middle, df) < p { low = middle } else { high = middle }
    }
    high
}

/// The regularized incomplete beta function, by its continued fraction (Press et al., Numerical Recipes, section 6.4;
/// evaluated after Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for step in [even, odd] {
            d = 1.0 / nonzero(1.0 + step * d);
            c = nonzero(1.0 + step / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function, x > 0 (Lanczos 1964, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS.iter().enumerate().skip(1).fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Times the images are drawn again for a bootstrap interval.
pub const RESAMPLES: u64 = 1000;

/// The 95 % percentile interval of `value` over `n` images drawn again with replacement (Efron 1979): `value` is told
/// which images a draw holds, and may find nothing (a draw without one class). `None` where more than a tenth of the
/// draws find nothing. The same images always give the same interval.
pub fn bootstrap(n: usize, value: impl Fn(&[usize]) -> Option<f64> + Sync) -> Option<(f64, f64)> {
    let draw = |resample: u64| {
        let mut rng = Key::new(0).named("bootstrap").with(resample).rng();
        let images: Vec<usize> = (0..n).map(|_| rng.below(n)).collect();
        value(&images).filter(|value| value.is_finite())
    };
    let mut values: Vec<f64> = (0..RESAMPLES).into_par_iter().filter_map(draw).collect();
    if n == 0 || values.len() < (RESAMPLES as usize * 9) / 10 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some((quantile(&values, 0.025), quantile(&values, 0.975)))
}

/// The quantile of sorted values, linear between neighbours, as NumPy's default; NaN of nothing.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * sorted.len().saturating_sub(1) as f64;
    let at = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place as usize), at(place as usize + 1));
    low + (high - low) * place.fract()
}
