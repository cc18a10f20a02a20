//! Weights of classes: given, or from how many images each class has.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de};
use std::{borrow::Cow, fmt};

/// A weight for each class: a list, or "balanced".
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// In the order of the classes.
    Given(Vec<f64>),
    /// What the training images' classes make of it.
    Balanced(Balanced),
}

/// The word "balanced".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balanced {
    Balanced,
}

impl ClassWeights {
    pub const BALANCED: Self = Self::Balanced(Balanced::Balanced);

    /// The numbers; `None` where they are still to be made of the training images.
    pub fn values(&self) -> Option<&[f64]> {
        match self {
            Self::Given(values) => Some(values),
            Self::Balanced(_) => None,
        }
    }

    /// Puts numbers in place of "balanced": a class of few images weighs more, all classes together as much as without
    /// weights. scikit-learn's `compute_class_weight("balanced")`. A class without images weighs nothing.
    pub fn settle(&mut self, counts: &[usize]) {
        let total: usize = counts.iter().sum();
        self.fill(counts, |count| total as f64 / (counts.len() * count) as f64);
    }

    /// The same for the positives of each class, which then weigh as much as its negatives.
    pub fn settle_positives(&mut self, counts: &[usize]) {
        let total: usize = counts.iter().sum();
        self.fill(counts, |count| (total - count) as f64 / count as f64);
    }

    fn fill(&mut self, counts: &[usize], weight: impl Fn(usize) -> f64) {
        if let Self::Balanced(_) = self {
            let of = |&count: &usize| if count == 0 { 0.0 } else { weight(count) };
            *self = Self::Given(counts.iter().map(of).collect());
        }
    }
}

/// What a loss's weights come to where there are any.
pub fn values(weights: &Option<ClassWeights>) -> Option<&[f64]> {
    weights.as_ref().and_then(ClassWeights::values)
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ClassWeights;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("\"balanced\" or a list with a number for each class")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClassWeights, E> {
                match text {
                    "balanced" => Ok(ClassWeights::BALANCED),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<ClassWeights, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(ClassWeights::Given)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["balanced"] },
            { "type": "array", "items": { "type": "number", "minimum": 0.0 } },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_are_scikit_learns() {
        // compute_class_weight("balanced", classes=[0, 1, 2], y=[0] * 5 + [1] * 3 + [2] * 2), scikit-learn 1.9.
        let golden = [0.6666666666666666, 1.1111111111111112, 1.6666666666666667];
        let mut weights = ClassWeights::BALANCED;
        weights.settle(&[5, 3, 2]);
        let found = weights.values().unwrap();
        assert!(found.iter().zip(golden).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        let mut positives = ClassWeights::BALANCED;
        positives.settle_positives(&[30, 10, 0]);
        assert_eq!(positives.values(), Some(&[1.0 / 3.0, 3.0, 0.0][..]));
        let mut given = ClassWeights::Given(vec![1.0, 2.0]);
        given.settle(&[5, 5]);
        assert_eq!(given, ClassWeights::Given(vec![1.0, 2.0]));
    }
}
