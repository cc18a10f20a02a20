// Plays a CUDA device on the host, for tests: a block's threads are fibers that take turns at barriers and shuffles,
// blocks run one after another. Slow, but it finds wrong arithmetic, wrong places and missing barriers.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <string>
#include <ucontext.h>
#include <vector>

#define DEVICE inline
#define SHARED static
#define UNROLL
#define __restrict__ __restrict
#define __global__

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

static dim3 gridDim, blockDim, blockIdx;
static dim3 threadIdx;

// bf16 and f16, rounded to nearest even as the device's conversions do.
struct __nv_bfloat16 { unsigned short bits; };
struct __half { _Float16 value; };
static inline float __bfloat162float(__nv_bfloat16 x) {
    unsigned bits = (unsigned)x.bits << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline __nv_bfloat16 __float2bfloat16(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    if (x != x) return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
static inline float __half2float(__half x) { return (float)x.value; }
static inline __half __float2half(float x) { return {(_Float16)x}; }
// Roundings that the device's compiler must not fuse; the host's does not.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline unsigned atomicAdd(unsigned *at, unsigned value) {
    unsigned before = *at;
    *at += value;
    return before;
}
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

namespace emulated {

constexpr size_t STACK = 1 << 16;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    dim3 index;
    bool done = false;
    // Barriers passed, of the block and of the warp.
    unsigned blocked = 0, warped = 0;
};

static std::vector<Fiber> fibers;
static std::vector<double> deposits;
static ucontext_t scheduler;
static size_t current;
static std::function<void()> body;
static std::vector<unsigned char> dynamic;

static void yield_fiber() { swapcontext(&fibers[current].context, &scheduler); }

static void enter() {
    body();
    fibers[current].done = true;
    yield_fiber();
}

// Waits until all of the fibers from `first` to `last` that still run have come as far.
static void wait(unsigned Fiber::*passed, size_t first, size_t last) {
    unsigned mine = ++(fibers[current].*passed);
    for (;;) {
        bool all = true;
        for (size_t i = first; i < last && all; ++i) all = fibers[i].done || fibers[i].*passed >= mine;
        if (all) return;
        yield_fiber();
    }
}

static void run_block(size_t threads) {
    if (fibers.size() < threads) fibers.resize(threads);
    deposits.assign(threads, 0);
    for (size_t i = 0; i < threads; ++i) {
        Fiber &fiber = fibers[i];
        fiber.index = {(unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x), 0};
        fiber.done = false;
        fiber.blocked = fiber.warped = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    for (size_t left = threads; left > 0;) {
        for (size_t i = 0; i < threads; ++i) {
            if (fibers[i].done) continue;
            current = i;
            threadIdx = fibers[i].index;
            swapcontext(&scheduler, &fibers[i].context);
            left -= fibers[i].done;
        }
    }
}

using Invoke = std::function<void(void **)>;
static std::map<std::string, Invoke> &kernels() {
    static std::map<std::string, Invoke> all;
    return all;
}

template <class... A, size_t... I>
void unpack(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A> *)arguments[I]...);
}

struct Registered {
    template <class... A> Registered(const char *name, void (*kernel)(A...)) {
        kernels()[name] = [=](void **arguments) { unpack(kernel, arguments, std::index_sequence_for<A...>{}); };
    }
};

} // namespace emulated

#define KERNEL(name, ...) \
    static void NAME(name)(__VA_ARGS__); \
    static emulated::Registered NAME(registered_##name)(EMULATED_TEXT(NAME(name)), NAME(name)); \
    static void NAME(name)(__VA_ARGS__)
#define EMULATED_TEXT(name) EMULATED_TEXT_OF(name)
#define EMULATED_TEXT_OF(name) #name
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emulated::dynamic.data())

static inline void __syncthreads() {
    emulated::wait(&emulated::Fiber::blocked, 0, (size_t)blockDim.x * blockDim.y);
}

template <class V> static inline V __shfl_xor_sync(unsigned, V x, int mask) {
    using namespace emulated;
    size_t lane = current, first = lane / 32 * 32, last = std::min<size_t>(first + 32, (size_t)blockDim.x * blockDim.y);
    deposits[lane] = x;
    wait(&Fiber::warped, first, last);
    V other = (V)deposits[lane ^ (size_t)mask];
    wait(&Fiber::warped, first, last);
    return other;
}
static inline void __syncwarp() { __shfl_xor_sync(0, 0, 0); }

namespace emulated {

// What each thread of a block shows to its warp.
static std::vector<std::array<unsigned long long, 6>> shown;

static void show(const std::array<unsigned long long, 6> &words) {
    size_t threads = (size_t)blockDim.x * blockDim.y, first = current / 32 * 32;
    if (shown.size() < threads) shown.resize(threads);
    shown[current] = words;
    wait(&Fiber::warped, first, first + 32);
}

template <class V> float half_of(unsigned long long word, int which) {
    unsigned short bits = (unsigned short)(word >> (16 * which));
    V value;
    memcpy(&value, &bits, 2);
    return to_float(value);
}

// As PTX describes mma.m16n8k16: which thread holds what of the factors and of the product.
template <class V> void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    size_t first = current / 32 * 32, lane = current % 32;
    show({a[0], a[1], a[2], a[3], b[0], b[1]});
    for (size_t i = 0; i < 4; ++i) {
        size_t row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (size_t k = 0; k < 16; ++k) {
            const auto &left = shown[first + row % 8 * 4 + k % 8 / 2], &right = shown[first + column * 4 + k % 8 / 2];
            sums[i] += half_of<V>(left[row / 8 + k / 8 * 2], k % 2) * half_of<V>(right[4 + k / 8], k % 2);
        }
    }
    wait(&Fiber::warped, first, first + 32);
}

// As PTX describes ldmatrix.x4.trans: thread 8 i + j points to row j of matrix i.
static void load_turned(unsigned (&pairs)[4], const void *row) {
    size_t first = current / 32 * 32, lane = current % 32;
    show({(unsigned long long)row});
    for (size_t i = 0; i < 4; ++i) {
        unsigned short two[2];
        for (size_t j = 0; j < 2; ++j) two[j] = ((const unsigned short *)shown[first + i * 8 + lane % 4 * 2 + j][0])[lane / 4];
        memcpy(&pairs[i], two, 4);
    }
    wait(&Fiber::warped, first, first + 32);
}

} // namespace emulated

// 0 where the kernel exists and ran.
extern "C" int emulate(const char *name, const unsigned blocks[3], const unsigned threads[2], unsigned shared, void **arguments) {
    auto found = emulated::kernels().find(name);
    if (found == emulated::kernels().end()) return 1;
    gridDim = {blocks[0], blocks[1], blocks[2]};
    blockDim = {threads[0], threads[1], 1};
    emulated::dynamic.assign(shared + 16, 0xff);
    emulated::body = [&] { found->second(arguments); };
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) emulated::run_block((size_t)threads[0] * threads[1]);
    return 0;
}
