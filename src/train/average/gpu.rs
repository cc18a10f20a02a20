//! An exponential average on a GPU: one launch for all averages, and one for the counters.

use crate::{
    error::Result,
    tensor::{
        DType, Params, Tensor,
        gpu::{Column, Many, Queue, args},
    },
};

/// Averages and parameters by their places on the device.
pub struct Gpu {
    averages: Pairs,
    counters: Pairs,
}

/// Averages and what they are moved towards.
struct Pairs {
    /// Which of the parameters they are.
    places: Vec<usize>,
    many: Many,
    averages: Column,
    news: Column,
}

impl Gpu {
    /// Of these averages, one for each parameter.
    pub fn new(queue: &Queue, values: &[Tensor]) -> Result<Self> {
        let (counters, averages) = (0..values.len()).partition(|&place| values[place].dtype() == DType::I64);
        Ok(Self { averages: Pairs::new(queue, values, averages)?, counters: Pairs::new(queue, values, counters)? })
    }

    /// Keeps this share of the averages and takes the rest from the parameters; counters are copied.
    pub fn average(&mut self, values: &[Tensor], params: &Params, keep: f64) -> Result<()> {
        let news: Vec<&Tensor> = params.iter().map(|weight| weight.var().as_tensor()).collect();
        self.averages.set(values, &news)?;
        self.counters.set(values, &news)?;
        let Pairs { many, averages, news, .. } = &self.averages;
        many.launch("average_many", many.all(), args![averages, news, keep as f32, (1.0 - keep) as f32])?;
        let Pairs { many, averages, news, .. } = &self.counters;
        Ok(many.launch("copy_counters", many.all(), args![averages, news])?)
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
        let averages: candle_core::Result<_> = self.places.iter().map(|&place| address(&values[place])).collect();
        let news: candle_core::Result<_> = self.places.iter().map(|&place| address(news[place])).collect();
        self.averages.set(queue, averages?)?;
        Ok(self.news.set(queue, news?)?)
    }
}
