//! Exponential averages on a GPU: one launch for all of them, and one for counters.

use super::{Column, Many, Queue, args};
use candle_core::{DType, Result, Tensor};

/// Averages of many tensors.
pub struct Averages {
    averages: Pairs,
    counters: Pairs,
}

/// Averages and what they are moved towards.
struct Pairs {
    /// Which of the tensors they are.
    places: Vec<usize>,
    many: Many,
    averages: Column,
    news: Column,
}

impl Averages {
    /// For averages of these types and sizes: I64 are counters.
    pub fn new(queue: &Queue, values: &[Tensor]) -> Result<Self> {
        let (counters, averages) = (0..values.len()).partition(|&place| values[place].dtype() == DType::I64);
        Ok(Self { averages: Pairs::new(queue, values, averages)?, counters: Pairs::new(queue, values, counters)? })
    }

    /// Keeps this share of the averages `values`, in place, and takes the rest from `news`; counters are copied.
    pub fn follow(&mut self, values: &[Tensor], news: &[&Tensor], keep: f64) -> Result<()> {
        self.averages.set(values, news)?;
        self.counters.set(values, news)?;
        let Pairs { many, averages, news, .. } = &self.averages;
        many.launch("average_many", many.all(), args![averages, news, keep as f32, (1.0 - keep) as f32])?;
        let Pairs { many, averages, news, .. } = &self.counters;
        many.launch("copy_counters", many.all(), args![averages, news])
    }
}

impl Pairs {
    fn new(queue: &Queue, values: &[Tensor], places: Vec<usize>) -> Result<Self> {
        let sizes: Vec<usize> = places.iter().map(|&place| values[place].elem_count()).collect();
        let many = Many::new(queue, &sizes)?;
        let column = || many.column(vec![0; many.len()]);
        Ok(Self { averages: column()?, news: column()?, places, many })
    }

    /// The averages are other tensors after a checkpoint is read.
    fn set(&mut self, values: &[Tensor], news: &[&Tensor]) -> Result<()> {
        let queue = self.many.queue();
        let address = |tensor: &Tensor| queue.view(tensor).map(|view| view.address);
        let averages: Result<_> = self.places.iter().map(|&place| address(&values[place])).collect();
        let news: Result<_> = self.places.iter().map(|&place| address(news[place])).collect();
        self.averages.set(queue, averages?)?;
        self.news.set(queue, news?)
    }
}
