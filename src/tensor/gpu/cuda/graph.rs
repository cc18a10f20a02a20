//! Work that is recorded once and carried out again and again: CUDA graphs, captured from the stream.

use crate::tensor::gpu::Recording;
use candle_core::{
    Result, bail,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaGraph, CudaStream, sys},
    },
};
use std::{mem::MaybeUninit, sync::Arc};

/// Starts to record what this thread asks of the stream.
pub fn begin(stream: &CudaStream) -> Result<()> {
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()
}

/// What has been asked of the stream since.
///
/// # Errors
/// Where something of it cannot be carried out again: it waited for the device, or copies from the host, whose memory
/// will hold something else by then.
pub fn end(stream: &Arc<CudaStream>) -> Result<Box<dyn Recording>> {
    let ended = stream.end_capture(sys::CUgraphInstantiate_flags_enum(0));
    // Memory that a broken capture handed out cannot be given back: that is not the next call's error.
    let left = stream.context().check_err();
    let Some(graph) = ended.w()? else { bail!("nothing was recorded") };
    left.w()?;
    for node in nodes(&graph)? {
        check(node)?;
    }
    Ok(Box::new(Graph(graph)))
}

fn nodes(graph: &CudaGraph) -> Result<Vec<sys::CUgraphNode>> {
    let mut count = 0;
    // SAFETY: without room for nodes only their number is written.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut count) }.result().w()?;
    let mut nodes = vec![std::ptr::null_mut(); count];
    // SAFETY: there is room for as many.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &mut count) }.result().w()?;
    nodes.truncate(count);
    Ok(nodes)
}

fn check(node: sys::CUgraphNode) -> Result<()> {
    use sys::{CUgraphNodeType as Kind, CUmemorytype};
    let mut kind = Kind::CU_GRAPH_NODE_TYPE_EMPTY;
    // SAFETY: the node is one of a graph that lives.
    unsafe { sys::cuGraphNodeGetType(node, &mut kind) }.result().w()?;
    match kind {
        Kind::CU_GRAPH_NODE_TYPE_HOST => bail!("the step calls the host"),
        Kind::CU_GRAPH_NODE_TYPE_MEMCPY => {
            let mut copy = MaybeUninit::<sys::CUDA_MEMCPY3D>::uninit();
            // SAFETY: the node is a copy.
            unsafe { sys::cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()) }.result().w()?;
            // SAFETY: the driver has written it.
            match unsafe { copy.assume_init() }.srcMemoryType == CUmemorytype::CU_MEMORYTYPE_HOST {
                true => bail!("the step copies from the host's memory"),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, by one at a time, and nobody else has this one.
unsafe impl Send for Graph {}

impl Recording for Graph {
    fn replay(&self) -> Result<()> {
        self.0.launch().w()
    }
}
