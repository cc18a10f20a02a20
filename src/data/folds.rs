//! Cross-validation: which images a fold holds out, and which share of the rest is trained on.

use super::{Item, Listing};
use crate::{
    error::{Error, Result},
    tensor::Key,
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One fold of a k-fold cross-validation: the run validates on this fold and trains on the others.
///
/// Every fold gets its share of each class, as in scikit-learn's `StratifiedKFold(shuffle=True)`. Where the data set
/// knows groups (`data.ffdi.group`, `data.folder.group_until`), a group stands in one fold only, as in
/// `StratifiedGroupKFold`. `[sweep] folds = k` makes one run of each fold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Fold {
    /// The fold that is held out, from 0.
    #[garde(skip)]
    pub index: u32,
    /// How many folds there are.
    #[garde(range(min = 2, max = 1000))]
    #[schemars(range(min = 2, max = 1000))]
    pub of: u32,
    /// The images that are divided.
    #[garde(skip)]
    pub over: Over,
    /// Another number divides otherwise. The seed of a run does not, so that runs can be compared fold by fold.
    #[garde(skip)]
    pub seed: u64,
}

impl Default for Fold {
    fn default() -> Self {
        Self { index: 0, of: 5, over: Over::Train, seed: 0 }
    }
}

/// What is divided into folds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The training images; the source's validation images are not looked at.
    #[default]
    Train,
    /// Training and validation images together.
    All,
}

/// Fewer training images, for curves over the size of the training set. Of one `seed` the smaller subsets lie within
/// the larger ones. Validation images stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Subset {
    /// The share of each class's training images that is kept, at least one.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// The most training images that are kept of each class.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
    /// Another number keeps other images.
    #[garde(skip)]
    pub seed: u64,
}

/// The images of a run, by their place in the listing: training images first, then validation images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub train: Vec<usize>,
    pub val: Vec<usize>,
}

/// What a fold and a subset leave of `train` and `val`; `classes` are the names of the classes.
///
/// # Errors
/// The user's: more folds than images or groups of a class, groups known of some images only.
pub fn cut(
    [train, val]: [&[Item]; 2],
    classes: &[String],
    fold: Option<&Fold>,
    subset: Option<&Subset>,
) -> Result<Cut> {
    let own = || Cut { train: (0..train.len()).collect(), val: (train.len()..train.len() + val.len()).collect() };
    let all: Vec<&Item> = train.iter().chain(val).collect();
    let mut cut = match fold {
        None => own(),
        Some(fold) => {
            let pool = if fold.over == Over::All { &all[..] } else { &all[..train.len()] };
            let folds = folds(pool, classes, fold)?;
            let (val, train) = (0..pool.len()).partition(|&place| folds[place] == fold.index as usize);
            Cut { train, val }
        }
    };
    if let Some(subset) = subset {
        cut.train = subset.of(&all, &cut.train);
    }
    Ok(cut)
}

impl Listing {
    /// What a fold and a subset leave of this listing; see [`cut`].
    pub fn cut(&self, fold: Option<&Fold>, subset: Option<&Subset>) -> Result<Cut> {
        cut([&self.train, &self.val], &self.classes, fold, subset)
    }
}

/// The fold of each image of `pool`.
fn folds(pool: &[&Item], classes: &[String], fold: &Fold) -> Result<Vec<usize>> {
    let k = fold.of as usize;
    if fold.index >= fold.of {
        return Err(Error::user(format!("fold {} of {k}: folds count from 0 to {}", fold.index, k - 1)));
    }
    let key = Key::new(fold.seed).named("folds");
    let folds = match pool.iter().filter(|item| item.group.is_some()).count() {
        0 => by_class(pool, classes.len(), k, key),
        n if n == pool.len() => by_group(pool, classes.len(), k, key)?,
        n => {
            return Err(Error::user(format!(
                "only {n} of the {} images to be divided have a group, so nothing tells where the others belong",
                pool.len()
            )));
        }
    };
    everywhere(pool, classes, k, &folds)?;
    Ok(folds)
}

/// Each class has to be in each fold: a fold without it could not be scored.
fn everywhere(pool: &[&Item], classes: &[String], k: usize, folds: &[usize]) -> Result<()> {
    let mut counts = vec![vec![0usize; classes.len()]; k];
    pool.iter().zip(folds).for_each(|(item, &fold)| counts[fold][item.target as usize] += 1);
    let lacks = (0..classes.len()).find(|&class| counts.iter().any(|counts| counts[class] == 0));
    let Some(class) = lacks else { return Ok(()) };
    let of_class = pool.iter().filter(|item| item.target as usize == class);
    let groups: std::collections::HashSet<_> = of_class.clone().filter_map(|item| item.group.as_ref()).collect();
    let images = of_class.count();
    let there = match groups.len() {
        0 => format!("{images} images"),
        groups => format!("{images} images in {groups} groups"),
    };
    Err(Error::user(format!("{k} folds cannot each hold class \"{}\", which has {there}: take fewer", classes[class])))
}

/// As scikit-learn's `StratifiedKFold`: each fold's share of each class is what dealing out the images in the order of
/// their classes gives it, so that both classes and sizes of folds differ by one at most. Within a class the images are
/// dealt in an order that their names draw: adding an image does not reorder the others.
fn by_class(pool: &[&Item], classes: usize, k: usize, key: Key) -> Vec<usize> {
    let mut folds = vec![0; pool.len()];
    let mut dealt = 0;
    for class in 0..classes {
        let places = drawn(pool, (0..pool.len()).filter(|&at| pool[at].target as usize == class), key);
        let mut shares = vec![0; k];
        (dealt..dealt + places.len()).for_each(|at| shares[at % k] += 1);
        dealt += places.len();
        let fold_of = shares.iter().enumerate().flat_map(|(fold, &share)| std::iter::repeat_n(fold, share));
        places.into_iter().zip(fold_of).for_each(|(place, fold)| folds[place] = fold);
    }
    folds
}

/// Places, in the order that the names of their images draw.
fn drawn(items: &[&Item], places: impl Iterator<Item = usize>, key: Key) -> Vec<usize> {
    let mut drawn: Vec<_> = places.map(|at| (key.named(&items[at].name).rng().uniform(), at)).collect();
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| items[a.1].name.cmp(&items[b.1].name)));
    drawn.into_iter().map(|(_, at)| at).collect()
}

fn by_group(pool: &[&Item], classes: usize, k: usize, key: Key) -> Result<Vec<usize>> {
    let mut index = HashMap::new();
    for item in pool.iter().filter_map(|item| item.group.as_deref()) {
        let next = index.len();
        index.entry(item).or_insert(next);
    }
    if index.len() < k {
        return Err(Error::user(format!("{k} folds of {} groups: a group stands in one fold only", index.len())));
    }
    let mut names: Vec<&str> = index.keys().copied().collect();
    names.sort_by(|a, b| key.named(a).rng().uniform().total_cmp(&key.named(b).rng().uniform()).then(a.cmp(b)));
    let rank: HashMap<&str, usize> = names.into_iter().enumerate().map(|(rank, name)| (name, rank)).collect();
    let ranks: Vec<usize> = pool.iter().filter_map(|item| rank.get(item.group.as_deref()?).copied()).collect();
    let mut counts = vec![vec![0; classes]; rank.len()];
    pool.iter().zip(&ranks).for_each(|(item, &rank)| counts[rank][item.target as usize] += 1);
    let folds = deal_groups(&counts, k);
    Ok(ranks.into_iter().map(|rank| folds[rank]).collect())
}

/// The fold of each group, as scikit-learn's `StratifiedGroupKFold` deals them: the groups of most uneven classes first,
/// each to the fold where it leaves the classes spread most evenly, the smaller fold of equals. `counts` holds the images
/// of each class of each group.
pub fn deal_groups(counts: &[Vec<usize>], k: usize) -> Vec<usize> {
    let classes = counts.first().map_or(0, Vec::len);
    let totals: Vec<f64> = (0..classes).map(|class| counts.iter().map(|group| group[class] as f64).sum()).collect();
    let spread = |group: &[usize]| deviation(group.iter().map(|&count| count as f64));
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by(|&a, &b| spread(&counts[b]).total_cmp(&spread(&counts[a])));
    let mut held = vec![vec![0usize; classes]; k];
    let mut folds = vec![0; counts.len()];
    for group in order {
        let mut best: Option<(usize, f64, usize)> = None;
        for fold in 0..k {
            let with = |at: usize, class: usize| held[at][class] + if at == fold { counts[group][class] } else { 0 };
            let class = |class: usize| deviation((0..k).map(|at| with(at, class) as f64 / totals[class].max(1.0)));
            let uneven = (0..classes).map(class).sum::<f64>() / classes.max(1) as f64;
            let size = (0..classes).map(|class| with(fold, class)).sum();
            let better =
                best.is_none_or(|(_, least, smallest)| uneven < least || (is_close(uneven, least) && size < smallest));
            if better {
                best = Some((fold, uneven, size));
            }
        }
        let fold = best.map_or(0, |(fold, ..)| fold);
        folds[group] = fold;
        held[fold].iter_mut().zip(&counts[group]).for_each(|(held, count)| *held += count);
    }
    folds
}

/// The population standard deviation.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// NumPy's `isclose`.
fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-8 + 1e-5 * b.abs()
}

impl Subset {
    /// Which of `places` stay, in their order.
    fn of(&self, items: &[&Item], places: &[usize]) -> Vec<usize> {
        let key = Key::new(self.seed).named("subset");
        let classes = places.iter().map(|&at| items[at].target + 1).max().unwrap_or(0);
        let mut kept = Vec::new();
        for class in 0..classes {
            let mut own = drawn(items, places.iter().copied().filter(|&at| items[at].target == class), key);
            let share = self.fraction.map_or(own.len(), |share| (share * own.len() as f64).round() as usize);
            own.truncate(share.max(1).min(self.per_class.unwrap_or(usize::MAX)));
            kept.extend(own);
        }
        kept.sort_unstable();
        kept
    }
}
