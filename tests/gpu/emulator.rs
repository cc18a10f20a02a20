//! A driver that runs the kernels on the host: compiled by the C++ compiler, with plain loops for the libraries.

use crate::limit::{self, KEEP_MEMORY};
use candle_core::{CpuStorage, DType, Error, Result, Storage, bail};
use half::{bf16, f16};
use libloading::Library;
use runner::tensor::gpu::{
    Arg, Convolution, ConvolutionPass, Download, Driver, Factor, Grid, Product, Recording, type_name,
};
use std::{
    cell::{Cell, RefCell},
    ffi::{CString, c_char, c_int, c_uint, c_void},
    path::Path,
    process::Command,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, c_uint, *const *const c_void) -> c_int;

thread_local! {
    /// Whether there is no memory left to this thread.
    pub static FULL: Cell<bool> = const { Cell::new(false) };
    /// What this thread records.
    static RECORDING: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
    static RECORDS: Cell<Option<Records>> = const { Cell::new(None) };
    static ASKED: Cell<Asked> = const { Cell::new(Asked { works: 0, replays: 0, uploads: 0 }) };
}

/// What has been asked of the emulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Kernels, products, convolutions and fillings, those of replays not counted.
    pub works: usize,
    pub replays: usize,
    pub uploads: usize,
}

/// What this thread has asked for since it asked this the last time.
pub fn asked() -> Asked {
    ASKED.take()
}

/// How recordings go.
#[derive(Clone, Copy, PartialEq)]
pub enum Records {
    Well,
    /// Each fails.
    Badly,
}

/// Runs `work` with this thread's training steps being recorded, where it is said how.
pub fn recording<T>(records: Option<Records>, work: impl FnOnce() -> T) -> T {
    RECORDS.set(records);
    let result = work();
    RECORDS.set(None);
    result
}

fn count(change: impl FnOnce(&mut Asked)) {
    let mut asked = ASKED.get();
    change(&mut asked);
    ASKED.set(asked);
}

/// One thing asked for.
enum Work {
    Clear(u64, usize),
    Launch(&'static str, DType, Grid, Vec<Arg>),
    Matmul(Product),
    Convolve(ConvolutionPass, Convolution, [u64; 3]),
}

struct Recorded(Vec<Work>);

impl Recording for Recorded {
    fn replay(&self) -> Result<()> {
        count(|asked| asked.replays += 1);
        self.0.iter().try_for_each(|work| EMULATOR.carry_out(work))
    }
}

/// One module for each type the kernels compute in. A module runs one kernel at a time.
pub struct Emulator {
    modules: Mutex<Vec<(&'static str, Library)>>,
}

static EMULATOR: LazyLock<Arc<Emulator>> = LazyLock::new(|| Arc::new(Emulator::build()));

/// The emulator; the first call compiles the kernels.
pub fn emulator() -> Arc<dyn Driver> {
    EMULATOR.clone()
}

impl Emulator {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let modules = ["f32", "bf16", "f16"].map(|dtype| (dtype, compile(dtype, folder.path())));
        Self { modules: Mutex::new(modules.into()) }
    }
}

fn compile(dtype: &str, folder: &Path) -> Library {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = folder.join(format!("kernels_{dtype}.so"));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-x", "c++", &format!("-DTYPE_{dtype}")])
        .arg("-I")
        .arg(root.join("tests/gpu"))
        .arg(root.join("src/tensor/gpu/kernels/all.cu"))
        .arg("-o")
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("these tests need a C++ compiler; {compiler} does not start: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library has just been built from the kernels and only registers them when loaded.
    unsafe { Library::new(&file) }.unwrap()
}

impl Driver for Emulator {
    /// Not a number wherever nothing is written. Where there is no room it says what CUDA says.
    fn room(&self, count: usize, dtype: DType) -> Result<Storage> {
        if !limit::has(count * dtype.size_in_bytes()) {
            return Err(Error::Cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into()));
        }
        Ok(Storage::Cpu(match dtype {
            DType::F32 => CpuStorage::F32(vec![f32::NAN; count]),
            DType::BF16 => CpuStorage::BF16(vec![bf16::NAN; count]),
            DType::F16 => CpuStorage::F16(vec![f16::NAN; count]),
            DType::U8 => CpuStorage::U8(vec![0xff; count]),
            DType::U32 => CpuStorage::U32(vec![u32::MAX; count]),
            DType::I64 => CpuStorage::I64(vec![i64::MIN; count]),
            other => bail!("no room for {other:?}"),
        }))
    }

    fn address(&self, storage: &Storage) -> Result<u64> {
        let Storage::Cpu(storage) = storage else { bail!("the emulator works in the host's memory") };
        Ok(match storage {
            CpuStorage::F32(values) => values.as_ptr() as u64,
            CpuStorage::BF16(values) => values.as_ptr() as u64,
            CpuStorage::F16(values) => values.as_ptr() as u64,
            CpuStorage::U8(values) => values.as_ptr() as u64,
            CpuStorage::U32(values) => values.as_ptr() as u64,
            CpuStorage::I64(values) => values.as_ptr() as u64,
            _ => bail!("no kernel works on such values"),
        })
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(FULL.get().then_some(0))
    }

    fn held_memory(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn share(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn peak_memory(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn records(&self) -> bool {
        RECORDS.get().is_some()
    }

    fn record(&self) -> Result<()> {
        KEEP_MEMORY.set(true);
        RECORDING.set(Some(Vec::new()));
        Ok(())
    }

    fn recorded(&self) -> Result<Box<dyn Recording>> {
        KEEP_MEMORY.set(false);
        if RECORDS.get() == Some(Records::Badly) {
            RECORDING.set(None);
            bail!("the step waits for the device")
        }
        Ok(Box::new(Recorded(RECORDING.take().unwrap_or_default())))
    }

    fn make_room(&self) -> Result<()> {
        Ok(())
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        self.ask(Work::Clear(address, bytes))
    }

    fn upload(&self, values: &[u8], address: u64) -> Result<()> {
        if RECORDING.with_borrow(Option::is_some) {
            bail!("the step copies from the host's memory")
        }
        count(|asked| asked.uploads += 1);
        // SAFETY: the caller's array holds that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), address as *mut u8, values.len()) };
        Ok(())
    }

    fn download(&self, address: u64, bytes: usize) -> Result<Download> {
        // SAFETY: the caller's array holds that many bytes.
        let values = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }.to_vec();
        Ok(Box::new(|| Ok(values)))
    }

    fn launch(&self, kernel: &'static str, dtype: DType, grid: Grid, arguments: &[Arg]) -> Result<()> {
        self.ask(Work::Launch(kernel, dtype, grid, arguments.to_vec()))
    }

    fn matmul(&self, product: &Product) -> Result<()> {
        self.ask(Work::Matmul(*product))
    }

    fn convolve(&self, pass: ConvolutionPass, convolution: &Convolution, places: [u64; 3]) -> Result<()> {
        self.ask(Work::Convolve(pass, *convolution, places))
    }
}

impl Emulator {
    /// Carries it out, or takes it down.
    fn ask(&self, work: Work) -> Result<()> {
        let left = RECORDING.with_borrow_mut(|recording| match recording {
            Some(works) => {
                works.push(work);
                None
            }
            None => Some(work),
        });
        let Some(work) = left else { return Ok(()) };
        count(|asked| asked.works += 1);
        self.carry_out(&work)
    }

    fn carry_out(&self, work: &Work) -> Result<()> {
        match work {
            Work::Clear(address, bytes) => {
                // SAFETY: the caller's array holds that many bytes.
                unsafe { std::ptr::write_bytes(*address as *mut u8, 0, *bytes) };
                Ok(())
            }
            Work::Launch(kernel, dtype, grid, arguments) => self.run(kernel, *dtype, *grid, arguments),
            Work::Matmul(product) => multiply(product),
            Work::Convolve(pass, convolution, places) => convolve(*pass, convolution, *places),
        }
    }

    fn run(&self, kernel: &'static str, dtype: DType, grid: Grid, arguments: &[Arg]) -> Result<()> {
        let (modules, suffix) = (self.modules.lock().unwrap_or_else(PoisonError::into_inner), type_name(dtype)?);
        let Some((_, library)) = modules.iter().find(|(dtype, _)| *dtype == suffix) else {
            bail!("there are no kernels for {dtype:?}")
        };
        let places: Vec<*const c_void> = arguments
            .iter()
            .map(|argument| match argument {
                Arg::Address(value) => std::ptr::from_ref(value).cast(),
                Arg::Int(value) => std::ptr::from_ref(value).cast(),
                Arg::Long(value) => std::ptr::from_ref(value).cast(),
                Arg::Float(value) => std::ptr::from_ref(value).cast(),
            })
            .collect();
        let name = CString::new(format!("{kernel}_{suffix}")).map_err(Error::wrap)?;
        // SAFETY: the function has this type (`emulate.h`); that the arguments are the kernel's is what is tested.
        let status = unsafe {
            let emulate = library.get::<Emulate>(b"emulate").map_err(Error::wrap)?;
            emulate(name.as_ptr(), grid.blocks.as_ptr(), grid.threads.as_ptr(), grid.shared, places.as_ptr())
        };
        if status == 0 { Ok(()) } else { bail!("there is no kernel {kernel}_{suffix}") }
    }
}

fn multiply(p: &Product) -> Result<()> {
    for batch in 0..p.batch {
        for row in 0..p.rows {
            for column in 0..p.columns {
                let terms = (0..p.inner).map(|k| {
                    f64::from(read(p.dtype, place(&p.a, batch, row, k, p.dtype)))
                        * f64::from(read(p.dtype, place(&p.b, batch, k, column, p.dtype)))
                });
                let out = place(&p.out, batch, row, column, p.out_dtype);
                let before = if p.add { f64::from(read(p.out_dtype, out)) } else { 0.0 };
                write(p.out_dtype, out, (before + terms.sum::<f64>()) as f32);
            }
        }
    }
    Ok(())
}

fn convolve(pass: ConvolutionPass, c: &Convolution, [x, weight, y]: [u64; 3]) -> Result<()> {
    let size = c.dtype.size_in_bytes() as u64;
    let at = |base: u64, place: usize| base + place as u64 * size;
    let (group_in, group_out) = (c.inputs / c.groups, c.outputs / c.groups);
    let (out, count) = match pass {
        ConvolutionPass::Forward => (y, c.batch * c.output[0] * c.output[1] * c.outputs),
        ConvolutionPass::InputGradient => (x, c.batch * c.input[0] * c.input[1] * c.inputs),
        ConvolutionPass::WeightGradient => (weight, c.outputs * c.kernel[0] * c.kernel[1] * group_in),
    };
    let mut sums = vec![0.0f64; count];
    for place in 0..c.batch * c.output[0] * c.output[1] * c.outputs {
        let (pixel, o) = (place / c.outputs, place % c.outputs);
        let (n, oy, ox) = (pixel / c.output[1] / c.output[0], pixel / c.output[1] % c.output[0], pixel % c.output[1]);
        for tap in 0..c.kernel[0] * c.kernel[1] {
            let [ky, kx] = [tap / c.kernel[1], tap % c.kernel[1]];
            let source = |axis: usize, at: usize, tap: usize| {
                (at * c.stride[axis] + tap * c.dilation[axis])
                    .checked_sub(c.padding[axis])
                    .filter(|&place| place < c.input[axis])
            };
            let (Some(iy), Some(ix)) = (source(0, oy, ky), source(1, ox, kx)) else { continue };
            for i in 0..group_in {
                let channel = o / group_out * group_in + i;
                let places = [
                    ((n * c.input[0] + iy) * c.input[1] + ix) * c.inputs + channel,
                    (o * c.kernel[0] * c.kernel[1] + tap) * group_in + i,
                    place,
                ];
                let value = |which: usize| f64::from(read(c.dtype, at([x, weight, y][which], places[which])));
                match pass {
                    ConvolutionPass::Forward => sums[places[2]] += value(0) * value(1),
                    ConvolutionPass::InputGradient => sums[places[0]] += value(1) * value(2),
                    ConvolutionPass::WeightGradient => sums[places[1]] += value(0) * value(2),
                }
            }
        }
    }
    for (place, sum) in sums.into_iter().enumerate() {
        write(c.dtype, at(out, place), sum as f32);
    }
    Ok(())
}

fn place(factor: &Factor, batch: usize, row: usize, column: usize, dtype: DType) -> u64 {
    let (row, column) = if factor.turned { (column, row) } else { (row, column) };
    factor.address + ((batch * factor.step + row * factor.stride + column) * dtype.size_in_bytes()) as u64
}

fn read(dtype: DType, address: u64) -> f32 {
    // SAFETY: the callers stay within the arrays they were given.
    unsafe {
        match dtype {
            DType::F32 => *(address as *const f32),
            DType::BF16 => (*(address as *const bf16)).to_f32(),
            _ => (*(address as *const f16)).to_f32(),
        }
    }
}

fn write(dtype: DType, address: u64, value: f32) {
    // SAFETY: as above.
    unsafe {
        match dtype {
            DType::F32 => *(address as *mut f32) = value,
            DType::BF16 => *(address as *mut bf16) = bf16::from_f32(value),
            _ => *(address as *mut f16) = f16::from_f32(value),
        }
    }
}
