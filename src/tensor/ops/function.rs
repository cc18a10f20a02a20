//! The activations as scalar functions that the compiler vectorizes.

use super::Activation;

/// An activation and its derivative, both of the value in front of it.
pub trait Function: Copy + Send + Sync {
    fn value(z: f32) -> f32;
    fn slope(z: f32) -> f32;
}

#[derive(Clone, Copy)]
pub struct Identity;
#[derive(Clone, Copy)]
pub struct Relu;
#[derive(Clone, Copy)]
pub struct Silu;
#[derive(Clone, Copy)]
pub struct Sigmoid;
#[derive(Clone, Copy)]
pub struct Gelu;
#[derive(Clone, Copy)]
pub struct HardSwish;
#[derive(Clone, Copy)]
pub struct HardSigmoid;

/// Evaluates `$body` with the type `$f` standing for the activation, so that loops are compiled once for each.
macro_rules! with_function {
    ($activation:expr, $f:ident => $body:expr) => {{
        use $crate::tensor::ops::{Activation, function};
        match $activation {
            Activation::Identity => {
                type $f = function::Identity;
                $body
            }
            Activation::Relu => {
                type $f = function::Relu;
                $body
            }
            Activation::Silu => {
                type $f = function::Silu;
                $body
            }
            Activation::Sigmoid => {
                type $f = function::Sigmoid;
                $body
            }
            Activation::Gelu => {
                type $f = function::Gelu;
                $body
            }
            Activation::HardSwish => {
                type $f = function::HardSwish;
                $body
            }
            Activation::HardSigmoid => {
                type $f = function::HardSigmoid;
                $body
            }
        }
    }};
}
pub(crate) use with_function;

impl Activation {
    pub fn is_identity(self) -> bool {
        self == Self::Identity
    }
}

impl Function for Identity {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        z
    }

    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
}

impl Function for Relu {
    /// NaN stays NaN.
    #[inline(always)]
    fn value(z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        if z <= 0.0 { 0.0 } else { 1.0 }
    }
}

impl Function for Silu {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        z * sigmoid(z)
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        let s = sigmoid(z);
        s * (1.0 + z * (1.0 - s))
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        sigmoid(z)
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        let s = sigmoid(z);
        s * (1.0 - s)
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        z * normal_cdf(z)
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        normal_cdf(z) + z * INV_SQRT_2PI * exp(-0.5 * z * z)
    }
}

/// At its kinks the derivative is torch's: 0 at -3, 1 at 3.
impl Function for HardSwish {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        z * hard_sigmoid(z)
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        let inside = if z < 3.0 { z * (1.0 / 3.0) + 0.5 } else { 1.0 };
        if z <= -3.0 { 0.0 } else { inside }
    }
}

impl Function for HardSigmoid {
    #[inline(always)]
    fn value(z: f32) -> f32 {
        hard_sigmoid(z)
    }

    #[inline(always)]
    fn slope(z: f32) -> f32 {
        if z > -3.0 && z < 3.0 { 1.0 / 6.0 } else { 0.0 }
    }
}

/// NaN stays NaN.
#[inline(always)]
fn hard_sigmoid(z: f32) -> f32 {
    (z + 3.0).clamp(0.0, 6.0) / 6.0
}

#[inline(always)]
pub fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + exp(-z))
}

/// e^x within 2 units in the last place; 0 below -87.3, infinite above 88.3, NaN of NaN. Cephes' `expf`: x = n ln 2 + r,
/// a polynomial for e^r, and n added to the exponent.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as published")]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693359375;
    const LN2_LOW: f32 = -2.12194440e-4;
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let inside = x.clamp(-87.33, 88.72);
    let shifted = inside.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, inside));
    let p = 1.9875691500e-4f32
        .mul_add(r, 1.3981999507e-3)
        .mul_add(r, 8.3334519073e-3)
        .mul_add(r, 4.1665795894e-2)
        .mul_add(r, 1.6666665459e-1)
        .mul_add(r, 5.0000001201e-1);
    let e_to_r = p.mul_add(r * r, r) + 1.0;
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.33 { 0.0 } else { e_to_r * two_to_n }
}

/// The standard normal distribution function, 0.5 erfc(-z / sqrt 2), within 2e-7 of 1 relative on both tails.
/// erfc by Chebyshev fit: Press et al., Numerical Recipes, `erfcc`.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as published")]
fn normal_cdf(z: f32) -> f32 {
    let a = z.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * a);
    let p = 0.17087277f32
        .mul_add(t, -0.82215223)
        .mul_add(t, 1.48851587)
        .mul_add(t, -1.13520398)
        .mul_add(t, 0.27886807)
        .mul_add(t, -0.18628806)
        .mul_add(t, 0.09678418)
        .mul_add(t, 0.37409196)
        .mul_add(t, 1.00002368)
        .mul_add(t, -1.26551223);
    let tail = 0.5 * t * exp(p - a * a);
    if z < 0.0 { tail } else { 1.0 - tail }
}
