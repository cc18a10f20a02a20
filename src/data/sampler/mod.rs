//! Which training images an epoch draws, where some classes should be seen more often than their share.
//!
//! A sampler says how much each class counts; drawing is written once, as torch's `WeightedRandomSampler`: with
//! replacement, every image by its weight, as many as there are images unless told otherwise.

use crate::tensor::Key;

/// How likely the images of each class are drawn.
pub trait Sampler: Send + Sync {
    /// The weight of every image of each class; weights need not sum to one. `counts` are the images of each class.
    fn weights(&self, counts: &[usize]) -> Vec<f64>;

    /// How many draws make an epoch, of `images` training images.
    fn draws(&self, images: usize) -> usize {
        images
    }

    /// What is wrong with the parameters for data with so many images of each class.
    fn check(&self, _counts: &[usize]) -> Result<(), String> {
        Ok(())
    }
}

crate::components! {
    /// The `sampler` of an experiment: which training images an epoch draws.
    pub enum SamplerSpec: Sampler {
        balanced::Balanced,
        weighted::Weighted,
    }
}

/// The images of one epoch, in the order they are drawn. `targets` are the classes of the images, of which there are
/// `classes`. Depends on the key alone.
pub fn draw(sampler: &dyn Sampler, targets: &[u32], classes: usize, key: Key) -> Vec<usize> {
    let mut members = vec![Vec::new(); classes];
    targets.iter().enumerate().for_each(|(image, &class)| members[class as usize].push(image));
    let counts: Vec<usize> = members.iter().map(Vec::len).collect();
    let weights = sampler.weights(&counts);
    // Images of a class weigh the same: a class by its whole weight, then one of its images, is the same draw.
    let mut total = 0.0;
    let bounds: Vec<f64> = counts
        .iter()
        .zip(weights)
        .map(|(&count, weight)| {
            total += count as f64 * weight;
            total
        })
        .collect();
    let mut rng = key.rng();
    let mut one = || {
        let at = rng.uniform() * total;
        // The last class that has any weight takes what rounding leaves over.
        let class = bounds.iter().position(|&bound| at < bound).or(bounds.iter().position(|&bound| bound == total));
        let members = &members[class.unwrap_or(0)];
        members.get(rng.below(members.len().max(1))).copied()
    };
    (0..sampler.draws(targets.len())).filter_map(|_| one()).collect()
}
