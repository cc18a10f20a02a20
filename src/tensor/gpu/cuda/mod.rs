//! The driver of a CUDA device: Candle's memory and stream, our kernels, cuBLAS and cuDNN.

mod blas;
mod dnn;
mod graph;
mod staging;

use super::{
    Arg, Convolution, ConvolutionPass, Download, Driver, Grid, Mode, Product, Queue, Recording, View, type_name,
};
use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail,
    cuda_backend::{
        CudaStorageSlice as Slice, DeviceId, WrapErr,
        cudarc::{
            driver::{
                CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
                result,
                sys::{self, CUgraphMem_attribute as RecordedAttribute, CUmemPool_attribute as PoolAttribute},
            },
            nvrtc::Ptx,
        },
    },
};
use dnn::Dnn;
use staging::{Downloads, Staging};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The kernels, one module a type; see `build.rs`.
const MODULES: [(&str, &[u8]); 3] = [
    ("f32", include_bytes!(concat!(env!("OUT_DIR"), "/kernels_f32.fatbin"))),
    ("bf16", include_bytes!(concat!(env!("OUT_DIR"), "/kernels_bf16.fatbin"))),
    ("f16", include_bytes!(concat!(env!("OUT_DIR"), "/kernels_f16.fatbin"))),
];

/// Opens a device with a stream of its own, whose memory pool keeps what it has.
pub fn open(index: usize) -> Result<CudaDevice> {
    let device = CudaDevice::new_with_stream(index)?;
    // SAFETY: everything of a device goes through its one stream.
    unsafe { device.disable_event_tracking() };
    keep_memory(&device)?;
    Ok(device)
}

/// Given back at every synchronization, the pool's memory would have to be mapped again for the next step.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let mut most = u64::MAX;
    let attribute = PoolAttribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and the attribute is a u64.
    unsafe { result::mem_pool::set_attribute(pool(&device.cuda_stream())?, attribute, (&raw mut most).cast()) }.w()
}

/// The memory pool that a device's arrays come from.
fn pool(stream: &CudaStream) -> Result<sys::CUmemoryPool> {
    // SAFETY: the context's device exists.
    unsafe { result::device::get_default_mem_pool(stream.context().cu_device()) }.w()
}

/// How many devices this process sees. Wakes none of them up.
pub fn count() -> Result<usize> {
    Ok(CudaContext::device_count().w()?.max(0) as usize)
}

/// A device's model, its UUID as `nvidia-smi` writes it, and its bytes of memory. Does not wake it up.
pub fn identity(index: usize) -> Result<(String, String, u64)> {
    result::init().w()?;
    let device = result::device::get(index as i32).w()?;
    let id = result::device::get_uuid(device).w()?.bytes.map(|byte| format!("{:02x}", byte as u8));
    let uuid = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| id[part].concat()).join("-");
    // SAFETY: the device exists.
    let memory = unsafe { result::device::total_mem(device) }.w()?;
    Ok((result::device::get_name(device).w()?, format!("GPU-{uuid}"), memory as u64))
}

/// A device's name, compute capability and memory, e.g. `cuda:0 NVIDIA H100, compute capability 9.0, 78.2 of 79.1 GiB free`.
pub fn describe(index: usize) -> Result<String> {
    let context = CudaContext::new(index).w()?;
    let (major, minor) = context.compute_capability().w()?;
    let (free, all) = result::mem_get_info().w()?;
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    let name = context.name().w()?;
    Ok(format!("cuda:{index} {name}, compute capability {major}.{minor}, {:.1} of {:.1} GiB free", gib(free), gib(all)))
}

/// The versions of the driver's CUDA and of cuDNN.
pub fn versions() -> Result<String> {
    let mut driver = 0;
    // SAFETY: the driver writes one number.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result().w()?;
    // SAFETY: reads a constant of the library.
    let cudnn = unsafe { candle_core::cuda_backend::cudarc::cudnn::sys::cudnnGetVersion() };
    let [major, minor] = [driver / 1000, driver % 1000 / 10];
    Ok(format!("driver for CUDA {major}.{minor}, cuDNN {}.{}.{}", cudnn / 10_000, cudnn % 10_000 / 100, cudnn % 100))
}

static DRIVERS: LazyLock<Mutex<HashMap<DeviceId, Arc<Cuda>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The driver that this thread has asked for last: every operation asks.
    static LAST: RefCell<Option<(DeviceId, Arc<Cuda>)>> = const { RefCell::new(None) };
}

fn driver(device: &CudaDevice) -> Result<Arc<Cuda>> {
    LAST.with_borrow_mut(|last| match last {
        Some((id, driver)) if *id == device.id() => Ok(driver.clone()),
        _ => {
            let driver = shared_driver(device)?;
            *last = Some((device.id(), driver.clone()));
            Ok(driver)
        }
    })
}

fn shared_driver(device: &CudaDevice) -> Result<Arc<Cuda>> {
    let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(driver) = drivers.get(&device.id()) {
        return Ok(driver.clone());
    }
    let driver = Arc::new(Cuda::new(device)?);
    drivers.insert(device.id(), driver.clone());
    Ok(driver)
}

/// The queue of a device.
pub fn queue(device: &CudaDevice) -> Result<Queue> {
    Ok(Queue::new(driver(device)?))
}

/// Makes a device this thread's.
pub fn attach(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().context().bind_to_thread().w()
}

/// Sets how a device computes from now on.
pub fn set_mode(device: &CudaDevice, mode: Mode) -> Result<()> {
    let driver = driver(device)?;
    *driver.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    Ok(())
}

/// Values of the host as a tensor, copied while the device goes on with what it has.
pub fn upload(values: &[f32], shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    let array = queue(device)?.array(shape, DType::F32)?;
    // SAFETY: floats are plain bytes.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    driver(device)?.upload(bytes, array.view().address)?;
    Ok(array.into_tensor())
}

/// Values of a storage, for an operation.
pub fn view<'a>(storage: &CudaStorage, layout: &'a Layout) -> Result<View<'a>> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("this operation works on contiguous tensors, got the layout {layout:?}")
    };
    let (address, dtype) = place(storage, &storage.device.cuda_stream())?;
    Ok(View { address: address + (start * dtype.size_in_bytes()) as u64, dtype, shape: layout.shape() })
}

fn place(storage: &CudaStorage, stream: &CudaStream) -> Result<(u64, DType)> {
    Ok(match &storage.slice {
        Slice::F32(slice) => (slice.device_ptr(stream).0, DType::F32),
        Slice::BF16(slice) => (slice.device_ptr(stream).0, DType::BF16),
        Slice::F16(slice) => (slice.device_ptr(stream).0, DType::F16),
        Slice::U8(slice) => (slice.device_ptr(stream).0, DType::U8),
        Slice::U32(slice) => (slice.device_ptr(stream).0, DType::U32),
        Slice::I64(slice) => (slice.device_ptr(stream).0, DType::I64),
        _ => bail!("no operation works on values of this type"),
    })
}

/// What NVIDIA recommends for Hopper, in bytes.
const WORKSPACE: usize = 32 << 20;

struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    functions: RwLock<HashMap<(&'static str, DType), CudaFunction>>,
    dnn: Mutex<Dnn>,
    staging: Mutex<Staging>,
    downloads: Downloads,
    mode: Mutex<Mode>,
    /// Processes that share the device.
    among: AtomicUsize,
    /// Whether work is taken down in place of being carried out.
    recording: AtomicBool,
    /// cuBLAS's own, which recorded products go on using.
    _workspace: CudaSlice<u8>,
}

impl Cuda {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        // SAFETY: cuBLAS writes what it reads there.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.w()?;
        blas::set_workspace(*device.cublas_handle().handle(), workspace.device_ptr(&stream).0, WORKSPACE)?;
        Ok(Self {
            recording: AtomicBool::new(false),
            _workspace: workspace,
            dnn: Mutex::new(Dnn::new(&stream)?),
            staging: Mutex::default(),
            downloads: Downloads::default(),
            device: device.clone(),
            stream,
            modules: Mutex::default(),
            functions: RwLock::default(),
            mode: Mutex::default(),
            among: AtomicUsize::new(1),
        })
    }

    /// The same of the memory that recordings have of their own.
    fn recorded_bytes(&self, attribute: RecordedAttribute) -> Result<u64> {
        let mut bytes = 0u64;
        let device = self.stream.context().cu_device();
        // SAFETY: the device exists, and the attribute is a u64.
        unsafe { sys::cuDeviceGetGraphMemAttribute(device, attribute, (&raw mut bytes).cast()) }.result().w()?;
        Ok(bytes)
    }

    /// A number of bytes that the device's memory pool tells.
    fn pool_bytes(&self, attribute: PoolAttribute) -> Result<u64> {
        let mut bytes = 0u64;
        // SAFETY: the pool is the device's own, and the attribute is a u64.
        unsafe { result::mem_pool::get_attribute(pool(&self.stream)?, attribute, (&raw mut bytes).cast()) }.w()?;
        Ok(bytes)
    }

    /// CUDA's calls want a thread to have a context, and an operation may be the first one of its thread.
    fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().w()
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what the memory pool has in reserve.
    fn trim(&self) -> Result<()> {
        // SAFETY: the pool is the device's own.
        unsafe { result::mem_pool::trim_to(pool(&self.stream)?, 0) }.w()
    }

    /// The kernels for a type; loaded when the first one is asked for.
    fn module(&self, dtype: &'static str) -> Result<Arc<CudaModule>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(dtype) {
            return Ok(module.clone());
        }
        let Some((_, image)) = MODULES.iter().find(|(name, _)| *name == dtype) else {
            bail!("there are no kernels for {dtype}")
        };
        let module = self.stream.context().load_module(Ptx::from_binary(image.to_vec())).w()?;
        modules.insert(dtype, module.clone());
        Ok(module)
    }

    fn function(&self, kernel: &'static str, dtype: DType) -> Result<CudaFunction> {
        let known = self.functions.read().unwrap_or_else(PoisonError::into_inner).get(&(kernel, dtype)).cloned();
        if let Some(function) = known {
            return Ok(function);
        }
        let suffix = type_name(dtype)?;
        let function = self.module(suffix)?.load_function(&format!("{kernel}_{suffix}")).w()?;
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.insert((kernel, dtype), function.clone());
        Ok(function)
    }
}

impl Driver for Cuda {
    fn room(&self, count: usize, dtype: DType) -> Result<Storage> {
        /// A device does not hand out nothing.
        fn alloc<T: candle_core::cuda_backend::CudaDType + candle_core::cuda_backend::cudarc::driver::DeviceRepr>(
            device: &CudaDevice,
            count: usize,
        ) -> Result<CudaStorage> {
            // SAFETY: what asks for room writes all of it before anything reads it.
            Ok(CudaStorage::wrap_cuda_slice(unsafe { device.alloc::<T>(count.max(1))? }, device.clone()))
        }
        let device = &self.device;
        Ok(Storage::Cuda(match dtype {
            DType::F32 => alloc::<f32>(device, count)?,
            DType::BF16 => alloc::<half::bf16>(device, count)?,
            DType::F16 => alloc::<half::f16>(device, count)?,
            DType::U8 => alloc::<u8>(device, count)?,
            DType::U32 => alloc::<u32>(device, count)?,
            DType::I64 => alloc::<i64>(device, count)?,
            other => bail!("no operation makes values of {other:?}"),
        }))
    }

    fn address(&self, storage: &Storage) -> Result<u64> {
        match storage {
            Storage::Cuda(storage) => Ok(place(storage, &self.stream)?.0),
            _ => bail!("an operation got values from two devices"),
        }
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        self.bind()?;
        let (free, all) = result::mem_get_info().w()?;
        let among = self.among.load(Ordering::Relaxed);
        let recorded = self.recorded_bytes(RecordedAttribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT)?;
        let held = (self.pool_bytes(PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)? + recorded) as usize;
        let share = if among > 1 { (all / among).saturating_sub(held) } else { usize::MAX };
        Ok(Some(free.min(share)))
    }

    fn peak_memory(&self) -> Result<Option<u64>> {
        let lasting = self.pool_bytes(PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        let recorded = self.recorded_bytes(RecordedAttribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)?;
        let most = self.pool_bytes(PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?;
        Ok(Some(most.max(lasting + recorded)))
    }

    fn held_memory(&self) -> Result<Option<u64>> {
        let recorded = self.recorded_bytes(RecordedAttribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)?;
        Ok(Some(self.pool_bytes(PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)? + recorded))
    }

    fn share(&self, among: usize) -> Result<()> {
        self.among.store(among, Ordering::Relaxed);
        self.stream.synchronize().w()?;
        let pool = pool(&self.stream)?;
        // SAFETY: the pool is the device's own; what is in use stays.
        unsafe { result::mem_pool::trim_to(pool, 0) }.w()?;
        let high = [PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH];
        for attribute in high {
            let mut zero = 0u64;
            // SAFETY: the attribute is a u64; zero sets it to what is in use now.
            unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut zero).cast()) }.w()?;
        }
        Ok(())
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's array holds that many bytes.
        unsafe { result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()) }.w()
    }

    fn upload(&self, values: &[u8], address: u64) -> Result<()> {
        if self.recording.load(Ordering::Relaxed) {
            bail!("the step copies from the host's memory")
        }
        self.bind()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        staging.upload(values, address, &self.stream)
    }

    fn download(&self, address: u64, bytes: usize) -> Result<Download> {
        if self.recording.load(Ordering::Relaxed) {
            bail!("the step copies to the host's memory")
        }
        self.bind()?;
        self.downloads.start(address, bytes, &self.stream)
    }

    fn launch(&self, kernel: &'static str, dtype: DType, grid: Grid, arguments: &[Arg]) -> Result<()> {
        let function = self.function(kernel, dtype)?;
        let mut launch = self.stream.launch_builder(&function);
        for argument in arguments {
            match argument {
                Arg::Address(value) => launch.arg(value),
                Arg::Int(value) => launch.arg(value),
                Arg::Long(value) => launch.arg(value),
                Arg::Float(value) => launch.arg(value),
            };
        }
        let ([x, y, z], [width, height]) = (grid.blocks, grid.threads);
        let shape = LaunchConfig { grid_dim: (x, y, z), block_dim: (width, height, 1), shared_mem_bytes: grid.shared };
        // SAFETY: the arguments are those of the kernel; tests run every launch of an operation on the host, where a
        // place outside an array is found.
        unsafe { launch.launch(shape) }.w()?;
        Ok(())
    }

    fn matmul(&self, product: &Product) -> Result<()> {
        self.bind()?;
        blas::matmul(*self.device.cublas_handle().handle(), product, self.mode().tf32)
    }

    fn records(&self) -> bool {
        std::env::var("RUNNER_GRAPHS").map_or(true, |value| value != "0")
    }

    fn record(&self) -> Result<()> {
        graph::begin(&self.stream)?;
        self.recording.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn recorded(&self) -> Result<Box<dyn Recording>> {
        self.recording.store(false, Ordering::Relaxed);
        let recording = graph::end(&self.stream)?;
        // A recording has memory of its own: what the same work used before is not needed beside it.
        self.stream.synchronize().w()?;
        self.trim()?;
        Ok(recording)
    }

    fn make_room(&self) -> Result<()> {
        self.bind()?;
        let (free, all) = result::mem_get_info().w()?;
        if free > all / 4 {
            return Ok(());
        }
        self.stream.synchronize().w()?;
        // SAFETY: the device exists; what recordings hold while they do not run is mapped again when they do.
        unsafe { sys::cuDeviceGraphMemTrim(self.stream.context().cu_device()) }.result().w()?;
        self.trim()
    }

    fn convolve(&self, pass: ConvolutionPass, convolution: &Convolution, places: [u64; 3]) -> Result<()> {
        self.bind()?;
        let mut dnn = self.dnn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.recording.load(Ordering::Relaxed) && !dnn.knows(pass, convolution, self.mode()) {
            bail!("no algorithm has been chosen yet for the {pass:?} pass of {convolution:?}")
        }
        dnn.convolve(pass, convolution, places, self.mode())
    }
}
