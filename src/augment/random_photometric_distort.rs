use super::{Augment, Context, change::Change, limits::ordered, policy::Op};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes brightness, contrast, saturation, hue and the order of the channels, each with probability `p`: the colour half
/// of SSD's augmentation. torchvision's `v2.RandomPhotometricDistort` on PIL images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomPhotometricDistort {
    /// Factor between the two; 1 changes nothing.
    #[garde(inner(range(min = 0.0)), custom(ordered))]
    #[schemars(inner(range(min = 0.0)))]
    pub brightness: [f64; 2],
    /// Likewise; 0 is the mean gray.
    #[garde(inner(range(min = 0.0)), custom(ordered))]
    #[schemars(inner(range(min = 0.0)))]
    pub contrast: [f64; 2],
    /// Likewise; 0 is gray.
    #[garde(inner(range(min = 0.0)), custom(ordered))]
    #[schemars(inner(range(min = 0.0)))]
    pub saturation: [f64; 2],
    /// Turns the hue by between the two shares of the circle; 0 changes nothing.
    #[garde(inner(range(min = -0.5, max = 0.5)), custom(ordered))]
    #[schemars(inner(range(min = -0.5, max = 0.5)))]
    pub hue: [f64; 2],
    /// Probability of each change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for RandomPhotometricDistort {
    fn default() -> Self {
        Self { brightness: [0.875, 1.125], contrast: [0.5, 1.5], saturation: [0.5, 1.5], hue: [-0.05, 0.05], p: 0.5 }
    }
}

impl Augment for RandomPhotometricDistort {
    /// As torchvision: contrast comes before saturation and hue, or behind them, as often.
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let mut amount = |[low, high]: [f64; 2]| rng.chance(self.p).then(|| rng.range(low, high));
        let [brightness, contrast, saturation, hue] =
            [self.brightness, self.contrast, self.saturation, self.hue].map(&mut amount);
        let contrast_first = rng.chance(0.5);
        let step = |op: Op| move |factor: f64| Change::step(op, factor);
        let contrast = contrast.map(step(Op::Contrast));
        let swapped = rng.chance(self.p).then(|| {
            let order = rng.permutation(3);
            Change::Channels([order[0], order[1], order[2]])
        });
        let changes = [
            brightness.map(step(Op::Brightness)),
            contrast.clone().filter(|_| contrast_first),
            saturation.map(step(Op::Color)),
            hue.map(Change::Hue),
            contrast.filter(|_| !contrast_first),
            swapped,
        ];
        changes.into_iter().flatten().collect()
    }
}
