use super::{Augment, AugmentSpec, Context, Scope, change::Change, nested, random_horizontal_flip};
use crate::tensor::Rng;
use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};

/// Applies a list to the images of one class only: `only_class = { class = "real", augment = [{ cutout = {} }] }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct OnlyClass {
    /// The class, by its name or its number from 0.
    #[garde(skip)]
    pub class: Class,
    /// What is applied, in order; all on single images.
    #[garde(length(min = 1), custom(single_images), dive)]
    #[schemars(length(min = 1))]
    pub augment: Vec<AugmentSpec>,
}

/// A class of the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    Number(usize),
    Name(String),
}

impl Default for Class {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Default for OnlyClass {
    /// A flip, as an example.
    fn default() -> Self {
        Self {
            class: Class::default(),
            augment: vec![AugmentSpec::random_horizontal_flip(random_horizontal_flip::RandomHorizontalFlip::default())],
        }
    }
}

fn single_images(entries: &[AugmentSpec], _: &()) -> garde::Result {
    match entries.iter().find(|entry| entry.as_dyn().scope() == Scope::Batch) {
        Some(entry) => Err(garde::Error::new(format!("{} works on batches, which have no one class", entry.name()))),
        None => Ok(()),
    }
}

impl Class {
    fn is(&self, number: usize, classes: &[String]) -> bool {
        match self {
            Self::Number(own) => *own == number,
            Self::Name(own) => classes.get(number) == Some(own),
        }
    }
}

impl Augment for OnlyClass {
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        match self.class.is(context.class, context.classes) {
            true => nested::changes_of_all(&self.augment, size, context, rng),
            false => Vec::new(),
        }
    }

    fn output_size(&self, size: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        nested::keeps_size(&self.augment, size, target)
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        nested::check(&self.augment, input_size)
    }

    fn check_classes(&self, classes: &[String]) -> std::result::Result<(), String> {
        if !(0..classes.len()).any(|number| self.class.is(number, classes)) {
            return Err(format!("there is no class {}; the data has {}", self.class, classes.join(", ")));
        }
        nested::check_classes(&self.augment, classes)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number as u64),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Class;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a class's name, or its number from 0")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Class, E> {
                Ok(Class::Number(number as usize))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Class, E> {
                let class = usize::try_from(number).map(Class::Number);
                class.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Class, E> {
                Ok(Class::Name(name.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Class {
    fn schema_name() -> Cow<'static, str> {
        "Class".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A class's name, or its number from 0.",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }]
        })
    }
}
