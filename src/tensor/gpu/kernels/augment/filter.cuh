// Changes of a pixel by its neighbours: `augment/filters.rs` and `augment/elastic.rs`.
#pragma once
#include "noise.cuh"

// A weighted sum of three, added to a sum.
DEVICE float add_products(float sum, const Byte *middle, float own, float other) {
    float products = __fmul_rn((float)middle[-3], other);
    products = __fadd_rn(products, __fmul_rn((float)middle[0], own));
    products = __fadd_rn(products, __fmul_rn((float)middle[3], other));
    return __fadd_rn(sum, products);
}

APART void sharpen(Canvas &c, float factor) {
    const float other = 1.0f / 13.0f, own = 5.0f / 13.0f;
    int line = c.width * 3;
    SHARE(i, c.values()) {
        int y = i / line, at = i % line;
        Byte smooth = c.here[i];
        if (y > 0 && y < c.height - 1 && at >= 3 && at < line - 3) {
            float sum = add_products(0.5f, c.here + i + line, other, other);
            sum = add_products(sum, c.here + i, own, other);
            smooth = clipped(add_products(sum, c.here + i - line, other, other));
        }
        c.there[i] = blend(smooth, c.here[i], factor);
    }
    exchange(c);
}

// A kernel of weights in f32, and room behind it.
struct Weights {
    int count;
    float *values, *behind;
};

// From how many there are and these.
DEVICE Weights note_weights(const Canvas &c, const double *words) {
    Weights w = {(int)words[0], (float *)c.notes, (float *)c.notes + ((int)words[0] + 3) / 4 * 4};
    SHARE(i, w.count) w.values[i] = (float)words[1 + i];
    __syncthreads();
    return w;
}

// The sum at `at` of `size` samples that lie `step` apart, mirrored at the borders.
template <class V> DEVICE float smoothed(const Weights &w, const V *samples, int at, int size, int step) {
    float sum = 0.0f;
    int first = at - w.count / 2;
    for (int n = 0; n < w.count; ++n) {
        sum = __fadd_rn(sum, __fmul_rn((float)samples[reflected(first + n, size) * step], w.values[n]));
    }
    return sum;
}

APART void blur(const Canvas &c, const double *words) {
    Weights w = note_weights(c, words);
    int line = c.width * 3;
    SHARE(i, c.values()) {
        int at = i % line;
        w.behind[i] = smoothed(w, c.here + i - at + at % 3, at / 3, c.width, 3);
    }
    __syncthreads();
    SHARE(i, c.values()) {
        c.here[i] = clipped(rintf(smoothed(w, w.behind + i % line, i / line, c.height, line)));
    }
}

// Reads between pixels, where zeros lie outside, and blends that with the fill by the share that lies inside.
DEVICE void read_blended(const Canvas &c, float x, float y, int fill, Byte *out) {
    float left = floorf(x), top = floorf(y), dx = x - left, dy = y - top;
    float sums[3] = {0.0f, 0.0f, 0.0f}, inside = 0.0f;
    for (int corner = 0; corner < 4; ++corner) {
        float cx = left + (corner & 1), cy = top + (corner >> 1);
        float weight = (corner & 1 ? dx : 1.0f - dx) * (corner >> 1 ? dy : 1.0f - dy);
        if (cx >= 0.0f && cy >= 0.0f && cx < c.width && cy < c.height) {
            const Byte *pixel = c.here + ((int)cy * c.width + (int)cx) * 3;
            for (int k = 0; k < 3; ++k) sums[k] = __fadd_rn(sums[k], __fmul_rn(weight, (float)pixel[k]));
            inside = __fadd_rn(inside, weight);
        }
    }
    Byte colour[3];
    put_colour(colour, fill);
    for (int k = 0; k < 3; ++k) {
        out[k] = clipped(rintf(__fadd_rn(__fmul_rn(sums[k], inside), __fmul_rn(1.0f - inside, (float)colour[k]))));
    }
}

// Smooth noise of -1..1, one number a pixel, in the plane behind the weights; the other planes are used up.
DEVICE void smooth_noise(const Canvas &c, const Weights &w, const Stream &s, float *smooth, float *other) {
    SHARE(i, c.pixels()) smooth[i] = (float)__dadd_rn(-1.0, 2.0 * uniform(s, 2 * (Count)i));
    __syncthreads();
    if (w.count == 1) return;
    SHARE(i, c.pixels()) other[i] = smoothed(w, smooth + i - i % c.width, i % c.width, c.width, 1);
    __syncthreads();
    SHARE(i, c.pixels()) smooth[i] = smoothed(w, other + i % c.width, i / c.width, c.height, c.width);
    __syncthreads();
}

APART void bend(Canvas &c, const double *words) {
    float strength = (float)words[0];
    Stream along_x = stream(words + 2), along_y = along_x;
    along_y.at += 2 * (Count)c.pixels();
    Weights w = note_weights(c, words + 5);
    float *dx = w.behind, *dy = dx + c.pixels(), *other = dy + c.pixels();
    smooth_noise(c, w, along_x, dx, other);
    smooth_noise(c, w, along_y, dy, other);
    SHARE(i, c.pixels()) {
        float x = __fadd_rn((float)(i % c.width), __fmul_rn(dx[i], strength));
        float y = __fadd_rn((float)(i / c.width), __fmul_rn(dy[i], strength));
        read_blended(c, x, y, (int)words[1], c.there + i * 3);
    }
    exchange(c);
}
