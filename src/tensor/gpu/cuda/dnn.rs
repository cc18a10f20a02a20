//! Convolutions by cuDNN, channels last. The fastest algorithm is measured once for each convolution and kept; in
//! deterministic mode cuDNN's rules choose it.

use crate::tensor::gpu::{Convolution, ConvolutionPass, Mode};
use candle_core::{
    DType, Result, bail,
    cuda_backend::{
        WrapErr,
        cudarc::{
            cudnn::{result, result::CudnnError, sys},
            driver::{CudaSlice, CudaStream, DevicePtrMut},
        },
    },
};
use std::{collections::HashMap, ffi::c_void, sync::Arc};

/// Algorithms may use this much memory beside the tensors, in bytes.
const MOST_WORKSPACE: usize = 512 << 20;

/// Answers of cuDNN that are looked at: it has at most eight algorithms a pass.
const ALGORITHMS: usize = 8;

pub struct Dnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: HashMap<(ConvolutionPass, Convolution, Mode), Plan>,
    /// Grows to what the largest plan needs; the last is in use, recorded work may go on using those before.
    workspaces: Vec<CudaSlice<u8>>,
}

// SAFETY: cuDNN allows a handle in one thread at a time, and the driver holds it behind a mutex.
unsafe impl Send for Dnn {}

/// How one pass of a convolution is computed.
struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    /// Bytes.
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// What cuDNN knows about a convolution.
struct Descriptors {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

/// The addresses of input, weight and output, or of the gradients in their places.
#[derive(Clone, Copy)]
struct Places {
    x: *mut c_void,
    weight: *mut c_void,
    y: *mut c_void,
}

impl Dnn {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle().map_err(failed)?;
        // SAFETY: the handle is fresh and the stream lives as long as it.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }.map_err(failed)?;
        Ok(Self { handle, stream: stream.clone(), plans: HashMap::new(), workspaces: Vec::new() })
    }

    pub fn convolve(
        &mut self,
        pass: ConvolutionPass,
        convolution: &Convolution,
        [x, weight, y]: [u64; 3],
        mode: Mode,
    ) -> Result<()> {
        let places = Places { x: x as *mut _, weight: weight as *mut _, y: y as *mut _ };
        let key = (pass, *convolution, mode);
        if !self.plans.contains_key(&key) {
            let plan = self.plan(pass, convolution, places, mode)?;
            self.plans.insert(key, plan);
        }
        let bytes = self.plans[&key].workspace;
        let workspace = self.workspace(bytes)?;
        // SAFETY: the places are arrays of the sizes that the descriptors say, and the workspace has `bytes` bytes.
        unsafe { self.plans[&key].run(self.handle, places, workspace, bytes) }
    }

    /// Whether an algorithm has been chosen.
    pub fn knows(&self, pass: ConvolutionPass, convolution: &Convolution, mode: Mode) -> bool {
        self.plans.contains_key(&(pass, *convolution, mode))
    }

    /// The workspace's address, at least `bytes` large; null for none.
    fn workspace(&mut self, bytes: usize) -> Result<*mut c_void> {
        if bytes == 0 {
            return Ok(std::ptr::null_mut());
        }
        if self.workspaces.last().is_none_or(|workspace| workspace.num_bytes() < bytes) {
            // By half as much again, so that there are few.
            let grown = self.workspaces.last().map_or(0, |workspace| workspace.num_bytes() * 3 / 2);
            // SAFETY: cuDNN writes what it reads there.
            self.workspaces.push(unsafe { self.stream.alloc::<u8>(bytes.max(grown)) }.w()?);
        }
        let stream = &self.stream;
        Ok(self.workspaces.last_mut().map_or(0, |workspace| workspace.device_ptr_mut(stream).0) as *mut _)
    }

    /// The fastest algorithm; of those whose results are the same every time the first by cuDNN's own rules, since which one
    /// measures fastest is not the same every time.
    fn plan(&mut self, pass: ConvolutionPass, c: &Convolution, places: Places, mode: Mode) -> Result<Plan> {
        let descriptors = Descriptors::new(c, mode)?;
        let (found, room) = match mode.deterministic {
            true => (descriptors.ranked(self.handle, pass)?, MOST_WORKSPACE),
            false => self.measured(&descriptors, pass, places)?,
        };
        let usable = |found: &&Found| found.bytes <= room && (!mode.deterministic || found.deterministic);
        let Some(best) = found.iter().find(usable) else {
            let why = if mode.deterministic { " whose result is the same every time" } else { "" };
            bail!("cuDNN has no algorithm{why} for the {pass:?} pass of {c:?}")
        };
        Ok(Plan { algorithm: best.algorithm, workspace: best.bytes, descriptors })
    }

    /// Measures the algorithms on the arrays at hand, the result among them, which the pass then writes anyway; with the
    /// bytes of workspace that there were for them.
    fn measured(
        &self,
        descriptors: &Descriptors,
        pass: ConvolutionPass,
        places: Places,
    ) -> Result<(Vec<Found>, usize)> {
        let wanted = descriptors.ranked(self.handle, pass)?.into_iter().map(|found| found.bytes);
        let most = wanted.filter(|&bytes| bytes <= MOST_WORKSPACE).max().unwrap_or(0);
        // SAFETY: cuDNN measures within the workspace it is given; it grows no plan's need beyond that.
        let mut scratch = unsafe { self.stream.alloc::<u8>(most.max(1)) }.ok();
        let room = scratch.as_ref().map_or(0, |_| most);
        let address = scratch.as_mut().map_or(0, |scratch| scratch.device_ptr_mut(&self.stream).0) as *mut c_void;
        // SAFETY: the places are arrays of the sizes described, and the scratch memory has that room.
        let found = unsafe { descriptors.measure(self.handle, pass, places, (address, room)) }?;
        Ok((found, room))
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: nothing uses the handle any more.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// An algorithm that works for a convolution; cuDNN lists the fastest first.
struct Found {
    algorithm: Algorithm,
    bytes: usize,
    deterministic: bool,
}

/// Asks one of cuDNN's functions that list algorithms, which differ in types and in what they are given.
macro_rules! algorithms {
    ($ask:ident($($given:expr),*; $($more:expr),*), $answer:ident, $algorithm:path) => {{
        // SAFETY: plain numbers that cuDNN writes.
        let (mut count, mut answers) = (0, unsafe { std::mem::zeroed::<[sys::$answer; ALGORITHMS]>() });
        // SAFETY: the caller's promise.
        let status =
            unsafe { sys::$ask($($given,)* ALGORITHMS as i32, &mut count, answers.as_mut_ptr(), $($more),*) };
        status.result().map_err(failed)?;
        let found = |answer: &sys::$answer| Found {
            algorithm: $algorithm(answer.algo),
            bytes: answer.memory,
            deterministic: answer.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
        };
        let works = |answer: &&sys::$answer| answer.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS;
        answers[..(count as usize).min(ALGORITHMS)].iter().filter(works).map(found).collect()
    }};
}

impl Descriptors {
    fn new(c: &Convolution, mode: Mode) -> Result<Self> {
        let kind = match c.dtype {
            DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
            other => bail!("no convolution of {other:?}"),
        };
        let math = match c.dtype {
            DType::F32 if mode.tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            DType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let nhwc = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let image = |channels, [height, width]: [usize; 2]| -> Result<_> { ints([c.batch, channels, height, width]) };
        let (x, y) = (image(c.inputs, c.input)?, image(c.outputs, c.output)?);
        let weight = ints([c.outputs, c.inputs / c.groups, c.kernel[0], c.kernel[1]])?;
        let [padding, stride, dilation] =
            [c.padding, c.stride, c.dilation].map(|[height, width]| [height as i32, width as i32]);
        let build = || -> std::result::Result<Self, CudnnError> {
            let these = Self {
                x: result::create_tensor_descriptor()?,
                y: result::create_tensor_descriptor()?,
                weight: result::create_filter_descriptor()?,
                convolution: result::create_convolution_descriptor()?,
            };
            // SAFETY: the descriptors are fresh.
            unsafe {
                result::set_tensor4d_descriptor(these.x, nhwc, kind, x)?;
                result::set_tensor4d_descriptor(these.y, nhwc, kind, y)?;
                result::set_filter4d_descriptor(these.weight, kind, nhwc, weight)?;
                result::set_convolution2d_descriptor(
                    these.convolution,
                    padding[0],
                    padding[1],
                    stride[0],
                    stride[1],
                    dilation[0],
                    dilation[1],
                    sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                    sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
                )?;
                result::set_convolution_group_count(these.convolution, c.groups as i32)?;
                result::set_convolution_math_type(these.convolution, math)?;
            }
            Ok(these)
        };
        build().map_err(failed)
    }

    /// # Safety
    /// The places are arrays of the sizes described; the workspace has so many bytes.
    unsafe fn measure(
        &self,
        handle: sys::cudnnHandle_t,
        pass: ConvolutionPass,
        at: Places,
        (workspace, bytes): (*mut c_void, usize),
    ) -> Result<Vec<Found>> {
        let d = self;
        Ok(match pass {
            ConvolutionPass::Forward => algorithms!(
                cudnnFindConvolutionForwardAlgorithmEx(
                    handle, d.x, at.x, d.weight, at.weight, d.convolution, d.y, at.y; workspace, bytes
                ),
                cudnnConvolutionFwdAlgoPerf_t,
                Algorithm::Forward
            ),
            ConvolutionPass::InputGradient => algorithms!(
                cudnnFindConvolutionBackwardDataAlgorithmEx(
                    handle, d.weight, at.weight, d.y, at.y, d.convolution, d.x, at.x; workspace, bytes
                ),
                cudnnConvolutionBwdDataAlgoPerf_t,
                Algorithm::InputGradient
            ),
            ConvolutionPass::WeightGradient => algorithms!(
                cudnnFindConvolutionBackwardFilterAlgorithmEx(
                    handle, d.x, at.x, d.y, at.y, d.convolution, d.weight, at.weight; workspace, bytes
                ),
                cudnnConvolutionBwdFilterAlgoPerf_t,
                Algorithm::WeightGradient
            ),
        })
    }

    /// The algorithms in the order of cuDNN's rules, which look at the sizes alone.
    fn ranked(&self, handle: sys::cudnnHandle_t, pass: ConvolutionPass) -> Result<Vec<Found>> {
        let d = self;
        Ok(match pass {
            ConvolutionPass::Forward => algorithms!(
                cudnnGetConvolutionForwardAlgorithm_v7(handle, d.x, d.weight, d.convolution, d.y;),
                cudnnConvolutionFwdAlgoPerf_t,
                Algorithm::Forward
            ),
            ConvolutionPass::InputGradient => algorithms!(
                cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, d.weight, d.y, d.convolution, d.x;),
                cudnnConvolutionBwdDataAlgoPerf_t,
                Algorithm::InputGradient
            ),
            ConvolutionPass::WeightGradient => algorithms!(
                cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, d.x, d.y, d.convolution, d.weight;),
                cudnnConvolutionBwdFilterAlgoPerf_t,
                Algorithm::WeightGradient
            ),
        })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was made by this and is destroyed once.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.weight);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

impl Plan {
    /// # Safety
    /// The places are arrays of the sizes described; the workspace has `bytes` bytes.
    unsafe fn run(&self, handle: sys::cudnnHandle_t, at: Places, workspace: *mut c_void, bytes: usize) -> Result<()> {
        let (one, zero, d) = (1.0f32, 0.0f32, &self.descriptors);
        let (alpha, beta): (*const c_void, *const c_void) = ((&raw const one).cast(), (&raw const zero).cast());
        // SAFETY: the caller's promise.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle,
                    alpha,
                    d.x,
                    at.x,
                    d.weight,
                    at.weight,
                    d.convolution,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    d.y,
                    at.y,
                ),
                Algorithm::InputGradient(algorithm) => result::convolution_backward_data(
                    handle,
                    alpha,
                    d.weight,
                    at.weight,
                    d.y,
                    at.y,
                    d.convolution,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    d.x,
                    at.x,
                ),
                Algorithm::WeightGradient(algorithm) => result::convolution_backward_filter(
                    handle,
                    alpha,
                    d.x,
                    at.x,
                    d.y,
                    at.y,
                    d.convolution,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    d.weight,
                    at.weight,
                ),
            }
        }
        .map_err(failed)
    }
}

fn ints(sizes: [usize; 4]) -> Result<[i32; 4]> {
    match sizes.iter().all(|&size| i32::try_from(size).is_ok()) {
        true => Ok(sizes.map(|size| size as i32)),
        false => bail!("a convolution of {sizes:?} is too large"),
    }
}

fn failed(error: CudnnError) -> candle_core::Error {
    candle_core::Error::Cuda(format!("cuDNN: {error:?}").into())
}
