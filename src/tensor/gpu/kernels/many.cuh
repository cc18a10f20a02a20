// Many tensors as one: a block works on one chunk of one of them. Columns say where each tensor lies; null where it is
// not there.
#pragma once
#include "common.cuh"

constexpr Count CHUNK = 1 << 13;

struct Chunk {
    Count tensor, start, size;
};

using Places = float *const *;

// Elements from the chunk's first to the end of the tensor or of the chunk.
DEVICE Count chunk_size(const Chunk &chunk) { return chunk.size - chunk.start < CHUNK ? chunk.size - chunk.start : CHUNK; }

// Which of its tensor's chunks a chunk is, and how many they are.
DEVICE Count chunk_number(const Chunk &chunk) { return chunk.start / CHUNK; }
DEVICE Count chunk_count(const Chunk &chunk) { return (chunk.size + CHUNK - 1) / CHUNK; }

DEVICE float *chunk_of(Places column, const Chunk &chunk) {
    float *tensor = column[chunk.tensor];
    return tensor ? tensor + chunk.start : nullptr;
}

constexpr int QUAD = 4;

struct alignas(16) Quad {
    float values[QUAD];
};

// Calls `work` with the new values of each element of `N` arrays, which it changes in place, four at a time where that
// is possible. Only the first `KEPT` arrays are written.
template <int N, int KEPT, class Work> DEVICE void each(Count size, float *const (&arrays)[N], Work work) {
    bool whole = true;
#pragma unroll
    for (int k = 0; k < N; ++k) whole = whole && packed(arrays[k]);
    for (Count i = (Count)threadIdx.x * QUAD; i < size; i += (Count)blockDim.x * QUAD) {
        if (whole && i + QUAD <= size) {
            Quad quads[N];
#pragma unroll
            for (int k = 0; k < N; ++k) quads[k] = *reinterpret_cast<const Quad *>(arrays[k] + i);
#pragma unroll
            for (int j = 0; j < QUAD; ++j) {
                float own[N];
#pragma unroll
                for (int k = 0; k < N; ++k) own[k] = quads[k].values[j];
                work(own, i + j);
#pragma unroll
                for (int k = 0; k < KEPT; ++k) quads[k].values[j] = own[k];
            }
#pragma unroll
            for (int k = 0; k < KEPT; ++k) *reinterpret_cast<Quad *>(arrays[k] + i) = quads[k];
        } else {
            for (Count j = i; j < i + QUAD && j < size; ++j) {
                float own[N];
#pragma unroll
                for (int k = 0; k < N; ++k) own[k] = arrays[k][j];
                work(own, j);
#pragma unroll
                for (int k = 0; k < KEPT; ++k) arrays[k][j] = own[k];
            }
        }
    }
}

// These kernels work on f32 whatever the activations are, and are in one module only.
#ifdef TYPE_f32

// The norm of a chunk's tensor, of every `stride`-th number of `sums`.
DEVICE float tensor_norm(const float *sums, int stride, const Chunk &chunk) {
    SHARED float shared[WARP];
    const float *first = sums + ((Count)blockIdx.x - chunk_number(chunk)) * stride;
    float sum = 0;
    for (Count i = threadIdx.x; i < chunk_count(chunk); i += blockDim.x) sum += first[i * stride];
    return sqrtf(block_sum(sum, shared));
}

// `sum = old + new`, where there is a new one.
KERNEL(add_many, const Chunk *chunks, Places sums, Places olds, Places news) {
    Chunk chunk = chunks[blockIdx.x];
    float *arrays[] = {chunk_of(sums, chunk), chunk_of(olds, chunk), chunk_of(news, chunk)};
    if (!arrays[2]) return;
    each<3, 1>(chunk_size(chunk), arrays, [=](float *own, Count) { own[0] = own[1] + own[2]; });
}

// Where there is something to copy.
KERNEL(copy_many, const Chunk *chunks, Places to, Places from) {
    Chunk chunk = chunks[blockIdx.x];
    float *arrays[] = {chunk_of(to, chunk), chunk_of(from, chunk)};
    if (!arrays[1]) return;
    each<2, 1>(chunk_size(chunk), arrays, [=](float *own, Count) { own[0] = own[1]; });
}

// Moves averages towards new values.
KERNEL(average_many, const Chunk *chunks, Places averages, Places news, float keep, float take) {
    Chunk chunk = chunks[blockIdx.x];
    float *arrays[] = {chunk_of(averages, chunk), chunk_of(news, chunk)};
    each<2, 1>(chunk_size(chunk), arrays, [=](float *own, Count) { own[0] = own[0] * keep + own[1] * take; });
}

KERNEL(copy_counters, const Chunk *chunks, Count *const *to, const Count *const *from) {
    Chunk chunk = chunks[blockIdx.x];
    for (Count i = threadIdx.x; i < chunk_size(chunk); i += blockDim.x)
        to[chunk.tensor][chunk.start + i] = from[chunk.tensor][chunk.start + i];
}

#endif
