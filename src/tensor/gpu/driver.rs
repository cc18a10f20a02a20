//! What an operation asks of a device.

use super::queue::View;
use candle_core::{DType, Result, Storage, bail};

/// Bytes on their way to the host: called, it waits for them.
pub type Download = Box<dyn FnOnce() -> Result<Vec<u8>> + Send + Sync>;

/// A device's memory and command stream. Work is carried out in the order it is asked for; nothing here waits for it.
pub trait Driver: Send + Sync {
    /// Room for `count` values, not cleared.
    fn room(&self, count: usize, dtype: DType) -> Result<Storage>;

    /// Where a storage's values begin.
    fn address(&self, storage: &Storage) -> Result<u64>;

    /// Fills `bytes` bytes from `address` with zeros.
    fn clear(&self, address: u64, bytes: usize) -> Result<()>;

    /// Bytes of memory that are left to this process, of its share where several have one; `None` where it is the host's.
    fn free_memory(&self) -> Result<Option<usize>>;

    /// The most bytes this process has held at once, those among them that it keeps for later; `None` where it is the
    /// host's.
    fn held_memory(&self) -> Result<Option<u64>>;

    /// Lets go of memory that is only kept, and counts peaks anew. From now on `among` processes share the device.
    fn share(&self, among: usize) -> Result<()>;

    /// The most bytes that were in use at once; `None` where it is the host's.
    fn peak_memory(&self) -> Result<Option<u64>>;

    /// Copies values from the host to `address`.
    fn upload(&self, values: &[u8], address: u64) -> Result<()>;

    /// Copies bytes from `address` to the host.
    fn download(&self, address: u64, bytes: usize) -> Result<Download>;

    /// Starts a kernel for values of this type, one of those that [`type_name`] knows.
    fn launch(&self, kernel: &'static str, dtype: DType, grid: Grid, arguments: &[Arg]) -> Result<()>;

    /// One matrix product, or a batch of them.
    fn matmul(&self, product: &Product) -> Result<()>;

    /// Whether work can be recorded and is to be.
    fn records(&self) -> bool;

    /// From now on what this thread asks for is taken down in place of being carried out, until [`Driver::recorded`].
    /// Nothing may then be uploaded or waited for, and no memory from before given back.
    fn record(&self) -> Result<()>;

    /// What has been asked for since. Memory that was handed out meanwhile has been given back; each time the recording is
    /// carried out it is at hand, in the same places.
    ///
    /// # Errors
    /// Where something of it cannot be carried out again; nothing has been carried out then.
    fn recorded(&self) -> Result<Box<dyn Recording>>;

    /// Gives back memory that recordings and other work hold in reserve for themselves alone, where little is left.
    fn make_room(&self) -> Result<()>;

    /// One pass of a convolution over `[x, weight, y]`, the gradients of which stand in their places.
    fn convolve(&self, pass: ConvolutionPass, convolution: &Convolution, places: [u64; 3]) -> Result<()>;
}

/// What kernels for values of a type are called behind their own name: `bf16` of `activate_bf16`.
///
/// # Errors
/// Of types that training does not compute in.
pub fn type_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        DType::F16 => Ok("f16"),
        other => bail!("no kernels for {other:?}: training computes in f32, bf16 and f16"),
    }
}

/// Work that has been recorded.
pub trait Recording: Send {
    /// Carries it out, in its place among other work.
    fn replay(&self) -> Result<()>;
}

/// How many threads a kernel gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block in x and y.
    pub threads: [u32; 2],
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
}

impl Grid {
    const THREADS: usize = 256;
    /// Enough to fill any device: kernels walk what is left in strides.
    const MOST_BLOCKS: usize = 1 << 16;

    /// At least a thread for each of `count` things, up to where more would not be faster.
    pub fn over(count: usize) -> Self {
        let blocks = count.div_ceil(Self::THREADS).clamp(1, Self::MOST_BLOCKS);
        Self { blocks: [blocks as u32, 1, 1], threads: [Self::THREADS as u32, 1], shared: 0 }
    }

    /// A warp for each of `rows` rows, up to where more would not be faster.
    pub fn warps(rows: usize) -> Self {
        const WARP: usize = 32;
        Self::over(rows * WARP)
    }

    /// Blocks of `threads` threads each.
    pub fn blocks(blocks: [usize; 2], threads: [u32; 2]) -> Self {
        let [x, y] = blocks.map(|count| count.max(1) as u32);
        Self { blocks: [x, y, 1], threads, shared: 0 }
    }

    /// The same for each of `count` things, in y.
    pub fn for_each(self, count: usize) -> Self {
        const MOST: usize = 65_535;
        let [x, _, z] = self.blocks;
        Self { blocks: [x, count.clamp(1, MOST) as u32, z], ..self }
    }

    pub fn with_shared(self, bytes: usize) -> Self {
        Self { shared: bytes as u32, ..self }
    }
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A place in the device's memory.
    Address(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

impl From<usize> for Arg {
    /// Counts are 64 bits wide in every kernel.
    fn from(count: usize) -> Self {
        Self::Long(count as i64)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

/// `out (rows, columns) = a (rows, inner) b (inner, columns)`, plus what stands in `out` where `add`. Each matrix is
/// stored row after row, or turned, at its own row stride; sums are f32 whatever the types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
    pub a: Factor,
    pub b: Factor,
    pub out: Factor,
    /// Of `a` and `b`.
    pub dtype: DType,
    /// Of `out`.
    pub out_dtype: DType,
    pub add: bool,
    /// Products in a row, [`Factor::step`] apart.
    pub batch: usize,
}

impl Product {
    /// One product of `[rows, columns, inner]` into all of `out`, of factors of `dtype`.
    pub fn one([rows, columns, inner]: [usize; 3], [a, b]: [Factor; 2], out: View, dtype: DType) -> Self {
        let to = Factor::rows(out.address, columns);
        Self { rows, columns, inner, a, b, out: to, dtype, out_dtype: out.dtype, add: false, batch: 1 }
    }
}

/// A matrix of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    pub address: u64,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// Whether it is stored column after column.
    pub turned: bool,
    /// Elements from one matrix of a batch to the next.
    pub step: usize,
}

impl Factor {
    /// Row after row, without gaps.
    pub fn rows(address: u64, stride: usize) -> Self {
        Self { address, stride, turned: false, step: 0 }
    }

    /// In a batch of matrices this many elements apart.
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }

    pub fn turned(self) -> Self {
        Self { turned: !self.turned, ..self }
    }
}

/// What a convolution computes from the two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvolutionPass {
    Forward,
    InputGradient,
    WeightGradient,
}

/// A convolution of `(N, H, W, in)` with `(out, kh, kw, in / groups)` to `(N, H', W', out)`, all of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    pub batch: usize,
    /// `[height, width]`.
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub inputs: usize,
    pub outputs: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub dtype: DType,
}
