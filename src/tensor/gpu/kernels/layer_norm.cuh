// Layer normalization over the last axis. A row is read again from the caches rather than kept in registers.
#pragma once
#include "rows.cuh"

template <int W>
DEVICE void layer_norm_body(const T *x, const float *weight, const float *bias, T *y, float *statistics, Count rows,
                            Count width, float eps) {
    FOR_EACH_WARP(row, rows) {
        const T *from = x + row * width;
        float sum = 0, squares = 0;
        FOR_EACH_IN_ROW(at, width) {
            float values[W];
            load<W>(from + at, values);
            for (int i = 0; i < W; ++i) sum += values[i];
        }
        float mean = warp_sum(sum) / width;
        FOR_EACH_IN_ROW(at, width) {
            float values[W];
            load<W>(from + at, values);
            for (int i = 0; i < W; ++i) squares += (values[i] - mean) * (values[i] - mean);
        }
        float inverse = 1.0f / sqrtf(warp_sum(squares) / width + eps);
        FOR_EACH_IN_ROW(at, width) {
            float values[W], factor[W], shift[W];
            load<W>(from + at, values);
            load_channels<W>(weight, at, factor);
            load_channels<W>(bias, at, shift);
            for (int i = 0; i < W; ++i) values[i] = (values[i] - mean) * inverse * factor[i] + shift[i];
            store<W>(y + row * width + at, values);
        }
        if (threadIdx.x % WARP == 0) {
            statistics[2 * row] = mean;
            statistics[2 * row + 1] = inverse;
        }
    }
}

// `statistics` is (rows, 2): each row's mean and 1 / sqrt(var + eps).
KERNEL(layer_norm, const T *x, const float *weight, const float *bias, T *y, float *statistics, Count rows, Count width,
       float eps, int wide) {
    WIDE_OR_NARROW(layer_norm_body, x, weight, bias, y, statistics, rows, width, eps);
}

// With `normal` the normalized row and g = dy * weight: dx = (g - mean(g) - normal * mean(g * normal)) / sqrt(var + eps).
template <int W>
DEVICE void layer_norm_gradient_body(const T *x, const T *dy, const float *weight, const float *statistics, T *dx,
                                     Count rows, Count width) {
    FOR_EACH_WARP(row, rows) {
        float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
        float shift = 0, tilt = 0;
        FOR_EACH_IN_ROW(at, width) {
            float values[W], slopes[W], factor[W];
            load<W>(x + row * width + at, values);
            load<W>(dy + row * width + at, slopes);
            load_channels<W>(weight, at, factor);
            for (int i = 0; i < W; ++i) {
                float gradient = slopes[i] * factor[i];
                shift += gradient;
                tilt += gradient * (values[i] - mean) * inverse;
            }
        }
        shift = warp_sum(shift) / width;
        tilt = warp_sum(tilt) / width;
        FOR_EACH_IN_ROW(at, width) {
            float values[W], slopes[W], factor[W];
            load<W>(x + row * width + at, values);
            load<W>(dy + row * width + at, slopes);
            load_channels<W>(weight, at, factor);
            for (int i = 0; i < W; ++i) {
                float normal = (values[i] - mean) * inverse;
                values[i] = (slopes[i] * factor[i] - shift - normal * tilt) * inverse;
            }
            store<W>(dx + row * width + at, values);
        }
    }
}

KERNEL(layer_norm_gradient, const T *x, const T *dy, const float *weight, const float *statistics, T *dx, Count rows,
       Count width, int wide) {
    WIDE_OR_NARROW(layer_norm_gradient_body, x, dy, weight, statistics, dx, rows, width);
}

template <int W>
DEVICE void layer_norm_sums_body(const T *x, const T *dy, const float *statistics, float *partial, Count rows,
                                 Count channels) {
    Count channel = first_channel<W>();
    float sums[W] = {}, products[W] = {};
    if (channel < channels) {
        FOR_EACH_ROW(row, rows) {
            float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
            float values[W], slopes[W];
            load<W>(x + row * channels + channel, values);
            load<W>(dy + row * channels + channel, slopes);
            for (int i = 0; i < W; ++i) {
                sums[i] += slopes[i];
                products[i] += slopes[i] * (values[i] - mean) * inverse;
            }
        }
    }
    // Side by side, so that one `column_sums_final` takes both.
    write_partial_at<W>(products, partial, 2 * channels, channel, channel < channels);
    write_partial_at<W>(sums, partial, 2 * channels, channels + channel, channel < channels);
}

// `partial` is (gridDim.y, 2, channels): the gradients of weight and bias.
KERNEL(layer_norm_sums, const T *x, const T *dy, const float *statistics, float *partial, Count rows, Count channels,
       int wide) {
    WIDE_OR_NARROW(layer_norm_sums_body, x, dy, statistics, partial, rows, channels);
}
