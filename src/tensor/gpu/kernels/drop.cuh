// Dropout and stochastic depth, with the masks of `ops/drop.rs`.
#pragma once
#include "columns.cuh"
#include "philox.cuh"

struct alignas(4 * sizeof(T)) Four {
    T values[4];
};

DEVICE T kept(unsigned draw, Count limit, float keep, T x) {
    // A dropped infinity or NaN is dropped too.
    return to<T>((Count)draw < limit || keep == 0.0f ? 0.0f : to_float(x) * keep);
}

// The key of a pass: below the layer's at the two numbers of `turn`, where that is not null.
DEVICE Key key_of(int word0, int word1, const Count *turn) {
    Key key = {{(unsigned)word0, (unsigned)word1}};
    return turn ? below(below(key, turn[0]), turn[1]) : key;
}

// A stream of random numbers for each `block` of values, a multiple of 4. Drops where a draw is below `limit`.
KERNEL(dropout, const T *x, T *y, Count count, Count block, Count limit, float keep, int word0, int word1,
       const Count *turn) {
    Key pass = key_of(word0, word1, turn);
    bool wide = packed(x) && packed(y);
    for (Count first = (Count)blockIdx.x * block; first < count; first += (Count)gridDim.x * block) {
        Key key = below(pass, first / block);
        Count end = first + block < count ? first + block : count;
        for (Count at = first + (Count)threadIdx.x * 4; at < end; at += blockDim.x * 4) {
            Draws drawn = draws(key, (at - first) / 4);
            if (wide && at + 4 <= end) {
                Four four = *reinterpret_cast<const Four *>(x + at);
                for (int i = 0; i < 4; ++i) four.values[i] = kept(drawn.values[i], limit, keep, four.values[i]);
                *reinterpret_cast<Four *>(y + at) = four;
            } else {
                for (int i = 0; i < 4 && at + i < end; ++i) y[at + i] = kept(drawn.values[i], limit, keep, x[at + i]);
            }
        }
    }
}

template <int W>
DEVICE void drop_path_body(const T *x, T *y, Count samples, Count size, Count limit, float keep, Key key) {
    for (Count sample = blockIdx.y; sample < samples; sample += gridDim.y) {
        Draws drawn = draws(below(key, sample), 0);
        Count draw = ((Count)(drawn.values[0] >> 5) << 26) + (drawn.values[1] >> 6);
        bool dropped = draw < limit || keep == 0.0f;
        FOR_EACH(i, size / W) {
            float values[W] = {};
            if (!dropped) load<W>(x + sample * size + i * W, values);
            for (int j = 0; j < W; ++j) values[j] *= keep;
            store<W>(y + sample * size + i * W, values);
        }
    }
}

// Drops whole samples of `size` values where the 53 bits drawn are below `limit`. Samples are the blocks in y.
KERNEL(drop_path, const T *x, T *y, Count samples, Count size, Count limit, float keep, int word0, int word1,
       const Count *turn, int wide) {
    Key key = key_of(word0, word1, turn);
    WIDE_OR_NARROW(drop_path_body, x, y, samples, size, limit, keep, key);
}
