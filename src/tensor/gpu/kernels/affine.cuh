// What belongs to each channel: a bias with an activation behind it, and layer scale.
#pragma once
#include "activation.cuh"
#include "columns.cuh"

template <int W>
DEVICE void bias_body(const T *x, const float *bias, T *y, Count rows, Count channels, int kind) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    float shift[W];
    load_channels<W>(bias, channel, shift);
    FOR_EACH_ROW(row, rows) {
        float values[W];
        load<W>(x + row * channels + channel, values);
        for (int i = 0; i < W; ++i) values[i] = activation(kind, values[i] + shift[i]);
        store<W>(y + row * channels + channel, values);
    }
}

KERNEL(bias, const T *x, const float *bias, T *y, Count rows, Count channels, int kind, int wide) {
    WIDE_OR_NARROW(bias_body, x, bias, y, rows, channels, kind);
}

template <int W>
DEVICE void bias_gradient_body(const T *x, const float *bias, const T *dy, T *dx, float *partial, Count rows,
                               Count channels, int kind) {
    Count channel = first_channel<W>();
    float sums[W] = {};
    if (channel < channels) {
        float shift[W];
        load_channels<W>(bias, channel, shift);
        FOR_EACH_ROW(row, rows) {
            Count at = row * channels + channel;
            float values[W], dz[W];
            load<W>(x + at, values);
            load<W>(dy + at, dz);
            for (int i = 0; i < W; ++i) {
                dz[i] *= slope(kind, values[i] + shift[i]);
                sums[i] += dz[i];
            }
            if (dx) store<W>(dx + at, dz);
        }
    }
    write_partial<W>(sums, partial, channels);
}

// `partial` is (gridDim.y, channels), for `column_sums_final`; `dx` may be null.
KERNEL(bias_gradient, const T *x, const float *bias, const T *dy, T *dx, float *partial, Count rows, Count channels,
       int kind, int wide) {
    WIDE_OR_NARROW(bias_gradient_body, x, bias, dy, dx, partial, rows, channels, kind);
}

template <int W>
DEVICE void scale_add_body(const T *x, const float *scale, const T *shortcut, T *y, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    float factor[W];
    load_channels<W>(scale, channel, factor);
    FOR_EACH_ROW(row, rows) {
        Count at = row * channels + channel;
        float values[W], added[W];
        load<W>(x + at, values);
        load<W>(shortcut + at, added);
        for (int i = 0; i < W; ++i) values[i] = values[i] * factor[i] + added[i];
        store<W>(y + at, values);
    }
}

KERNEL(scale_add, const T *x, const float *scale, const T *shortcut, T *y, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(scale_add_body, x, scale, shortcut, y, rows, channels);
}

template <int W>
DEVICE void scale_add_gradient_body(const T *x, const float *scale, const T *dy, T *dx, float *partial, Count rows,
                                    Count channels) {
    Count channel = first_channel<W>();
    float sums[W] = {};
    if (channel < channels) {
        float factor[W];
        load_channels<W>(scale, channel, factor);
        FOR_EACH_ROW(row, rows) {
            Count at = row * channels + channel;
            float values[W], slopes[W];
            load<W>(x + at, values);
            load<W>(dy + at, slopes);
            for (int i = 0; i < W; ++i) {
                sums[i] += values[i] * slopes[i];
                slopes[i] *= factor[i];
            }
            if (dx) store<W>(dx + at, slopes);
        }
    }
    write_partial<W>(sums, partial, channels);
}

// `partial` is (gridDim.y, channels), for `column_sums_final`; `dx` may be null.
KERNEL(scale_add_gradient, const T *x, const float *scale, const T *dy, T *dx, float *partial, Count rows,
       Count channels, int wide) {
    WIDE_OR_NARROW(scale_add_gradient_body, x, scale, dy, dx, partial, rows, channels);
}
