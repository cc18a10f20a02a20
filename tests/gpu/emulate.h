// Plays a CUDA device on the host, for tests: a block's threads run one after another, and where one waits at a barrier or
// for a shuffle the next one goes on, in a fiber of its own. Blocks run one after another. Slow, but it finds wrong
// arithmetic, wrong places and missing barriers.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <array>
#include <functional>
#include <type_traits>
#include <map>
#include <string>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

// Everything else is a library's own: memory that blocks share must not be shared by two libraries of the same kernels.
#define VISIBLE extern "C" __attribute__((visibility("default")))
#define DEVICE inline
#define SHARED static
#define CONSTANT static const
#define APART inline
#define KERNEL_OF(threads, ...) KERNEL(__VA_ARGS__)
#define UNROLL
#define ROLLED
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

// Where threads wait for each other: those of a block, or of a warp.
struct Barrier {
    unsigned running = 0, arrived = 0, passed = 0;

    // Lets all go where the last of those that still run has come.
    void open_if_full() {
        if (arrived < running || running == 0) return;
        arrived = 0;
        ++passed;
    }
};

// What runs threads, one after another, until one has to wait. It is made once; jumps cost no system calls, as switches of
// contexts do.
struct Fiber {
    jmp_buf place;
    std::vector<char> stack = std::vector<char>(STACK);
    size_t thread = 0;
    bool made = false, waits = false;
};

static std::vector<Fiber> fibers;
static Barrier block_barrier;
static std::vector<Barrier> warp_barriers;
static jmp_buf scheduler;
static ucontext_t beginning;
// The fiber and the thread at work, and the first thread that has not begun.
static size_t fiber, current, unbegun;
static std::function<void()> body;
static std::vector<unsigned char> dynamic;

static void be(size_t thread) {
    current = thread;
    threadIdx = {(unsigned)(thread % blockDim.x), (unsigned)(thread / blockDim.x), 0};
}

static void yield_fiber() {
    if (!_setjmp(fibers[fiber].place)) _longjmp(scheduler, 1);
}

static void enter() {
    for (;;) {
        while (unbegun < blockDim.x * blockDim.y) {
            be(unbegun++);
            body();
            for (Barrier *barrier : {&block_barrier, &warp_barriers[current / 32]}) {
                --barrier->running;
                barrier->open_if_full();
            }
        }
        yield_fiber();
    }
}

static void wait(Barrier &barrier) {
    unsigned before = barrier.passed;
    ++barrier.arrived;
    barrier.open_if_full();
    if (barrier.passed != before) return;
    Fiber &own = fibers[fiber];
    own.waits = true;
    own.thread = current;
    while (barrier.passed == before) yield_fiber();
    own.waits = false;
}

// Goes on with a fiber until it yields.
static void resume(size_t which) {
    fiber = which;
    Fiber &next = fibers[which];
    if (next.waits) be(next.thread);
    if (_setjmp(scheduler)) return;
    if (next.made) _longjmp(next.place, 1);
    next.made = true;
    getcontext(&beginning);
    beginning.uc_stack.ss_sp = next.stack.data();
    beginning.uc_stack.ss_size = STACK;
    beginning.uc_link = nullptr;
    makecontext(&beginning, enter, 0);
    setcontext(&beginning);
}

static void run_block(size_t threads) {
    if (fibers.size() < threads) fibers.resize(threads);
    block_barrier = {(unsigned)threads, 0, 0};
    warp_barriers.assign((threads + 31) / 32, {});
    for (size_t i = 0; i < threads; ++i) ++warp_barriers[i / 32].running;
    unbegun = 0;
    // Fibers that have begun: at most one a thread.
    size_t begun = 0;
    while (block_barrier.running > 0) {
        for (size_t i = 0; i < begun; ++i)
            if (fibers[i].waits || unbegun < threads) resume(i);
        while (unbegun < threads) resume(begun++);
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

// Which parameters of a kernel are addresses, the first one in the lowest bit.
struct Parameters {
    int count;
    unsigned long long addresses;
};
static std::map<std::string, Parameters> &parameters() {
    static std::map<std::string, Parameters> all;
    return all;
}

struct Registered {
    template <class... A> Registered(const char *name, void (*kernel)(A...)) {
        kernels()[name] = [=](void **arguments) { unpack(kernel, arguments, std::index_sequence_for<A...>{}); };
        unsigned long long addresses = 0, bit = 1;
        ((addresses |= std::is_pointer_v<A> ? bit : 0, bit <<= 1), ...);
        parameters()[name] = {sizeof...(A), addresses};
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
    emulated::wait(emulated::block_barrier);
}

namespace emulated {

// What each thread of a block shows to its warp: two sets in turn, since nobody shows the next thing but one before all
// have seen this one.
using Words = std::array<unsigned long long, 6>;
static std::vector<Words> shown[2];

static const Words *show(const Words &words) {
    Barrier &barrier = warp_barriers[current / 32];
    std::vector<Words> &set = shown[barrier.passed % 2];
    if (set.size() < warp_barriers.size() * 32) set.resize(warp_barriers.size() * 32);
    set[current] = words;
    wait(barrier);
    return set.data();
}

} // namespace emulated

template <class V> static inline V __shfl_xor_sync(unsigned, V x, int mask) {
    emulated::Words words{};
    memcpy(words.data(), &x, sizeof(V));
    const emulated::Words *shown = emulated::show(words);
    memcpy(&x, shown[emulated::current ^ (size_t)mask].data(), sizeof(V));
    return x;
}
static inline void __syncwarp() { __shfl_xor_sync(0, 0, 0); }

namespace emulated {

template <class V> float half_of(unsigned long long word, int which) {
    unsigned short bits = (unsigned short)(word >> (16 * which));
    V value;
    memcpy(&value, &bits, 2);
    return to_float(value);
}

// As PTX describes mma.m16n8k16: which thread holds what of the factors and of the product.
template <class V> void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    size_t first = current / 32 * 32, lane = current % 32;
    const Words *shown = show({a[0], a[1], a[2], a[3], b[0], b[1]});
    for (size_t i = 0; i < 4; ++i) {
        size_t row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (size_t k = 0; k < 16; ++k) {
            const auto &left = shown[first + row % 8 * 4 + k % 8 / 2], &right = shown[first + column * 4 + k % 8 / 2];
            sums[i] += half_of<V>(left[row / 8 + k / 8 * 2], k % 2) * half_of<V>(right[4 + k / 8], k % 2);
        }
    }
}

// As PTX describes ldmatrix.x4.trans: thread 8 i + j points to row j of matrix i.
static void load_turned(unsigned (&pairs)[4], const void *row) {
    size_t first = current / 32 * 32, lane = current % 32;
    const Words *shown = show({(unsigned long long)row});
    for (size_t i = 0; i < 4; ++i) {
        unsigned short two[2];
        for (size_t j = 0; j < 2; ++j) two[j] = ((const unsigned short *)shown[first + i * 8 + lane % 4 * 2 + j][0])[lane / 4];
        memcpy(&pairs[i], two, 4);
    }
    // Nobody overwrites what another still reads.
    wait(warp_barriers[current / 32]);
}

} // namespace emulated

// How many parameters the kernel has, -1 where there is no such kernel; and which of them are addresses.
VISIBLE int parameters(const char *name, unsigned long long *addresses) {
    auto found = emulated::parameters().find(name);
    if (found == emulated::parameters().end()) return -1;
    *addresses = found->second.addresses;
    return found->second.count;
}

// 0 where the kernel exists and ran.
VISIBLE int emulate(const char *name, const unsigned blocks[3], const unsigned threads[2], unsigned shared, void **arguments) {
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
