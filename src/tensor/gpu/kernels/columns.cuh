// Work on (rows, channels) values, channel by channel: a thread keeps its channels and walks down the rows, so that what
// belongs to a channel stays in registers. Blocks are (channels / width, rows); see `Columns` in Rust.
#pragma once
#include "common.cuh"

#define FOR_EACH_ROW(row, rows) \
    for (Count row = (Count)blockIdx.y * blockDim.y + threadIdx.y; row < (rows); row += (Count)gridDim.y * blockDim.y)

// The first of this thread's `W` channels.
template <int W> DEVICE Count first_channel() { return ((Count)blockIdx.x * blockDim.x + threadIdx.x) * W; }

template <int W> DEVICE void load(const T *p, float (&values)[W]) {
    if (W == PACK) {
        Pack pack = *reinterpret_cast<const Pack *>(p);
        for (int i = 0; i < W; ++i) values[i] = to_float(pack.values[i]);
    } else {
        for (int i = 0; i < W; ++i) values[i] = to_float(p[i]);
    }
}

template <int W> DEVICE void store(T *p, const float (&values)[W]) {
    if (W == PACK) {
        Pack pack;
        for (int i = 0; i < W; ++i) pack.values[i] = to<T>(values[i]);
        *reinterpret_cast<Pack *>(p) = pack;
    } else {
        for (int i = 0; i < W; ++i) p[i] = to<T>(values[i]);
    }
}

// Parameters of a thread's channels.
template <int W> DEVICE void load_channels(const float *p, Count channel, float (&values)[W]) {
    for (int i = 0; i < W; ++i) values[i] = p[channel + i];
}

// Adds up a block's threads with the same channels and writes the sums of this block's rows as a row of `partial`
// (gridDim.y, width) from `column` on, where that is `inside`. All threads of the block must call it.
template <int W>
DEVICE void write_partial_at(float (&sums)[W], float *partial, Count width, Count column, bool inside) {
    DYNAMIC_SHARED(float, shared);
    int across = blockDim.x * W;
    __syncthreads();
    for (int i = 0; i < W; ++i) shared[threadIdx.y * across + threadIdx.x * W + i] = sums[i];
    __syncthreads();
    if (threadIdx.y > 0 || !inside) return;
    for (int i = 0; i < W; ++i) {
        float total = 0;
        for (unsigned y = 0; y < blockDim.y; ++y) total += shared[y * across + threadIdx.x * W + i];
        partial[blockIdx.y * width + column + i] = total;
    }
}

// The same of `partial` (gridDim.y, channels).
template <int W> DEVICE void write_partial(float (&sums)[W], float *partial, Count channels) {
    Count channel = first_channel<W>();
    write_partial_at<W>(sums, partial, channels, channel, channel < channels);
}

DEVICE double sum_partials(const float *partial, Count chunks, Count channels, Count channel) {
    double total = 0;
    for (Count chunk = 0; chunk < chunks; ++chunk) total += (double)partial[chunk * channels + channel];
    return total;
}

// Runs `body<W>` with the widest `W` that fits, as the host has decided.
#define WIDE_OR_NARROW(body, ...) \
    if (wide) body<PACK>(__VA_ARGS__); \
    else body<1>(__VA_ARGS__)

template <int W> DEVICE void column_sums_body(const T *x, float *partial, Count rows, Count channels) {
    Count channel = first_channel<W>();
    float sums[W] = {};
    if (channel < channels) {
        FOR_EACH_ROW(row, rows) {
            float values[W];
            load<W>(x + row * channels + channel, values);
            for (int i = 0; i < W; ++i) sums[i] += values[i];
        }
    }
    write_partial<W>(sums, partial, channels);
}

KERNEL(column_sums_partial, const T *x, float *partial, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(column_sums_body, x, partial, rows, channels);
}

// A column's share of a sum in the threads of a block below each other, added up in the first of them.
constexpr int MOST_DOWN = 32;
DEVICE double sum_down(double share) {
    SHARED double shares[MOST_DOWN][WARP];
    __syncthreads();
    shares[threadIdx.y][threadIdx.x] = share;
    __syncthreads();
    double total = 0;
    for (unsigned y = 0; threadIdx.y == 0 && y < blockDim.y; ++y) total += shares[y][threadIdx.x];
    return total;
}

// The same of a column of `partial` (chunks, width). All threads of the block must call it.
DEVICE double sum_chunks(const float *partial, Count chunks, Count width, Count column, bool inside) {
    double share = 0;
    for (Count chunk = threadIdx.y; inside && chunk < chunks; chunk += blockDim.y) {
        share += (double)partial[chunk * width + column];
    }
    return sum_down(share);
}

// The last steps of sums run in blocks of a warp of columns, with threads below each other.
#define LAST_COLUMN ((Count)blockIdx.x * WARP + threadIdx.x)

// The sums of `partial` (chunks, channels), or of (chunks, 2, channels) where there is a `second`.
KERNEL(column_sums_final, const float *partial, float *first, float *second, Count chunks, Count channels) {
    Count width = second ? 2 * channels : channels, column = LAST_COLUMN;
    double sum = sum_chunks(partial, chunks, width, column, column < width);
    if (threadIdx.y > 0 || column >= width) return;
    if (column < channels) first[column] = (float)sum;
    else second[column - channels] = (float)sum;
}

template <int W> DEVICE void add_bias_body(T *y, const float *bias, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    float shift[W];
    load_channels<W>(bias, channel, shift);
    FOR_EACH_ROW(row, rows) {
        float values[W];
        load<W>(y + row * channels + channel, values);
        for (int i = 0; i < W; ++i) values[i] += shift[i];
        store<W>(y + row * channels + channel, values);
    }
}

// In place.
KERNEL(add_bias, T *y, const float *bias, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(add_bias_body, y, bias, rows, channels);
}

// To the type of the activations.
KERNEL(cast, const float *x, T *y, Count count) {
    FOR_EACH(i, count) y[i] = to<T>(x[i]);
}

KERNEL(cast_to_f32, const T *x, float *y, Count count) {
    FOR_EACH(i, count) y[i] = to_float(x[i]);
}
