//! Tensors as this program uses them: activations are `(N, H, W, C)` Candle tensors, parameters are f32 and keep torch's shapes
//! and timm's names, randomness is counter-based, and every differentiable operation is our own (see [`ops`]).

pub mod gpu;
pub mod image;
pub mod init;
pub mod layers;
pub mod ops;
pub mod params;
pub mod resize;
pub mod rng;
pub mod safetensors;
pub mod weights;

pub use candle_core::{DType, Device, Tensor};
pub use image::{Image, center_margin};
pub use init::Init;
pub use params::{Builder, Params, Weight};
pub use resize::Interpolation;
pub use rng::{Key, Rng};

/// How a forward pass runs: training records the tape, uses batch statistics and drops; evaluation does none of it.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub train: bool,
    /// Keyed by (seed, step); each layer derives its own from its name.
    pub key: Key,
    /// The share of this batch in batch normalization's running statistics, torch's `momentum`; `None`: the layer's own.
    pub momentum: Option<f64>,
}

impl Pass {
    pub fn eval() -> Self {
        Self { train: false, key: Key::new(0), momentum: None }
    }

    pub fn train(key: Key) -> Self {
        Self { train: true, key, momentum: None }
    }
}
