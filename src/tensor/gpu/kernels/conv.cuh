// Around convolutions: weights from torch's order to channels last and back, and depthwise convolution.
#pragma once
#include "pixels.cuh"

// (out, in, taps) in f32 to (out, taps, in).
KERNEL(pack_weight, const float *weight, T *packed, Count outputs, Count inputs, Count taps) {
    FOR_EACH(i, outputs * inputs * taps) {
        Count input = i % inputs, tap = i / inputs % taps, output = i / inputs / taps;
        packed[i] = to<T>(weight[(output * inputs + input) * taps + tap]);
    }
}

// And back, of the gradient.
KERNEL(unpack_weight, const T *packed, float *weight, Count outputs, Count inputs, Count taps) {
    FOR_EACH(i, outputs * inputs * taps) {
        Count tap = i % taps, input = i / taps % inputs, output = i / taps / inputs;
        weight[i] = to_float(packed[(output * taps + tap) * inputs + input]);
    }
}

// (channels, taps) to (taps, channels), both f32.
KERNEL(turn_taps, const float *weight, float *turned, Count channels, Count taps) {
    FOR_EACH(i, channels * taps) turned[i] = weight[i % channels * taps + i / channels];
}

template <int W>
DEVICE void depthwise_forward_body(const T *x, const float *weight, T *y, Count rows, Count channels, Window d) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, d.out_h, d.out_w);
        const T *image = x + at.image * d.in_h * d.in_w * channels + channel;
        float sums[W] = {};
        for (int a = 0; a < d.kernel_h; ++a) {
            int iy = d.source_y(at.y, a);
            if (iy < 0 || iy >= d.in_h) continue;
            for (int b = 0; b < d.kernel_w; ++b) {
                int ix = d.source_x(at.x, b);
                if (ix < 0 || ix >= d.in_w) continue;
                float values[W], factors[W];
                load<W>(image + ((Count)iy * d.in_w + ix) * channels, values);
                load_channels<W>(weight + (a * d.kernel_w + b) * channels, channel, factors);
                for (int i = 0; i < W; ++i) sums[i] += values[i] * factors[i];
            }
        }
        store<W>(y + row * channels + channel, sums);
    }
}

// `weight` is (taps, channels); `rows` are the output's pixels.
KERNEL(depthwise_forward, const T *x, const float *weight, T *y, Count rows, Count channels, int wide,
       WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(depthwise_forward_body, x, weight, y, rows, channels, WINDOW);
}

template <int W>
DEVICE void depthwise_input_body(const T *dy, const float *weight, T *dx, Count rows, Count channels, Window d) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, d.in_h, d.in_w);
        const T *image = dy + at.image * d.out_h * d.out_w * channels + channel;
        float sums[W] = {};
        for (int a = 0; a < d.kernel_h; ++a) {
            int oy = d.sink_y(at.y, a);
            if (oy < 0) continue;
            for (int b = 0; b < d.kernel_w; ++b) {
                int ox = d.sink_x(at.x, b);
                if (ox < 0) continue;
                float values[W], factors[W];
                load<W>(image + ((Count)oy * d.out_w + ox) * channels, values);
                load_channels<W>(weight + (a * d.kernel_w + b) * channels, channel, factors);
                for (int i = 0; i < W; ++i) sums[i] += values[i] * factors[i];
            }
        }
        store<W>(dx + row * channels + channel, sums);
    }
}

// `rows` are the input's pixels.
KERNEL(depthwise_input_gradient, const T *dy, const float *weight, T *dx, Count rows, Count channels, int wide,
       WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(depthwise_input_body, dy, weight, dx, rows, channels, WINDOW);
}

template <int W>
DEVICE void depthwise_weight_body(const T *x, const T *dy, float *partial, Count rows, Count channels, Window d) {
    Count channel = first_channel<W>();
    int a = blockIdx.z / d.kernel_w, b = blockIdx.z % d.kernel_w;
    float sums[W] = {};
    if (channel < channels) {
        FOR_EACH_ROW(row, rows) {
            Pixel at = pixel(row, d.out_h, d.out_w);
            int iy = d.source_y(at.y, a), ix = d.source_x(at.x, b);
            if (iy < 0 || iy >= d.in_h || ix < 0 || ix >= d.in_w) continue;
            float values[W], slopes[W];
            load<W>(x + ((at.image * d.in_h + iy) * d.in_w + ix) * channels + channel, values);
            load<W>(dy + row * channels + channel, slopes);
            for (int i = 0; i < W; ++i) sums[i] += values[i] * slopes[i];
        }
    }
    write_partial<W>(sums, partial + (Count)blockIdx.z * gridDim.y * channels, channels);
}

// A tap for each block in z; `partial` is (taps, gridDim.y, channels), `rows` are the output's pixels. What the taps read
// again comes from the caches: their blocks run side by side.
KERNEL(depthwise_weight_partial, const T *x, const T *dy, float *partial, Count rows, Count channels, int wide,
       WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(depthwise_weight_body, x, dy, partial, rows, channels, WINDOW);
}

KERNEL(depthwise_weight_final, const float *partial, float *weight, Count chunks, Count channels, Count taps) {
    Count column = LAST_COLUMN, tap = column / channels, channel = column % channels;
    bool inside = tap < taps;
    double sum = sum_chunks(partial + tap * chunks * channels, chunks, channels, channel, inside);
    if (threadIdx.y == 0 && inside) weight[channel * taps + tap] = (float)sum;
}
