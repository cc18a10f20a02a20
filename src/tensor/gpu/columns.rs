//! How `(rows, channels)` values are laid over a grid: see `kernels/columns.cuh`.

use super::{
    driver::Grid,
    queue::{Array, Queue, View, args},
};
use candle_core::{DType, Result};

/// `(rows, channels)` values and the threads that walk down them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    pub rows: usize,
    pub channels: usize,
    /// Whether a thread reads 16 bytes of channels at once.
    pub wide: bool,
    /// Channels of a thread.
    width: usize,
}

impl Columns {
    const THREADS: usize = 256;
    /// Channel groups of a block: a warp's width.
    const MOST_ACROSS: usize = 32;
    /// Rows that a thread at least goes through.
    const ROWS: usize = 4;
    /// Parts of a sum, each one a block's.
    const MOST_CHUNKS: usize = 128;
    /// Blocks in y.
    const MOST_BLOCKS: usize = 65_535;

    /// Of values whose last axis is the channels, which lie at `others` too.
    pub fn of(values: View, others: &[Option<View>]) -> Self {
        let channels = values.width().max(1);
        let pack = 16 / values.dtype.size_in_bytes();
        let aligned = |view: &View| view.address.is_multiple_of(16);
        let all_aligned = aligned(&values) && others.iter().flatten().all(aligned);
        let wide = channels.is_multiple_of(pack) && all_aligned;
        Self { rows: values.count() / channels, channels, wide, width: if wide { pack } else { 1 } }
    }

    /// The same columns with another number of rows.
    pub fn with_rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// Threads of a block: across, and down.
    fn threads(&self) -> [usize; 2] {
        let across = (self.channels / self.width).next_power_of_two().min(Self::MOST_ACROSS);
        [across, Self::THREADS / across]
    }

    fn grid(&self, chunks: usize) -> Grid {
        let [across, down] = self.threads();
        Grid::blocks([(self.channels / self.width).div_ceil(across), chunks], [across as u32, down as u32])
    }

    /// For kernels that work element by element.
    pub fn each(&self) -> Grid {
        let [_, down] = self.threads();
        self.grid(self.rows.div_ceil(down * Self::ROWS).clamp(1, Self::MOST_BLOCKS))
    }

    /// Parts that [`Columns::sums`] are made in.
    pub fn chunks(&self) -> usize {
        let [_, down] = self.threads();
        self.rows.div_ceil(down * Self::ROWS).clamp(1, Self::MOST_CHUNKS)
    }

    /// For kernels that sum over rows into `chunks` parts.
    pub fn sums(&self) -> Grid {
        self.grid(self.chunks()).with_shared(Self::THREADS * self.width * size_of::<f32>())
    }
}

impl Queue {
    /// The sum of each column of `x (.., C)`, in f32: `(C)`.
    pub fn column_sums(&self, x: View) -> Result<Array> {
        let columns = Columns::of(x, &[]);
        let (chunks, channels) = (columns.chunks(), columns.channels);
        let partial = self.array((chunks, channels), DType::F32)?;
        let sums = self.array(channels, DType::F32)?;
        let arguments = args![x, &partial, columns.rows, channels, i32::from(columns.wide)];
        self.launch("column_sums_partial", x.dtype, columns.sums(), arguments)?;
        self.launch("column_sums_final", x.dtype, Grid::over(channels), args![&partial, &sums, chunks, channels])?;
        Ok(sums)
    }

    /// Adds `bias (C)` to each row of `y (.., C)`.
    pub fn add_bias(&self, y: &Array, bias: View) -> Result<()> {
        let columns = Columns::of(y.view(), &[]);
        let arguments = args![y, bias, columns.rows, columns.channels, i32::from(columns.wide)];
        self.launch("add_bias", y.dtype(), columns.each(), arguments)
    }

    /// A parameter in the activations' type; `None` where it is in that already.
    pub fn cast(&self, parameter: View, dtype: DType) -> Result<Option<Array>> {
        if dtype == parameter.dtype {
            return Ok(None);
        }
        let cast = self.array(parameter.shape.clone(), dtype)?;
        let count = parameter.count();
        self.launch("cast", dtype, Grid::over(count), args![parameter, &cast, count])?;
        Ok(Some(cast))
    }
}
