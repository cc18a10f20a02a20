//! What a rule sees of the parameters on a GPU.

use crate::tensor::gpu::{Arg, Column, Many, Part, Queue, Rooms};
use candle_core::{Device, Result};

/// The numbers of a step that only the device knows: `Control` of `gradients.cuh`. At first nothing is scaled or skipped.
pub const CONTROL: [f32; 8] = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];

/// Room for the slots of each parameter: the first of each, the second of each, and so on; empty where one has fewer than
/// the others.
pub fn slot_rooms(many: &Many, device: &Device, mut values: Vec<Vec<Vec<f32>>>) -> Result<Rooms> {
    let mut arrays = Vec::new();
    for kind in 0..values.iter().map(Vec::len).max().unwrap_or(0) {
        arrays.extend(values.iter_mut().map(|slots| slots.get_mut(kind).map(std::mem::take).unwrap_or_default()));
    }
    Rooms::of(many, device, &arrays)
}

/// The slots of each parameter, of which there are as many as `counts` says, after the work asked for so far.
pub fn read_slots(rooms: &Rooms, counts: &[usize]) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut values = rooms.read()?;
    let mut slots = |place: usize, count: usize| -> Vec<Vec<f32>> {
        (0..count).map(|kind| std::mem::take(&mut values[kind * counts.len() + place])).collect()
    };
    Ok(counts.iter().enumerate().map(|(place, &count)| slots(place, count)).collect())
}

/// Parameters that a rule updates together: they share the numbers of a step, and their shapes the rule's
/// [`Optimizer::matrix`](super::Optimizer::matrix).
#[derive(Clone, Copy)]
pub struct Tensors<'a> {
    pub many: &'a Many,
    pub part: Part,
    pub parameters: &'a Column,
    /// Null for a parameter that has none, which stays as it is.
    pub gradients: &'a Column,
    /// The table of slots: a column for each.
    pub slots: u64,
    /// Slots of each of these parameters.
    pub kinds: usize,
    /// The step's numbers that only the device knows; see `gradients.cuh`.
    pub control: Arg,
}

impl<'a> Tensors<'a> {
    /// Starts a rule's kernel with its own arguments behind those that every rule gets.
    pub fn launch(&self, kernel: &'static str, own: &[Arg]) -> Result<()> {
        let common = [
            self.parameters.into(),
            self.gradients.into(),
            Arg::Address(self.slots),
            self.many.len().into(),
            self.control,
        ];
        self.many.launch(kernel, self.part, &[&common, own].concat())
    }

    /// The same with numbers alone.
    pub fn update<const N: usize>(&self, kernel: &'static str, numbers: [f32; N]) -> Result<()> {
        self.launch(kernel, &numbers.map(Arg::from))
    }

    pub fn queue(&self) -> &'a Queue {
        self.many.queue()
    }

    /// The same with all slots but the last, and with the last alone.
    pub fn split_last_slot(&self) -> (Self, Self) {
        let kinds = self.kinds.saturating_sub(1);
        let last = self.slots + (kinds * self.many.len() * size_of::<u64>()) as u64;
        (Self { kinds, ..*self }, Self { slots: last, kinds: 1, ..*self })
    }
}
