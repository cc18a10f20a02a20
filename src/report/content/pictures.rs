//! Pictures that were made when the sweep was prepared.

use super::{Block, Picture, Section, Study};
use std::path::Path;

/// What each experiment synthesizes for training, where `figures` has a picture of it; `None` where nothing was.
pub fn synthesized(study: &Study, figures: &Path) -> Option<Section> {
    let picture = |name: &str| {
        let file = format!("synthesized-{name}.png");
        let png = std::fs::read(figures.join(&file)).ok()?;
        let caption = format!(
            "{name}: for each class that images were made of, a row of training images above rows of synthesized ones. \
             They are mixed into training alone, never into validation."
        );
        Some(Block::Picture(Picture { file, caption, png }))
    };
    let with = study.arms.iter().filter(|arm| arm.spec.contains_key("synthesize"));
    let blocks: Vec<Block> = with.filter_map(|arm| picture(&arm.name)).collect();
    (!blocks.is_empty()).then(|| Section::new("Synthesized training images", blocks))
}
