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
    /// Each layer derives its own from its name.
    pub key: Key,
    /// What else the random numbers depend on.
    pub turn: Option<Turn>,
    /// The share of this batch in batch normalization's running statistics, torch's `momentum`; `None`: the layer's own.
    pub momentum: Option<f64>,
}

impl Pass {
    pub fn eval() -> Self {
        Self { train: false, key: Key::new(0), turn: None, momentum: None }
    }

    pub fn train(key: Key) -> Self {
        Self { train: true, key, turn: None, momentum: None }
    }

    /// The random numbers of the layer of this name.
    pub fn draw(&self, layer: &str) -> Draw {
        Draw { key: self.key.named(layer), turn: self.turn }
    }
}

/// Which forward pass of a run this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Steps made before.
    pub step: u64,
    /// Which of its step's passes it is, from 0.
    pub part: u64,
    /// Where a GPU finds both when it carries out a recorded pass, as two I64 that count in place of those above.
    pub place: Option<u64>,
}

/// The random numbers of a layer in a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The layer's.
    pub key: Key,
    pub turn: Option<Turn>,
}

impl Draw {
    /// The key of this pass alone.
    pub fn key(&self) -> Key {
        self.turn.map_or(self.key, |turn| self.key.with(turn.step).with(turn.part))
    }
}

impl From<Key> for Draw {
    fn from(key: Key) -> Self {
        Self { key, turn: None }
    }
}
