use super::{Augment, Context, change::Change, policy::Op, span::Span};
use crate::tensor::Rng;
use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Changes brightness, contrast, saturation and hue by random amounts in random order. torchvision's `ColorJitter` on PIL
/// images, bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Factor between `1 - x` (not below 0) and `1 + x`, or between the two of `[low, high]`; 1 changes nothing.
    #[garde(custom(factor))]
    pub brightness: Amount,
    /// Likewise; 0 is the mean gray.
    #[garde(custom(factor))]
    pub contrast: Amount,
    /// Likewise; 0 is gray.
    #[garde(custom(factor))]
    pub saturation: Amount,
    /// Turns the hue by between `-x` and `x` of the circle, or by `[low, high]`, at most half of it; 0 changes nothing.
    #[garde(custom(turn))]
    pub hue: Amount,
}

/// How much to change: a number to both sides of no change, or the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Span<f64>", into = "Span<f64>")]
pub enum Amount {
    Around(f64),
    Between([f64; 2]),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Around(0.0)
    }
}

impl Amount {
    /// The ends of a factor.
    fn factors(self) -> [f64; 2] {
        match self {
            Self::Around(x) => [(1.0 - x).max(0.0), 1.0 + x],
            Self::Between(ends) => ends,
        }
    }

    /// The ends of a turn, of the hue or of the image.
    pub(super) fn turns(self) -> [f64; 2] {
        match self {
            Self::Around(x) => [-x, x],
            Self::Between(ends) => ends,
        }
    }
}

fn factor(amount: &Amount, _: &()) -> garde::Result {
    let [low, high] = amount.factors();
    match *amount {
        Amount::Around(x) if x < 0.0 => Err(garde::Error::new("lower than 0")),
        _ if 0.0 <= low && low <= high => Ok(()),
        _ => Err(garde::Error::new("must be [low, high], neither below 0")),
    }
}

fn turn(amount: &Amount, _: &()) -> garde::Result {
    let [low, high] = amount.turns();
    match *amount {
        Amount::Around(x) if x < 0.0 => Err(garde::Error::new("lower than 0")),
        Amount::Around(x) if x > 0.5 => Err(garde::Error::new("greater than 0.5")),
        _ if -0.5 <= low && low <= high && high <= 0.5 => Ok(()),
        _ => Err(garde::Error::new("must be [low, high], both between -0.5 and 0.5")),
    }
}

/// A change by an amount.
type Make = fn(f64) -> Change;

impl Augment for ColorJitter {
    /// As torchvision: the order of all four is drawn first, then the amount of each that is switched on.
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let order = rng.permutation(4);
        let [brightness, contrast, saturation] = [self.brightness, self.contrast, self.saturation].map(Amount::factors);
        let changes: [(Make, [f64; 2], f64); 4] = [
            (|factor| Change::step(Op::Brightness, factor), brightness, 1.0),
            (|factor| Change::step(Op::Contrast, factor), contrast, 1.0),
            (|factor| Change::step(Op::Color, factor), saturation, 1.0),
            (Change::Hue, self.hue.turns(), 0.0),
        ];
        let drawn = changes.map(|(change, [low, high], none)| {
            let off = low == none && high == none;
            (!off).then(|| change(rng.range(low, high)))
        });
        order.into_iter().filter_map(|place| drawn[place].clone()).collect()
    }
}

impl From<Span<f64>> for Amount {
    fn from(span: Span<f64>) -> Self {
        match span {
            Span::Fixed(x) => Self::Around(x),
            Span::Between(ends) => Self::Between(ends),
        }
    }
}

impl From<Amount> for Span<f64> {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Around(x) => Self::Fixed(x),
            Amount::Between(ends) => Self::Between(ends),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number to both sides of no change, or [low, high].",
            "anyOf": [
                { "type": "number", "minimum": 0 },
                { "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 }
            ]
        })
    }
}
