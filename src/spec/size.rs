//! Sizes on a disk as people write them: `"20 GB"`.

use super::{
    mistake::{Mistake, Mistakes},
    tree::Node,
};

/// Reads the size of a key that holds text.
pub fn read(key: &str, node: &Node, mistakes: &mut Mistakes) -> Option<u64> {
    let text = node.text()?;
    let bytes = bytes(text);
    if bytes.is_none() {
        let mistake = Mistake::new(format!("`{key}` is no size: {text:?}"), &node.place);
        mistakes.push(mistake.help("write a number and kB, MB, GB or TB, for example \"20 GB\""));
    }
    bytes
}

/// Units and their bytes, as disks are sold: powers of 1000.
const UNITS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];

/// Reads `20 GB`, `500 MB`, `1.5TB`; `None` where it is nothing of the kind.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = |(unit, bytes): &(&str, f64)| {
        let number = text.get(..text.len().checked_sub(unit.len())?)?;
        let ours = text.get(number.len()..)?.eq_ignore_ascii_case(unit);
        let number: f64 = ours.then(|| number.trim().parse().ok()).flatten()?;
        (number.is_finite() && number > 0.0).then_some((number * bytes) as u64)
    };
    UNITS.iter().find_map(unit)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(bytes("20 GB"), Some(20_000_000_000));
        assert_eq!(bytes("1.5tb"), Some(1_500_000_000_000));
        assert_eq!(bytes("300 kB"), Some(300_000));
        for wrong in ["20", "GB", "-1 GB", "20 GiB", "NaN GB", "ä"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
