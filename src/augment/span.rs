//! A parameter that is either fixed or drawn: `4`, or `[1, 8]`.

use crate::tensor::Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IntoDeserializer},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// One value, or the two ends to draw between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span<T> {
    Fixed(T),
    Between([T; 2]),
}

impl<T: Copy> Span<T> {
    pub fn ends(self) -> [T; 2] {
        match self {
            Self::Fixed(value) => [value; 2],
            Self::Between(ends) => ends,
        }
    }
}

impl Span<f64> {
    /// Uniform between the ends.
    pub fn draw(self, rng: &mut Rng) -> f64 {
        let [low, high] = self.ends();
        rng.range(low, high)
    }
}

impl Span<u32> {
    /// Uniform between the ends, both included.
    pub fn draw(self, rng: &mut Rng) -> u32 {
        let [low, high] = self.ends();
        low + rng.below(high.saturating_sub(low) as usize + 1) as u32
    }
}

/// A check that both ends are within these limits, and in order.
pub fn within<T: Copy + PartialOrd + fmt::Display>(least: T, most: T) -> impl Fn(&Span<T>, &()) -> garde::Result {
    move |span, ()| {
        let [low, high] = span.ends();
        if low > high {
            return Err(garde::Error::new("must be [low, high]"));
        }
        match (least <= low, high <= most) {
            (true, true) => Ok(()),
            (false, _) => Err(garde::Error::new(format!("lower than {least}"))),
            (_, false) => Err(garde::Error::new(format!("greater than {most}"))),
        }
    }
}

impl<T: Serialize> Serialize for Span<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(value) => value.serialize(serializer),
            Self::Between(ends) => ends.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Span<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

struct Visitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
    type Value = Span<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or [low, high]")
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<Span<T>, E> {
        T::deserialize(x.into_deserializer()).map(Span::Fixed)
    }

    fn visit_i64<E: de::Error>(self, x: i64) -> Result<Span<T>, E> {
        T::deserialize(x.into_deserializer()).map(Span::Fixed)
    }

    fn visit_u64<E: de::Error>(self, x: u64) -> Result<Span<T>, E> {
        T::deserialize(x.into_deserializer()).map(Span::Fixed)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, sequence: A) -> Result<Span<T>, A::Error> {
        <[T; 2]>::deserialize(de::value::SeqAccessDeserializer::new(sequence)).map(Span::Between)
    }
}

impl<T: JsonSchema> JsonSchema for Span<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Span_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({
            "description": "A number, or [low, high] to draw between.",
            "anyOf": [value, { "type": "array", "items": value, "minItems": 2, "maxItems": 2 }]
        })
    }
}
