//! The order of a backbone's layers, for learning rates that fall from the head to the stem: timm's `group_matcher`.

use std::collections::{BTreeMap, BTreeSet};

/// Where a parameter stands. The order is that of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Stem,
    /// Stage and block.
    Block(u32, u32),
    /// Behind the last block, and one layer with it.
    Tail,
    Head,
}

/// What the parameters of stems are called. `bn1` is a stem's where nothing stands in front of it.
const STEMS: [&str; 11] = [
    "conv1",
    "bn1",
    "conv_stem",
    "stem",
    "stem_",
    "cls_token",
    "dist_token",
    "reg_token",
    "pos_embed",
    "patch_embed",
    "norm_pre",
];

/// The factor of each parameter's learning rate: the head's is 1, and each layer in front of it has `decay` times that
/// of the next, as in timm's `param_groups_layer_decay`. A layer is a stem, a block or a head.
pub fn scales<'a>(model: &str, names: impl Iterator<Item = &'a str>, decay: f64) -> BTreeMap<String, f64> {
    let places: Vec<(&str, Place)> = names.map(|name| (name, place(model, name))).collect();
    let layers: BTreeSet<Place> =
        places.iter().map(|(_, place)| *place).filter(|place| *place != Place::Tail).collect();
    let behind = |place: Place| layers.iter().filter(|layer| **layer > place).count();
    places.into_iter().map(|(name, place)| (name.to_string(), decay.powi(behind(place) as i32))).collect()
}

fn place(model: &str, name: &str) -> Place {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok());
    let stage = parts[0].strip_prefix("layer").and_then(|digits| digits.parse().ok());
    match parts[0] {
        _ if stage.is_some() => Place::Block(stage.unwrap_or(0), number(1).unwrap_or(0)),
        // MobileNetV3 has its last convolution behind the pooling, and timm counts it to the head.
        "conv_head" | "bn2" if !model.starts_with("mobilenetv3") => Place::Tail,
        "blocks" => Place::Block(number(1).unwrap_or(0), number(2).unwrap_or(0)),
        // ConvNeXt: `stages.0.blocks.1`, and `stages.1.downsample` with the stage's first block.
        "stages" if parts.get(2) == Some(&"downsample") => Place::Block(number(1).unwrap_or(0), 0),
        "stages" => Place::Block(number(1).unwrap_or(0), number(2).or(number(3)).unwrap_or(0)),
        "norm" => Place::Tail,
        "norm_pre" if model.starts_with("convnext") => Place::Tail,
        first if STEMS.contains(&first) => Place::Stem,
        _ => Place::Head,
    }
}
