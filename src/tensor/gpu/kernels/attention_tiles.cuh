// Attention that keeps its scores on the chip (Dao et al. 2022, arXiv:2205.14135), on tensor cores: a block has 64 rows of
// one head of one image, each of its four warps 16 of them, and walks over tiles of 64 others. Backward, one kernel walks
// over keys and one over queries, so that every gradient has one writer and sums the same way every time.
//
// Softmax works in powers of two: `scale` is log2(e) / sqrt(depth).
#pragma once
#include "mma.cuh"

#ifndef TYPE_f32

constexpr int TILE = 64;        // Rows of a tile.
constexpr int DEPTH = 64;       // The deepest head; others are filled up with zeros.
constexpr int PITCH = DEPTH + 8; // So that the rows that a warp reads at once lie in different banks.

using Tile = T[TILE][PITCH];
using Factor = unsigned[DEPTH / 16][4];   // A warp's 16 rows of a tile as a left factor.
using Scores = float[TILE / 8][4];        // A warp's 16 rows against a tile.
using Output = float[DEPTH / 8][4];       // A warp's 16 rows of a result.

#define LANE_ROW ((int)threadIdx.x % WARP / 4)
#define LANE_COLUMN ((int)threadIdx.x % 4 * 2)
#define WARP_ROW ((int)threadIdx.x / WARP * 16)

// A head of an image: rows of `depth` values, `stride` apart.
struct Head {
    Count image, head, stride;
    int tokens, depth;

    DEVICE Count at(int token) const { return (image * tokens + token) * stride + head * depth; }
};

// Rows from `first` on; zeros outside.
DEVICE void load_tile(Tile &tile, const T *values, const Head &head, int first) {
    constexpr int PACKS = DEPTH / PACK;
    for (int i = threadIdx.x; i < TILE * PACKS; i += blockDim.x) {
        int row = i / PACKS, at = i % PACKS * PACK;
        Pack pack;
        UNROLL
        for (int j = 0; j < PACK; ++j) pack.values[j] = to<T>(0.0f);
        if (first + row < head.tokens && at < head.depth) {
            pack = *reinterpret_cast<const Pack *>(values + head.at(first + row) + at);
        }
        *reinterpret_cast<Pack *>(&tile[row][at]) = pack;
    }
}

DEVICE void load_factor(Factor &factor, const Tile &tile) {
    const T *row = &tile[WARP_ROW + LANE_ROW][LANE_COLUMN];
    UNROLL
    for (int k = 0; k < DEPTH / 16; ++k) {
        factor[k][0] = load_pair(row + 16 * k);
        factor[k][1] = load_pair(row + 16 * k + 8 * PITCH);
        factor[k][2] = load_pair(row + 16 * k + 8);
        factor[k][3] = load_pair(row + 16 * k + 8 * PITCH + 8);
    }
}

// Through `tile`, which is free again behind it.
DEVICE void load_factor(Factor &factor, Tile &tile, const T *values, const Head &head, int first) {
    __syncthreads();
    load_tile(tile, values, head, first);
    __syncthreads();
    load_factor(factor, tile);
    __syncthreads();
}

// scores = factor tile^T.
DEVICE void compare(Scores &scores, const Factor &factor, const Tile &tile) {
    UNROLL
    for (int n = 0; n < TILE / 8; ++n) {
        const T *row = &tile[8 * n + LANE_ROW][LANE_COLUMN];
        UNROLL
        for (int i = 0; i < 4; ++i) scores[n][i] = 0;
        UNROLL
        for (int k = 0; k < DEPTH / 16; ++k) {
            unsigned right[2] = {load_pair(row + 16 * k), load_pair(row + 16 * k + 8)};
            multiply_add(scores[n], factor[k], right);
        }
    }
}

// output += weights tile.
DEVICE void add_weighted(Output &output, const Scores &scores, const Tile &tile) {
    int lane = threadIdx.x % WARP;
    UNROLL
    for (int k = 0; k < TILE / 16; ++k) {
        unsigned weights[4] = {
            make_pair(scores[2 * k][0], scores[2 * k][1]), make_pair(scores[2 * k][2], scores[2 * k][3]),
            make_pair(scores[2 * k + 1][0], scores[2 * k + 1][1]), make_pair(scores[2 * k + 1][2], scores[2 * k + 1][3])};
        UNROLL
        for (int n = 0; n < DEPTH / 16; ++n) {
            unsigned right[4];
            load_turned(right, &tile[16 * k + lane % 16][16 * n + lane / 16 * 8]);
            unsigned left[2] = {right[0], right[1]}, next[2] = {right[2], right[3]};
            multiply_add(output[2 * n], weights, left);
            multiply_add(output[2 * n + 1], weights, next);
        }
    }
}

// Rows from `first` on, times a factor for either of the lane's rows.
DEVICE void store_rows(T *values, const Head &head, int first, const Output &output, float upper, float lower) {
    int row = first + WARP_ROW + LANE_ROW;
    UNROLL
    for (int n = 0; n < DEPTH / 8; ++n) {
        int column = 8 * n + LANE_COLUMN;
        if (column >= head.depth) break;
        if (row < head.tokens) store_pair(values + head.at(row) + column, output[n][0] * upper, output[n][1] * upper);
        if (row + 8 >= head.tokens) continue;
        store_pair(values + head.at(row + 8) + column, output[n][2] * lower, output[n][3] * lower);
    }
}

// Over the four lanes that share a row.
DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// One step of softmax over a row that comes in pieces (Milakov & Gimelshein 2018, arXiv:1805.02867): makes weights of the
// scores of the lane's row `half` and brings what has been summed so far to the new maximum.
DEVICE void soften(Scores &scores, int half, float &most, float &total, Output &output) {
    float largest = most;
    UNROLL
    for (int n = 0; n < TILE / 8; ++n) largest = fmaxf(largest, fmaxf(scores[n][half], scores[n][half + 1]));
    largest = quad_max(largest);
    float shrink = exp2f(most - largest);
    most = largest;
    total *= shrink;
    UNROLL
    for (int n = 0; n < TILE / 8; ++n) {
        UNROLL
        for (int i = half; i < half + 2; ++i) {
            scores[n][i] = exp2f(scores[n][i] - most);
            total += scores[n][i];
        }
    }
    UNROLL
    for (int n = 0; n < DEPTH / 8; ++n) {
        UNROLL
        for (int i = half; i < half + 2; ++i) output[n][i] *= shrink;
    }
}

#define ATTENTION_HEADS \
    Count image = blockIdx.x / heads, head = blockIdx.x % heads, width = (Count)heads * depth; \
    Head packed_head = {image, head, 3 * width, tokens, depth}, plain_head = {image, head, width, tokens, depth}; \
    const T *queries = qkv, *keys = qkv + width, *values = qkv + 2 * width; \
    Count row_values = (Count)blockIdx.x * tokens; \
    int first = blockIdx.y * TILE; \
    SHARED Pack memory[2][TILE * PITCH / PACK]; \
    Tile &one = *reinterpret_cast<Tile *>(memory[0]), &two = *reinterpret_cast<Tile *>(memory[1])

// Blocks are (images * heads, tiles of queries); `qkv` is (images, tokens, 3, heads, depth), `y` (images, tokens, heads,
// depth), `logs` (images, heads, tokens): the logarithm of each row's sum of powers.
KERNEL(attention, const T *qkv, T *y, float *logs, int tokens, int heads, int depth, float scale) {
    ATTENTION_HEADS;
    int own = first + WARP_ROW + LANE_ROW;
    Factor query;
    Output output = {};
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {};
    load_factor(query, one, queries, packed_head, first);
    for (int start = 0; start < tokens; start += TILE) {
        __syncthreads();
        load_tile(one, keys, packed_head, start);
        load_tile(two, values, packed_head, start);
        __syncthreads();
        Scores scores;
        compare(scores, query, one);
        UNROLL
        for (int n = 0; n < TILE / 8; ++n) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                bool inside = start + 8 * n + LANE_COLUMN + i % 2 < tokens;
                scores[n][i] = inside ? scores[n][i] * scale : -INFINITY;
            }
        }
        soften(scores, 0, most[0], total[0], output);
        soften(scores, 2, most[1], total[1], output);
        add_weighted(output, scores, two);
    }
    UNROLL
    for (int half = 0; half < 2; ++half) {
        total[half] = quad_sum(total[half]);
        bool writes = own + 8 * half < tokens && LANE_COLUMN == 0;
        if (writes) logs[row_values + own + 8 * half] = most[half] + log2f(total[half]);
    }
    store_rows(y, plain_head, first, output, 1.0f / total[0], 1.0f / total[1]);
}

// The gradient of the queries; also writes each row's sum of y * dy to `means` (images, heads, tokens), which the keys'
// needs. `slope` is 1 / sqrt(depth).
KERNEL(attention_queries, const T *qkv, const T *y, const T *dy, const float *logs, float *means, T *dqkv, int tokens,
       int heads, int depth, float scale, float slope) {
    ATTENTION_HEADS;
    int own = first + WARP_ROW + LANE_ROW;
    Factor query, gradient;
    float mean[2] = {}, log[2];
    {
        Factor result;
        load_factor(result, one, y, plain_head, first);
        load_factor(gradient, one, dy, plain_head, first);
        UNROLL
        for (int k = 0; k < DEPTH / 16; ++k) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                const Pair a = *reinterpret_cast<Pair *>(&result[k][i]), b = *reinterpret_cast<Pair *>(&gradient[k][i]);
                UNROLL
                for (int j = 0; j < 2; ++j) mean[i % 2] += to_float(a.values[j]) * to_float(b.values[j]);
            }
        }
    }
    UNROLL
    for (int half = 0; half < 2; ++half) {
        int row = own + 8 * half;
        mean[half] = quad_sum(mean[half]);
        log[half] = row < tokens ? logs[row_values + row] : INFINITY;
        if (row < tokens && LANE_COLUMN == 0) means[row_values + row] = mean[half];
    }
    load_factor(query, one, queries, packed_head, first);
    Output output = {};
    for (int start = 0; start < tokens; start += TILE) {
        __syncthreads();
        load_tile(one, keys, packed_head, start);
        load_tile(two, values, packed_head, start);
        __syncthreads();
        Scores scores, slopes;
        compare(scores, query, one);
        compare(slopes, gradient, two);
        UNROLL
        for (int n = 0; n < TILE / 8; ++n) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                bool inside = start + 8 * n + LANE_COLUMN + i % 2 < tokens;
                float weight = inside ? exp2f(scores[n][i] * scale - log[i / 2]) : 0.0f;
                scores[n][i] = weight * (slopes[n][i] - mean[i / 2]);
            }
        }
        add_weighted(output, scores, one);
    }
    store_rows(dqkv, packed_head, first, output, slope, slope);
}

// The gradients of keys and values: rows are keys, columns queries.
KERNEL(attention_keys, const T *qkv, const T *dy, const float *logs, const float *means, T *dqkv, int tokens, int heads,
       int depth, float scale, float slope) {
    ATTENTION_HEADS;
    SHARED float log[TILE], mean[TILE];
    Factor key, value;
    Output dkeys = {}, dvalues = {};
    load_factor(key, one, keys, packed_head, first);
    load_factor(value, one, values, packed_head, first);
    for (int start = 0; start < tokens; start += TILE) {
        __syncthreads();
        load_tile(one, queries, packed_head, start);
        load_tile(two, dy, plain_head, start);
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
            log[i] = start + i < tokens ? logs[row_values + start + i] : INFINITY;
            mean[i] = start + i < tokens ? means[row_values + start + i] : 0.0f;
        }
        __syncthreads();
        Scores scores, slopes;
        compare(scores, key, one);
        UNROLL
        for (int n = 0; n < TILE / 8; ++n) {
            UNROLL
            for (int i = 0; i < 4; ++i) scores[n][i] = exp2f(scores[n][i] * scale - log[8 * n + LANE_COLUMN + i % 2]);
        }
        add_weighted(dvalues, scores, two);
        compare(slopes, value, two);
        UNROLL
        for (int n = 0; n < TILE / 8; ++n) {
            UNROLL
            for (int i = 0; i < 4; ++i) scores[n][i] *= slopes[n][i] - mean[8 * n + LANE_COLUMN + i % 2];
        }
        add_weighted(dkeys, scores, one);
    }
    store_rows(dqkv + width, packed_head, first, dkeys, slope, slope);
    store_rows(dqkv + 2 * width, packed_head, first, dvalues, 1.0f, 1.0f);
}

#endif
