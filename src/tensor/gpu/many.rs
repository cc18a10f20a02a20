//! Many tensors as one: kernels that walk all of them in one launch.

use super::{Arg, Array, Grid, Queue};
use candle_core::{DType, Device, Result, Tensor};

/// Elements that one block works on; `CHUNK` of `many.cuh`.
const CHUNK: usize = 1 << 13;

/// Rooms of [`Rooms`] begin at multiples of this many values, so that kernels can read four at a time.
const ALIGNED: usize = 4;

/// Tensors of these sizes, cut into chunks.
pub struct Many {
    queue: Queue,
    /// The first chunk of each tensor, and the number of chunks after the last.
    firsts: Vec<usize>,
    /// Of each chunk: its tensor, its first element, and the tensor's size.
    chunks: Array,
}

/// Some of the tensors of a [`Many`], one after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The first one and how many there are.
    pub first: usize,
    pub count: usize,
    /// Where their chunks stand.
    pub chunks: Arg,
    pub blocks: usize,
}

impl Many {
    pub fn new(queue: &Queue, sizes: &[usize]) -> Result<Self> {
        let (mut firsts, mut chunks) = (vec![0], Vec::new());
        for (tensor, &size) in sizes.iter().enumerate() {
            let starts = (0..size).step_by(CHUNK);
            chunks.extend(starts.flat_map(|start| [tensor, start, size].map(|number| number as u64)));
            firsts.push(chunks.len() / 3);
        }
        let room = queue.array(chunks.len(), DType::I64)?;
        queue.rewrite(&room, &chunks)?;
        Ok(Self { queue: queue.clone(), firsts, chunks: room })
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.firsts.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn all(&self) -> Part {
        self.part(0, self.len())
    }

    pub fn part(&self, first: usize, count: usize) -> Part {
        let (begin, end) = (self.firsts[first], self.firsts[first + count]);
        let chunks = Arg::Address(self.chunks.view().address + (begin * 3 * size_of::<u64>()) as u64);
        Part { first, count, chunks, blocks: end - begin }
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// A column of places, of which there are as many as tensors, or a multiple of that.
    pub fn column(&self, addresses: Vec<u64>) -> Result<Column> {
        let array = self.queue.array(addresses.len(), DType::I64)?;
        self.queue.rewrite(&array, &addresses)?;
        Ok(Column { array, addresses })
    }

    /// Starts a kernel of one block a chunk; the first argument it gets is the part's chunks.
    pub fn launch(&self, kernel: &'static str, part: Part, arguments: &[Arg]) -> Result<()> {
        if part.blocks == 0 {
            return Ok(());
        }
        let arguments = [&[part.chunks], arguments].concat();
        self.queue.launch(kernel, DType::F32, Grid::blocks([part.blocks, 1], [256, 1]), &arguments)
    }
}

/// Where each of many tensors lies: a table on the device, null for what is not there.
pub struct Column {
    array: Array,
    addresses: Vec<u64>,
}

impl Column {
    /// Takes other places, which are only uploaded where they differ.
    pub fn set(&mut self, queue: &Queue, addresses: Vec<u64>) -> Result<()> {
        if self.addresses != addresses {
            queue.rewrite(&self.array, &addresses)?;
            self.addresses = addresses;
        }
        Ok(())
    }

    pub fn address(&self) -> u64 {
        self.array.view().address
    }
}

impl From<&Column> for Arg {
    fn from(column: &Column) -> Self {
        Self::Address(column.address())
    }
}

/// Room for many arrays of f32 in one piece.
pub struct Rooms {
    values: Tensor,
    /// Where each begins, and how many values it has.
    places: Vec<(usize, usize)>,
    pub column: Column,
}

impl Rooms {
    /// Of these values.
    pub fn of(many: &Many, device: &Device, arrays: &[Vec<f32>]) -> Result<Self> {
        let places = places(arrays.iter().map(Vec::len));
        let mut values = vec![0.0; total(&places)];
        for (&(start, size), array) in places.iter().zip(arrays) {
            values[start..start + size].copy_from_slice(array);
        }
        let count = values.len();
        Self::at(many, Tensor::from_vec(values, count, device)?, places)
    }

    /// Not cleared.
    pub fn uncleared(many: &Many, sizes: impl Iterator<Item = usize>) -> Result<Self> {
        let places = places(sizes);
        let values = many.queue.array(total(&places), DType::F32)?.into_tensor();
        Self::at(many, values, places)
    }

    fn at(many: &Many, values: Tensor, places: Vec<(usize, usize)>) -> Result<Self> {
        let base = many.queue.view(&values)?.address;
        let addresses = places.iter().map(|(start, _)| base + (start * size_of::<f32>()) as u64).collect();
        Ok(Self { values, column: many.column(addresses)?, places })
    }

    /// An array, in place.
    pub fn tensor(&self, which: usize, dims: &[usize]) -> Result<Tensor> {
        let (start, size) = self.places[which];
        self.values.narrow(0, start, size)?.reshape(dims)
    }

    /// A copy of every array on the host, after the work asked for so far.
    pub fn read(&self) -> Result<Vec<Vec<f32>>> {
        let values = self.values.to_vec1::<f32>()?;
        Ok(self.places.iter().map(|&(start, size)| values[start..start + size].to_vec()).collect())
    }
}

fn places(sizes: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut end = 0;
    let place = |size: usize| {
        let start = end;
        end += size.next_multiple_of(ALIGNED);
        (start, size)
    };
    sizes.map(place).collect()
}

/// Values in all, gaps too.
fn total(places: &[(usize, usize)]) -> usize {
    places.last().map_or(0, |(start, size)| start + size)
}
