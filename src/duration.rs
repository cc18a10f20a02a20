//! Lengths of training: `3` or `"3 epochs"`, `"500 steps"`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};

/// A length of training, in epochs or in optimizer steps. A bare number in a file means epochs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Duration {
    Epochs(f64),
    Steps(u64),
}

impl Duration {
    /// The length in optimizer steps, rounded to the nearest step.
    pub fn steps(self, steps_per_epoch: u64) -> u64 {
        match self {
            Self::Epochs(epochs) => (epochs * steps_per_epoch as f64).round() as u64,
            Self::Steps(steps) => steps,
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epochs(epochs) => write!(f, "{epochs} epochs"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
        }
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length; write \"3 epochs\" or \"500 steps\"");
        let (number, unit) = text.trim().split_once(' ').ok_or_else(wrong)?;
        match unit.trim() {
            "epoch" | "epochs" => {
                let epochs: f64 = number.parse().map_err(|_| wrong())?;
                if epochs.is_finite() && epochs >= 0.0 { Ok(Self::Epochs(epochs)) } else { Err(wrong()) }
            }
            "step" | "steps" => number.parse().map(Self::Steps).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of epochs, \"3 epochs\" or \"500 steps\"")
            }

            fn visit_i64<E: de::Error>(self, epochs: i64) -> Result<Duration, E> {
                self.visit_f64(epochs as f64)
            }

            fn visit_u64<E: de::Error>(self, epochs: u64) -> Result<Duration, E> {
                self.visit_f64(epochs as f64)
            }

            fn visit_f64<E: de::Error>(self, epochs: f64) -> Result<Duration, E> {
                match epochs.is_finite() && epochs >= 0.0 {
                    true => Ok(Duration::Epochs(epochs)),
                    false => Err(E::custom("a length cannot be negative")),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of training: a number of epochs, \"3 epochs\" or \"500 steps\".",
            "anyOf": [
                { "type": "number", "minimum": 0 },
                { "type": "string", "pattern": r"^\s*\d+(\.\d+)? (epochs?|steps?)\s*$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    #[derive(serde::Deserialize)]
    struct File {
        length: Duration,
    }

    fn read(value: &str) -> Result<Duration, String> {
        let file: Result<File, _> = toml::from_str(&format!("length = {value}"));
        file.map(|file| file.length).map_err(|error| error.message().to_string())
    }

    #[test]
    fn numbers_are_epochs_and_texts_name_their_unit() {
        assert_eq!(read("3"), Ok(Duration::Epochs(3.0)));
        assert_eq!(read("0.5"), Ok(Duration::Epochs(0.5)));
        assert_eq!(read("\"1 epoch\""), Ok(Duration::Epochs(1.0)));
        assert_eq!(read("\" 500  steps \""), Ok(Duration::Steps(500)));
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for wrong in ["-1", "nan", "\"3\"", "\"3 weeks\"", "\"-2 epochs\"", "\"1.5 steps\"", "\"inf epochs\"", "true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for length in [Duration::Epochs(1.0), Duration::Epochs(2.25), Duration::Steps(7)] {
            assert_eq!(length.to_string().parse(), Ok(length));
        }
    }

    #[test]
    fn epochs_become_steps() {
        assert_eq!(Duration::Epochs(1.5).steps(11), 17);
        assert_eq!(Duration::Steps(5).steps(11), 5);
    }
}
