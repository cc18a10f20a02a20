//! Values on a device, and the order in which work on them is asked for.

use super::driver::{Arg, Convolution, ConvolutionPass, Driver, Grid, Product, Recording};
use candle_core::{DType, Layout, Result, Shape, Storage, Tensor, bail, op::BackpropOp};
use std::{cell::RefCell, sync::Arc};

thread_local! {
    static LENT: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

/// Runs `work` with `driver` standing in for the CPU on this thread: operations on CPU tensors take their GPU side.
pub fn with_driver<T>(driver: Arc<dyn Driver>, work: impl FnOnce() -> T) -> T {
    let before = LENT.with(|lent| lent.replace(Some(Queue(driver))));
    let result = work();
    LENT.with(|lent| *lent.borrow_mut() = before);
    result
}

/// Where an operation puts its work.
#[derive(Clone)]
pub struct Queue(Arc<dyn Driver>);

/// Contiguous values that are read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub address: u64,
    pub dtype: DType,
    pub shape: &'a Shape,
}

/// Contiguous values that an operation makes.
pub struct Array {
    storage: Storage,
    shape: Shape,
    address: u64,
    dtype: DType,
}

impl View<'_> {
    pub fn count(&self) -> usize {
        self.shape.elem_count()
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The size of the last axis; 1 of a scalar.
    pub fn width(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }
}

impl Array {
    pub fn view(&self) -> View<'_> {
        View { address: self.address, dtype: self.dtype, shape: &self.shape }
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same values in another shape of as many.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), ..self }
    }

    /// As a tensor that is on no tape.
    pub fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }

    pub fn into_parts(self) -> (Storage, Shape) {
        (self.storage, self.shape)
    }
}

impl From<View<'_>> for Arg {
    fn from(view: View) -> Self {
        Self::Address(view.address)
    }
}

impl From<&Array> for Arg {
    fn from(array: &Array) -> Self {
        Self::Address(array.address)
    }
}

impl From<Option<View<'_>>> for Arg {
    /// A null pointer for what is not there.
    fn from(view: Option<View>) -> Self {
        Self::Address(view.map_or(0, |view| view.address))
    }
}

impl From<Option<&Array>> for Arg {
    fn from(array: Option<&Array>) -> Self {
        Self::Address(array.map_or(0, |array| array.address))
    }
}

/// A kernel's arguments, in its order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::tensor::gpu::Arg::from($value)),*] };
}
pub(crate) use args;

impl Queue {
    #[cfg(feature = "cuda")]
    pub(super) fn new(driver: Arc<dyn Driver>) -> Self {
        Self(driver)
    }

    /// The driver lent to this thread's CPU, if any.
    pub fn lent() -> Option<Self> {
        LENT.with(|lent| lent.borrow().clone())
    }

    /// The queue of the device a tensor lies on; `None` on the CPU.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>> {
        Self::of_device(tensor.device())
    }

    /// The queue of a device; `None` of the CPU.
    pub fn of_device(device: &candle_core::Device) -> Result<Option<Self>> {
        match device {
            candle_core::Device::Cpu => Ok(Self::lent()),
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(device) => super::cuda::queue(device).map(Some),
            #[allow(unreachable_patterns)] // without CUDA there is still Metal
            device => bail!("this program computes on the CPU and on CUDA, not on {device:?}"),
        }
    }

    /// A contiguous tensor's values. They stay in place as long as the tensor lives.
    pub fn view<'a>(&self, tensor: &'a Tensor) -> Result<View<'a>> {
        let (storage, layout) = tensor.storage_and_layout();
        self.view_of(&storage, layout)
    }

    pub(crate) fn view_of<'a>(&self, storage: &Storage, layout: &'a Layout) -> Result<View<'a>> {
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("this operation works on contiguous tensors, got the layout {layout:?}")
        };
        let dtype = storage.dtype();
        let address = self.0.address(storage)? + (start * dtype.size_in_bytes()) as u64;
        Ok(View { address, dtype, shape: layout.shape() })
    }

    /// Room for a result, not cleared.
    pub fn array(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Array> {
        let shape = shape.into();
        let storage = self.0.room(shape.elem_count(), dtype)?;
        let address = self.0.address(&storage)?;
        Ok(Array { storage, shape, address, dtype })
    }

    /// Room for a result of the same type and shape, not cleared.
    pub fn like(&self, view: View) -> Result<Array> {
        self.array(view.shape.clone(), view.dtype)
    }

    /// A result to add to.
    pub fn zeros(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Array> {
        let array = self.array(shape, dtype)?;
        self.0.clear(array.address, array.shape.elem_count() * dtype.size_in_bytes())?;
        Ok(array)
    }

    /// Numbers from the host.
    pub fn upload(&self, values: &[f32]) -> Result<Array> {
        self.upload_bytes(values.iter().flat_map(|value| value.to_ne_bytes()).collect(), values.len(), DType::F32)
    }

    /// Whole numbers from the host.
    pub fn upload_i64(&self, values: &[i64]) -> Result<Array> {
        self.upload_bytes(values.iter().flat_map(|value| value.to_ne_bytes()).collect(), values.len(), DType::I64)
    }

    fn upload_bytes(&self, bytes: Vec<u8>, count: usize, dtype: DType) -> Result<Array> {
        let array = self.array(count, dtype)?;
        self.0.upload(&bytes, array.address)?;
        Ok(array)
    }

    /// Copies bytes from the host to a place in an array of bytes.
    ///
    /// # Errors
    /// Where they do not fit.
    pub fn write(&self, array: &Array, start: usize, bytes: &[u8]) -> Result<()> {
        match array.dtype == DType::U8 && start + bytes.len() <= array.shape.elem_count() {
            true => self.0.upload(bytes, array.address + start as u64),
            false => bail!("{} bytes at {start} do not fit {:?}", bytes.len(), array.shape),
        }
    }

    /// Numbers of a contiguous tensor on their way to the host, as they are after the work asked for so far; called, it waits
    /// for them.
    ///
    /// # Errors
    /// Where they are not f32.
    pub fn download(&self, tensor: &Tensor) -> Result<impl FnOnce() -> Result<Vec<f32>> + Send + Sync + use<>> {
        let View { address, dtype, shape } = self.view(tensor)?;
        if dtype != DType::F32 {
            bail!("f32 can be downloaded, not {dtype:?}")
        }
        let bytes = self.0.download(address, shape.elem_count() * size_of::<f32>())?;
        Ok(move || Ok(bytes()?.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect()))
    }

    /// Whether work can be recorded, and is to be.
    pub fn records(&self) -> bool {
        self.0.records()
    }

    /// What `work` asks for, to be carried out again and again; it is not carried out yet. `work` keeps nothing of the
    /// memory that it gets.
    pub fn record<T, E: From<candle_core::Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Box<dyn Recording>), E> {
        self.0.record()?;
        let made = work();
        // It ends where the work has failed, too.
        let recording = self.0.recorded();
        Ok((made?, recording?))
    }

    /// Gives back memory that is held in reserve, where little is left.
    pub fn make_room(&self) -> Result<()> {
        self.0.make_room()
    }

    /// Bytes of the device's memory that are left to this process, of its share where several have one; `None` where it is
    /// the host's.
    pub fn free_memory(&self) -> Result<Option<usize>> {
        self.0.free_memory()
    }

    /// The most bytes of the device's memory that this process has held at once, those among them that it keeps for later;
    /// `None` where it is the host's.
    pub fn held_memory(&self) -> Result<Option<u64>> {
        self.0.held_memory()
    }

    /// Lets go of memory that is only kept, and counts peaks anew. From now on `among` processes share the device, each of
    /// which keeps to its part of the memory where it has a choice.
    pub fn share(&self, among: usize) -> Result<()> {
        self.0.share(among)
    }

    /// The most bytes of the device's memory that were in use at once; `None` where it is the host's.
    pub fn peak_memory(&self) -> Result<Option<u64>> {
        self.0.peak_memory()
    }

    /// Puts other numbers in place of a table's first ones.
    pub fn rewrite(&self, table: &Array, numbers: &[u64]) -> Result<()> {
        if table.dtype != DType::I64 || table.shape.elem_count() < numbers.len() {
            bail!("a table of {:?} {:?} has no room for {} places", table.shape, table.dtype, numbers.len())
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.0.upload(&bytes, table.address)
    }

    /// Starts the kernel `name` for values of `dtype`.
    pub fn launch(&self, name: &'static str, dtype: DType, grid: Grid, arguments: &[Arg]) -> Result<()> {
        self.0.launch(name, dtype, grid, arguments)
    }

    pub fn matmul(&self, product: &Product) -> Result<()> {
        match product.rows * product.columns * product.batch {
            0 => Ok(()),
            _ => self.0.matmul(product),
        }
    }

    pub fn convolve(&self, pass: ConvolutionPass, convolution: &Convolution, places: [u64; 3]) -> Result<()> {
        self.0.convolve(pass, convolution, places)
    }
}
