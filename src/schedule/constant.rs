use super::{Clock, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The base learning rate throughout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Constant {}

impl Schedule for Constant {
    fn lr(&self, base: f64, _clock: &Clock) -> f64 {
        base
    }
}
