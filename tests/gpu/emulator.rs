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

/// The kernels, compiled for each type that they compute in.
pub struct Emulator {
    /// The compiled modules.
    built: Vec<(&'static str, Vec<u8>)>,
    /// Modules that are loaded and at rest. A module runs one kernel at a time: tests that run at once have one each.
    idle: Mutex<Vec<(&'static str, Library)>>,
}

static EMULATOR: LazyLock<Arc<Emulator>> = LazyLock::new(|| Arc::new(Emulator::build()));

/// The emulator; the first call compiles the kernels.
pub fn emulator() -> Arc<dyn Driver> {
    EMULATOR.clone()
}

impl Emulator {
    fn build() -> Self {
        let built = std::thread::scope(|scope| {
            let types = ["f32", "bf16", "f16"];
            let works = types.map(|dtype| (dtype, scope.spawn(|| compile(dtype))));
            works.map(|(dtype, work)| (dtype, work.join().unwrap())).into()
        });
        Self { built, idle: Mutex::default() }
    }

    /// Runs `work` with a module that has the kernels of a type to itself.
    fn with_module<T>(&self, dtype: &'static str, work: impl FnOnce(&Library) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at_rest = || {
            let mut idle = idle();
            let place = idle.iter().position(|(of, _)| *of == dtype)?;
            Some(idle.swap_remove(place).1)
        };
        let library = at_rest().unwrap_or_else(|| self.load(dtype));
        let result = work(&library);
        idle().push((dtype, library));
        result
    }

    /// From a file of its own, what is loaded has variables of its own: none of them are visible outside.
    fn load(&self, dtype: &'static str) -> Library {
        let (_, bytes) = self.built.iter().find(|(of, _)| *of == dtype).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernels.so");
        std::fs::write(&file, bytes).unwrap();
        // SAFETY: the library has been built from the kernels and only registers them when loaded.
        unsafe { Library::new(&file) }.unwrap()
    }
}

/// Lets the compiler use the processor's own conversions of f16, which come to the same.
fn conversions() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("f16c") {
        return Some("-mf16c");
    }
    None
}

/// The kernels for values of a type, as a library.
fn compile(dtype: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kernels.so");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-x", "c++", &format!("-DTYPE_{dtype}")])
        .args(conversions())
        .arg("-I")
        .arg(root.join("tests/gpu"))
        .arg(root.join("src/tensor/gpu/kernels/all.cu"))
        .arg("-o")
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("these tests need a C++ compiler; {compiler} does not start: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(&file).unwrap()
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
        let suffix = type_name(dtype)?;
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
        let status = self.with_module(suffix, |library| unsafe {
            let emulate = library.get::<Emulate>(b"emulate").map_err(Error::wrap)?;
            let (blocks, threads) = (grid.blocks.as_ptr(), grid.threads.as_ptr());
            Ok::<_, Error>(emulate(name.as_ptr(), blocks, threads, grid.shared, places.as_ptr()))
        })?;
        if status == 0 { Ok(()) } else { bail!("there is no kernel {kernel}_{suffix}") }
    }
}

fn multiply(p: &Product) -> Result<()> {
    for batch in 0..p.batch {
        let a = values(&p.a, batch, [p.rows, p.inner], p.dtype);
        let b = values(&p.b.turned(), batch, [p.columns, p.inner], p.dtype);
        for row in 0..p.rows {
            for column in 0..p.columns {
                let sum = dot(&a[row * p.inner..][..p.inner], &b[column * p.inner..][..p.inner]);
                let out = place(&p.out, batch, row, column, p.out_dtype);
                let before = if p.add { f64::from(read(p.out_dtype, out)) } else { 0.0 };
                write(p.out_dtype, out, (before + sum) as f32);
            }
        }
    }
    Ok(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Sums side by side: one would wait for itself at each term.
    const LANES: usize = 8;
    let (a, b) = (a.chunks(LANES), b.chunks(LANES));
    let mut sums = [0.0; LANES];
    a.zip(b).for_each(|(a, b)| sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b));
    sums.iter().sum()
}

/// A factor's matrix, row after row.
fn values(factor: &Factor, batch: usize, [rows, columns]: [usize; 2], dtype: DType) -> Vec<f64> {
    let value = |row, column| f64::from(read(dtype, place(factor, batch, row, column, dtype)));
    (0..rows).flat_map(|row| (0..columns).map(move |column| value(row, column))).collect()
}

fn convolve(pass: ConvolutionPass, c: &Convolution, [x, weight, y]: [u64; 3]) -> Result<()> {
    let (group_in, group_out, taps) = (c.inputs / c.groups, c.outputs / c.groups, c.kernel[0] * c.kernel[1]);
    let counts = [
        c.batch * c.input[0] * c.input[1] * c.inputs,
        c.outputs * taps * group_in,
        c.batch * c.output[0] * c.output[1] * c.outputs,
    ];
    let made = match pass {
        ConvolutionPass::InputGradient => 0,
        ConvolutionPass::WeightGradient => 1,
        ConvolutionPass::Forward => 2,
    };
    let at = |which: usize, place: usize| [x, weight, y][which] + (place * c.dtype.size_in_bytes()) as u64;
    let all = |which: usize| (0..counts[which]).map(|place| f64::from(read(c.dtype, at(which, place)))).collect();
    let mut arrays: [Vec<f64>; 3] =
        [0, 1, 2].map(|which| if which == made { vec![0.0; counts[which]] } else { all(which) });
    let source = |axis: usize, at: usize, tap: usize| {
        let padded = at * c.stride[axis] + tap * c.dilation[axis];
        padded.checked_sub(c.padding[axis]).filter(|&place| place < c.input[axis])
    };
    let [xs, weights, ys] = &mut arrays;
    for (place, y) in ys.iter_mut().enumerate() {
        let (pixel, o) = (place / c.outputs, place % c.outputs);
        let (n, oy, ox) = (pixel / c.output[1] / c.output[0], pixel / c.output[1] % c.output[0], pixel % c.output[1]);
        for tap in 0..taps {
            let [ky, kx] = [tap / c.kernel[1], tap % c.kernel[1]];
            let (Some(iy), Some(ix)) = (source(0, oy, ky), source(1, ox, kx)) else { continue };
            let first = ((n * c.input[0] + iy) * c.input[1] + ix) * c.inputs + o / group_out * group_in;
            let xs = &mut xs[first..][..group_in];
            let weights = &mut weights[(o * taps + tap) * group_in..][..group_in];
            match pass {
                ConvolutionPass::Forward => *y += dot(xs, weights),
                ConvolutionPass::InputGradient => xs.iter_mut().zip(weights).for_each(|(x, weight)| *x += *weight * *y),
                ConvolutionPass::WeightGradient => {
                    weights.iter_mut().zip(xs).for_each(|(weight, x)| *weight += *x * *y)
                }
            }
        }
    }
    for (place, &sum) in arrays[made].iter().enumerate() {
        write(c.dtype, at(made, place), sum as f32);
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
