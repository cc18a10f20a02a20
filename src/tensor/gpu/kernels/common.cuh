// What all kernels share. Each file is compiled once for every type `T`; arithmetic is f32 inside.
//
// The same files compile for the host, where `emulate.h` plays the device: tests run them without a GPU.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define KERNEL(name, ...) extern "C" __global__ void NAME(name)(__VA_ARGS__)
// A kernel whose blocks have at most so many threads, so that their registers suffice for them.
#define KERNEL_OF(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) NAME(name)(__VA_ARGS__)
#define DEVICE __device__ __forceinline__
// A function by itself: what is large and called from one place among many would cost all of them registers.
#define APART __device__ __noinline__
#define SHARED __shared__
#define CONSTANT __constant__ const
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define DYNAMIC_SHARED(type, name) \
    extern __shared__ unsigned char dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(dynamic_shared)
#else
#include "emulate.h"
#endif

#if defined(TYPE_f32)
using T = float;
#define NAME(name) name##_f32
#elif defined(TYPE_bf16)
using T = __nv_bfloat16;
#define NAME(name) name##_bf16
#elif defined(TYPE_f16)
using T = __half;
#define NAME(name) name##_f16
#else
#error "compile with -DTYPE_f32, -DTYPE_bf16 or -DTYPE_f16"
#endif

using Count = long long;

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
DEVICE float to_float(__half x) { return __half2float(x); }

template <class To> DEVICE To to(float x);
template <> DEVICE float to<float>(float x) { return x; }
template <> DEVICE __nv_bfloat16 to<__nv_bfloat16>(float x) { return __float2bfloat16(x); }
template <> DEVICE __half to<__half>(float x) { return __float2half(x); }

// Walks `count` things with all threads of the grid.
#define FOR_EACH(i, count) \
    for (Count i = (Count)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (Count)gridDim.x * blockDim.x)

// A thread's share of an elementwise kernel: 16 bytes where that is possible.
constexpr int PACK = 16 / sizeof(T);

struct alignas(16) Pack {
    T values[PACK];
};

// Whether all of `count` values from `p` on can be read in whole packs.
DEVICE bool packed(const void *p) { return ((unsigned long long)p & 15) == 0; }

constexpr int WARP = 32;

DEVICE float warp_sum(float x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

DEVICE double warp_sum(double x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

DEVICE float warp_max(float x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// The sum over all threads of a block of whole warps; every thread gets it. `slots` has one float a warp.
DEVICE float block_sum(float x, float *slots) {
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    int warps = (blockDim.x * blockDim.y + WARP - 1) / WARP;
    x = warp_sum(x);
    __syncthreads();
    if (thread % WARP == 0) slots[thread / WARP] = x;
    __syncthreads();
    float total = 0;
    for (int warp = 0; warp < warps; ++warp) total += slots[warp];
    return total;
}

DEVICE float block_max(float x, float *slots) {
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    int warps = (blockDim.x * blockDim.y + WARP - 1) / WARP;
    x = warp_max(x);
    __syncthreads();
    if (thread % WARP == 0) slots[thread / WARP] = x;
    __syncthreads();
    float most = slots[0];
    for (int warp = 1; warp < warps; ++warp) most = fmaxf(most, slots[warp]);
    return most;
}
