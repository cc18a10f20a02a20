//! Matrix products by cuBLAS.

use crate::tensor::gpu::driver::{Factor, Product};
use candle_core::{
    DType, Result, bail,
    cuda_backend::{
        WrapErr,
        cudarc::cublas::{
            result,
            sys::{
                self, cublasComputeType_t as Compute, cublasGemmAlgo_t as Algorithm, cublasHandle_t,
                cublasOperation_t as Operation, cudaDataType_t as Type,
            },
        },
    },
};

/// Gives a handle memory to work in, at this address.
pub fn set_workspace(handle: cublasHandle_t, address: u64, bytes: usize) -> Result<()> {
    // SAFETY: the caller's array holds that many bytes, as long as the handle is used.
    unsafe { sys::cublasSetWorkspace_v2(handle, address as *mut _, bytes) }.result().w()
}

/// One product, or a batch of them. The same numbers give the same bits every time: the handle's products all go through one
/// stream, so that none has to do with another one's workspace.
///
/// cuBLAS stores matrices column after column, so that what it calls `out^T = b^T a^T` is our product.
pub fn matmul(handle: cublasHandle_t, product: &Product, tf32: bool) -> Result<()> {
    let Product { a, b, out, .. } = product;
    if out.turned {
        bail!("a matrix product writes row after row")
    }
    let (one, beta) = (1.0f32, if product.add { 1.0f32 } else { 0.0 });
    let compute = match product.dtype {
        DType::F32 if tf32 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => Compute::CUBLAS_COMPUTE_32F,
    };
    let (kind, out_kind) = (data_type(product.dtype)?, data_type(product.out_dtype)?);
    // SAFETY: the factors describe arrays of the caller, all on the handle's device.
    unsafe {
        result::gemm_strided_batched_ex(
            handle,
            operation(b),
            operation(a),
            int(product.columns)?,
            int(product.rows)?,
            int(product.inner)?,
            (&raw const one).cast(),
            b.address as *const _,
            kind,
            int(b.stride)?,
            b.step as i64,
            a.address as *const _,
            kind,
            int(a.stride)?,
            a.step as i64,
            (&raw const beta).cast(),
            out.address as *mut _,
            out_kind,
            int(out.stride)?,
            out.step as i64,
            int(product.batch)?,
            compute,
            Algorithm::CUBLAS_GEMM_DEFAULT,
        )
    }
    .w()
}

fn operation(factor: &Factor) -> Operation {
    if factor.turned { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
}

fn data_type(dtype: DType) -> Result<Type> {
    Ok(match dtype {
        DType::F32 => Type::CUDA_R_32F,
        DType::BF16 => Type::CUDA_R_16BF,
        DType::F16 => Type::CUDA_R_16F,
        other => bail!("no matrix product of {other:?}"),
    })
}

fn int(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| candle_core::Error::Msg(format!("a matrix product of size {size} is too large")))
}
