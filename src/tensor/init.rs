//! Initial values of parameters, torch's and timm's.

use super::rng::Rng;

/// How a parameter starts. `fan_in` and `fan_out` follow `torch.nn.init._calculate_fan_in_and_fan_out`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Constant(f32),
    Normal {
        std: f64,
    },
    /// Uniform in `[-bound, bound]`.
    Uniform {
        bound: f64,
    },
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")`: normal with std sqrt(2 / fan_out).
    KaimingNormalFanOut,
    /// Normal, redrawn outside two standard units (timm's `trunc_normal_` cuts at +-2 absolute; at std 0.02 neither cuts visibly).
    TruncNormal {
        std: f64,
    },
}

impl Init {
    pub const ZEROS: Self = Self::Constant(0.0);
    pub const ONES: Self = Self::Constant(1.0);

    /// torch's default for the weight and the bias of `nn.Linear` and `nn.Conv2d`: U(+-1/sqrt(fan_in)).
    pub fn torch_default(fan_in: usize) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// The values of a parameter of this shape (torch's: output channels first).
    pub fn values(self, shape: &[usize], rng: &mut Rng) -> Vec<f32> {
        let count: usize = shape.iter().product();
        match self {
            Self::Constant(value) => vec![value; count],
            Self::Normal { std } => normals(count, std, rng),
            Self::Uniform { bound } => (0..count).map(|_| rng.range(-bound, bound) as f32).collect(),
            Self::KaimingNormalFanOut => normals(count, (2.0 / fan_out(shape) as f64).sqrt(), rng),
            Self::TruncNormal { std } => {
                (0..count).map(|_| truncated(rng, 2.0 / std.min(1.0)) as f32 * std as f32).collect()
            }
        }
    }
}

fn normals(count: usize, std: f64, rng: &mut Rng) -> Vec<f32> {
    let pairs = (0..count.div_ceil(2)).flat_map(|_| rng.normals());
    pairs.take(count).map(|value| (value * std) as f32).collect()
}

fn truncated(rng: &mut Rng, limit: f64) -> f64 {
    loop {
        let value = rng.normal();
        if value.abs() <= limit {
            return value;
        }
    }
}

fn fan_out(shape: &[usize]) -> usize {
    let kernel: usize = shape.iter().skip(2).product();
    (shape.first().copied().unwrap_or(1) * kernel).max(1)
}
