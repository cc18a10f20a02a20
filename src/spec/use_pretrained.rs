//! `pretrained` of a backbone: a yes, a no, or one that depends.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};

/// Whether a run starts from pretrained weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsePretrained {
    #[default]
    No,
    Yes,
    /// From scratch where the weights cannot be had; the report says so.
    IfAvailable,
}

impl Serialize for UsePretrained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Yes => serializer.serialize_bool(true),
            Self::IfAvailable => serializer.serialize_str("if_available"),
        }
    }
}

impl<'de> Deserialize<'de> for UsePretrained {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = UsePretrained;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true, false or \"if_available\"")
            }

            fn visit_bool<E: de::Error>(self, yes: bool) -> Result<UsePretrained, E> {
                Ok(if yes { UsePretrained::Yes } else { UsePretrained::No })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<UsePretrained, E> {
                match text {
                    "if_available" => Ok(UsePretrained::IfAvailable),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for UsePretrained {
    fn schema_name() -> Cow<'static, str> {
        "UsePretrained".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [true, false, "if_available"] })
    }
}
