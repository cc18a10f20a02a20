//! A device whose memory runs out: the run says so, and in parts that fit it comes to the same numbers.

use crate::{emulator::emulator, limit, train};
use candle_core::Device;
use runner::{
    error::{Cause, Result},
    tensor::gpu::with_driver,
};
use serde_json::json;

/// What a run comes to on a device with this much memory, and the most it asked for.
fn run(micro_batch: Option<usize>, memory: usize) -> (Result<train::Losses>, usize) {
    // No batch norm: a batch in parts comes to the same gradients up to rounding. What is frozen takes no memory but its own.
    let frozen = ["stages.1.*", "stages.2.*", "stages.3.*"];
    let change = json!({ "batch_size": 12, "augment": [], "freeze": frozen });
    let spec = train::spec("convnext_atto", "f32", change);
    limit::within(memory, || with_driver(emulator(), || train::losses(&spec, &Device::Cpu, micro_batch)))
}

#[test]
fn a_batch_that_memory_does_not_hold_is_computed_in_parts() {
    let (whole, most) = run(None, usize::MAX);
    let (parts, most_of_parts) = run(Some(6), usize::MAX);
    let (whole, parts) = (whole.unwrap(), parts.unwrap());
    assert!(most_of_parts < most, "{most_of_parts} and {most}");
    let memory = most.midpoint(most_of_parts);

    let error = run(None, memory).0.unwrap_err();
    assert_eq!(error.cause, Cause::OutOfMemory, "{error}");
    assert!(error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY"), "{error}");
    let within = run(Some(6), memory).0.unwrap();
    assert_eq!(within, parts);
    assert_eq!(parts.0.len(), whole.0.len(), "as many optimizer steps, each of the whole batch");
    for (parts, whole) in parts.0.iter().chain([&parts.1]).zip(whole.0.iter().chain([&whole.1])) {
        assert!((parts - whole).abs() < 1e-5, "{parts} and not {whole}");
    }
}
