//! TensorBoard's event files: one folder a run, one scalar a metric.
//!
//! A file is a row of records: length, checksum, bytes, checksum; the bytes are a protocol buffer, `tensorflow.Event`, of
//! which these few fields are all that scalars need.

use super::plain;
use crate::{
    error::{Context, Result},
    store::{Rows, Value},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// One number of a run.
#[derive(Clone, Debug, PartialEq)]
struct Scalar {
    tag: String,
    step: i64,
    value: f32,
}

/// Writes the rows of `metrics` below `dir`: the event file of each run, in a folder by experiment, point, seed and fold.
pub fn write(dir: &Path, metrics: &Rows) -> Result<Vec<PathBuf>> {
    let mut runs: BTreeMap<(String, String), (f64, Vec<Scalar>)> = BTreeMap::new();
    for row in &metrics.rows {
        if let Some((folder, id, started, scalar)) = read(row) {
            runs.entry((folder, id)).or_insert_with(|| (started, Vec::new())).1.push(scalar);
        }
    }
    let mut paths = Vec::new();
    for ((folder, id), (started, scalars)) in runs {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
        let path = folder.join(format!("events.out.tfevents.{started:.0}.{id}"));
        std::fs::write(&path, events(started, &scalars)).context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(paths)
}

/// `experiment, point, run_id, seed, fold, started_at, epoch, step, split, name, value`.
fn read(row: &[Value]) -> Option<(String, String, f64, Scalar)> {
    let [experiment, point, id, seed, fold, started, epoch, step, split, name, value] = row else { return None };
    let (Value::Text(experiment), Value::Text(point), Value::Text(id)) = (experiment, point, id) else { return None };
    let (Value::Integer(seed), Value::Text(split), Value::Text(name)) = (seed, split, name) else { return None };
    let mut folder = plain(experiment);
    if !point.is_empty() {
        folder = format!("{folder}/{}", plain(point));
    }
    folder += &format!("/seed-{seed}");
    if let Value::Integer(fold) = fold {
        folder += &format!("-fold-{fold}");
    }
    // Steps and epochs count apart: a chart has one axis.
    let (tag, step) = match (step, epoch) {
        (Value::Integer(step), _) => (format!("step/{name}"), *step),
        (_, Value::Integer(epoch)) => (format!("{split}/{name}"), *epoch),
        _ => return None,
    };
    let started = if let Value::Real(started) = started { *started } else { 0.0 };
    let value = if let Value::Real(value) = value { *value as f32 } else { return None };
    Some((folder, id.clone(), started, Scalar { tag, step, value }))
}

/// A file's bytes: its version, then every scalar.
fn events(time: f64, scalars: &[Scalar]) -> Vec<u8> {
    let mut version = fixed64(1, time);
    version.extend(bytes(3, b"brain.Event:2"));
    let mut file = record(&version);
    for scalar in scalars {
        let mut value = bytes(1, scalar.tag.as_bytes());
        value.push(2 << 3 | 5);
        value.extend(scalar.value.to_le_bytes());
        let mut event = fixed64(1, time);
        event.push(2 << 3);
        event.extend(varint(scalar.step as u64));
        event.extend(bytes(5, &bytes(1, &value)));
        file.extend(record(&event));
    }
    file
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// A field of eight bytes: a number of double precision.
fn fixed64(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A field of any length: text, or another message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// CRC-32C, turned and shifted as TFRecord wants it, so that a checksum of data with checksums in it stays one.
fn masked(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_tensorboards() {
        let scalar = Scalar { tag: "val/auc".into(), step: 300, value: 0.75 };
        let file = events(1.7e9, &[scalar]);
        let golden = include_str!("../../../tests/golden/event_file.txt").trim_end();
        assert_eq!(file.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), golden);
    }

    #[test]
    fn runs_have_folders_of_their_own() {
        let text = |text: &str| Value::Text(text.into());
        let row = |step: Value| {
            let keys = [text("a b"), text("lr=0.1, x/y"), text("id"), Value::Integer(3), Value::Integer(1)];
            let value = [Value::Real(5.0), Value::Integer(2), step, text("val"), text("auc"), Value::Real(0.5)];
            keys.into_iter().chain(value).collect::<Vec<Value>>()
        };
        let (folder, id, started, scalar) = read(&row(Value::Null)).unwrap();
        assert_eq!((folder.as_str(), id.as_str(), started), ("a_b/lr=0.1__x_y/seed-3-fold-1", "id", 5.0));
        assert_eq!(scalar, Scalar { tag: "val/auc".into(), step: 2, value: 0.5 });
        assert_eq!(read(&row(Value::Integer(40))).unwrap().3.tag, "step/auc");
    }
}
