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
    /// Blocks in y or z.
    const MOST_BLOCKS: usize = 65_535;
    /// Blocks that fill a device: each is a part of a sum. Fixed, so that sums do not depend on the device.
    const FILL: usize = 512;
    /// Threads that share the last step of a sum.
    const DOWN: usize = 32;

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

    /// Blocks across the channels.
    fn across(&self) -> usize {
        (self.channels / self.width).div_ceil(self.threads()[0])
    }

    fn grid(&self, chunks: usize) -> Grid {
        Grid::blocks([self.across(), chunks], self.threads().map(|threads| threads as u32))
    }

    /// For kernels that work element by element.
    pub fn each(&self) -> Grid {
        let [_, down] = self.threads();
        self.grid(self.rows.div_ceil(down * Self::ROWS).clamp(1, Self::MOST_BLOCKS))
    }

    /// Parts that [`Columns::sums`] are made in.
    pub fn chunks(&self) -> usize {
        self.chunks_of(1)
    }

    /// For kernels that work element by element within each of `images`, in z: rows are those of one image.
    pub fn each_of(&self, images: usize) -> Grid {
        Self::in_z(self.each(), images)
    }

    /// Parts that [`Columns::sums_of`] are made in: one where the images alone fill a device.
    pub fn chunks_of(&self, images: usize) -> usize {
        let [_, down] = self.threads();
        let most = Self::FILL.div_ceil(self.across() * images.max(1));
        self.rows.div_ceil(down * Self::ROWS).clamp(1, most)
    }

    /// For kernels that sum over the rows of each of `images`, in z, into [`Columns::chunks_of`] parts.
    pub fn sums_of(&self, images: usize) -> Grid {
        let shared = Self::THREADS * self.width * size_of::<f32>();
        Self::in_z(self.grid(self.chunks_of(images)), images).with_shared(shared)
    }

    fn in_z(grid: Grid, images: usize) -> Grid {
        let [x, y, _] = grid.blocks;
        Grid { blocks: [x, y, images.clamp(1, Self::MOST_BLOCKS) as u32], ..grid }
    }

    /// For the last step of sums of so many columns.
    pub fn last(columns: usize) -> Grid {
        Grid::blocks([columns.div_ceil(Self::MOST_ACROSS), 1], [Self::MOST_ACROSS as u32, Self::DOWN as u32])
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
        self.final_sums(&partial, x.dtype, &sums, None)?;
        Ok(sums)
    }

    /// The last step of sums: of `partial (chunks, C)`, or `(chunks, 2, C)` where there is a second.
    pub fn final_sums(&self, partial: &Array, dtype: DType, first: &Array, second: Option<&Array>) -> Result<()> {
        let channels = first.view().count();
        let columns = if second.is_some() { 2 * channels } else { channels };
        let arguments = args![partial, first, second, partial.view().count() / columns, channels];
        self.launch("column_sums_final", dtype, Columns::last(columns), arguments)
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
