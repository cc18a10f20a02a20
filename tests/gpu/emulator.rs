//! A driver that runs the kernels on the host: compiled by the C++ compiler, with plain loops for the libraries.

use crate::limit;
use candle_core::{CpuStorage, DType, Error, Result, Storage, bail};
use half::{bf16, f16};
use libloading::Library;
use runner::tensor::gpu::{Arg, Convolution, ConvolutionPass, Download, Driver, Factor, Grid, Product};
use std::{
    cell::Cell,
    ffi::{CString, c_char, c_int, c_uint, c_void},
    path::Path,
    process::Command,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, c_uint, *const *const c_void) -> c_int;

thread_local! {
    /// Whether there is no memory left to this thread.
    pub static FULL: Cell<bool> = const { Cell::new(false) };
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
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-x", "c++", &format!("-DTYPE_{dtype}")])
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

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: the caller's array holds that many bytes.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) };
        Ok(())
    }

    fn upload(&self, values: &[u8], address: u64) -> Result<()> {
        // SAFETY: the caller's array holds that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), address as *mut u8, values.len()) };
        Ok(())
    }

    fn download(&self, address: u64, bytes: usize) -> Result<Download> {
        // SAFETY: the caller's array holds that many bytes.
        let values = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }.to_vec();
        Ok(Box::new(|| Ok(values)))
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Arg]) -> Result<()> {
        let modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, library)) = modules.iter().find(|(dtype, _)| kernel.ends_with(&format!("_{dtype}"))) else {
            bail!("the kernel {kernel} is of no known type")
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
        let name = CString::new(kernel).map_err(Error::wrap)?;
        // SAFETY: the function has this type (`emulate.h`); that the arguments are the kernel's is what is tested.
        let status = unsafe {
            let emulate = library.get::<Emulate>(b"emulate").map_err(Error::wrap)?;
            emulate(name.as_ptr(), grid.blocks.as_ptr(), grid.threads.as_ptr(), grid.shared, places.as_ptr())
        };
        if status == 0 { Ok(()) } else { bail!("there is no kernel {kernel}") }
    }

    fn matmul(&self, p: &Product) -> Result<()> {
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

    fn convolve(&self, pass: ConvolutionPass, c: &Convolution, [x, weight, y]: [u64; 3]) -> Result<()> {
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
            let (n, oy, ox) =
                (pixel / c.output[1] / c.output[0], pixel / c.output[1] % c.output[0], pixel % c.output[1]);
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
