// Batch normalization with a residual and an activation behind it: y = act((x - mean) * scale + bias + residual), where
// scale = weight / sqrt(var + eps).
#pragma once
#include "activation.cuh"
#include "columns.cuh"

template <int W> DEVICE void moments_body(const T *x, float *partial, Count rows, Count channels) {
    Count channel = first_channel<W>();
    float sums[W] = {}, squares[W] = {}, center[W] = {};
    if (channel < channels) {
        // About the first row: squares of large values would drown the variance.
        load<W>(x + channel, center);
        FOR_EACH_ROW(row, rows) {
            float values[W];
            load<W>(x + row * channels + channel, values);
            for (int i = 0; i < W; ++i) {
                float distance = values[i] - center[i];
                sums[i] += distance;
                squares[i] += distance * distance;
            }
        }
    }
    write_partial<W>(sums, partial, channels);
    write_partial<W>(squares, partial + gridDim.y * channels, channels);
}

// `partial` is (2, gridDim.y, channels): sums of the distance to the first row, and of its square.
KERNEL(moments_partial, const T *x, float *partial, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(moments_body, x, partial, rows, channels);
}

DEVICE float norm_factor(float var, float weight, float eps) { return weight / sqrtf(var + eps); }

// `moments` is (4, channels): mean, biased and unbiased variance, and the scale.
KERNEL(moments_final, const T *x, const float *partial, const float *weight, float *moments, Count chunks, Count rows,
       Count channels, float eps) {
    Count channel = LAST_COLUMN;
    bool inside = channel < channels;
    double offset = sum_chunks(partial, chunks, channels, channel, inside) / rows;
    double squares = sum_chunks(partial + chunks * channels, chunks, channels, channel, inside) / rows;
    if (threadIdx.y > 0 || !inside) return;
    double var = squares - offset * offset;
    var = var > 0 ? var : 0;
    moments[channel] = (float)(to_float(x[channel]) + offset);
    moments[channels + channel] = (float)var;
    moments[2 * channels + channel] = (float)(rows > 1 ? var * rows / (rows - 1) : var);
    moments[3 * channels + channel] = norm_factor((float)var, weight[channel], eps);
}

// The scale of given statistics.
KERNEL(norm_scale, const float *var, const float *weight, float *scale, Count channels, float eps) {
    FOR_EACH(channel, channels) scale[channel] = norm_factor(var[channel], weight[channel], eps);
}

template <int W>
DEVICE void normalize_body(const T *x, const T *residual, T *y, const float *mean, const float *scale, const float *bias,
                           Count rows, Count channels, int kind) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    float center[W], factor[W], shift[W];
    load_channels<W>(mean, channel, center);
    load_channels<W>(scale, channel, factor);
    load_channels<W>(bias, channel, shift);
    FOR_EACH_ROW(row, rows) {
        Count at = row * channels + channel;
        float values[W], added[W] = {};
        load<W>(x + at, values);
        if (residual) load<W>(residual + at, added);
        for (int i = 0; i < W; ++i) {
            values[i] = activation(kind, (values[i] - center[i]) * factor[i] + shift[i] + added[i]);
        }
        store<W>(y + at, values);
    }
}

KERNEL(normalize, const T *x, const T *residual, T *y, const float *mean, const float *scale, const float *bias,
       Count rows, Count channels, int kind, int wide) {
    WIDE_OR_NARROW(normalize_body, x, residual, y, mean, scale, bias, rows, channels, kind);
}

// The gradient in front of the activation.
template <int W>
DEVICE void inner_gradient(const T *x, const T *residual, const T *dy, Count at, const float (&center)[W],
                           const float (&factor)[W], const float (&shift)[W], int kind, float (&distance)[W],
                           float (&dz)[W]) {
    float added[W] = {};
    load<W>(x + at, distance);
    load<W>(dy + at, dz);
    if (residual) load<W>(residual + at, added);
    for (int i = 0; i < W; ++i) {
        distance[i] -= center[i];
        dz[i] *= slope(kind, distance[i] * factor[i] + shift[i] + added[i]);
    }
}

template <int W>
DEVICE void norm_sums_body(const T *x, const T *residual, const T *dy, const float *mean, const float *scale,
                           const float *bias, float *partial, Count rows, Count channels, int kind) {
    Count channel = first_channel<W>();
    float sums[W] = {}, products[W] = {};
    if (channel < channels) {
        float center[W], factor[W], shift[W];
        load_channels<W>(mean, channel, center);
        load_channels<W>(scale, channel, factor);
        load_channels<W>(bias, channel, shift);
        FOR_EACH_ROW(row, rows) {
            float distance[W], dz[W];
            inner_gradient<W>(x, residual, dy, row * channels + channel, center, factor, shift, kind, distance, dz);
            for (int i = 0; i < W; ++i) {
                sums[i] += dz[i];
                products[i] += dz[i] * distance[i];
            }
        }
    }
    write_partial<W>(sums, partial, channels);
    write_partial<W>(products, partial + gridDim.y * channels, channels);
}

// `partial` is (2, gridDim.y, channels): sums of the inner gradient, and of it times the distance to the mean.
KERNEL(norm_sums_partial, const T *x, const T *residual, const T *dy, const float *mean, const float *scale,
       const float *bias, float *partial, Count rows, Count channels, int kind, int wide) {
    WIDE_OR_NARROW(norm_sums_body, x, residual, dy, mean, scale, bias, partial, rows, channels, kind);
}

// `dweight` and `dbias` are the gradients of weight and bias. `back` is (2, channels): the input's gradient is
// dz * scale + (x - mean) * back[0] + back[1].
KERNEL(norm_sums_final, const float *partial, const float *var, const float *weight, float *dweight, float *dbias,
       float *back, Count chunks, Count rows, Count channels, float eps) {
    Count channel = LAST_COLUMN;
    bool inside = channel < channels;
    double sum = sum_chunks(partial, chunks, channels, channel, inside);
    double product = sum_chunks(partial + chunks * channels, chunks, channels, channel, inside);
    if (threadIdx.y > 0 || !inside) return;
    double inverse = 1.0 / sqrt((double)var[channel] + (double)eps);
    double factor = weight[channel] * inverse;
    dweight[channel] = (float)(product * inverse);
    dbias[channel] = (float)sum;
    back[channel] = (float)(-factor * inverse * inverse * product / rows);
    back[channels + channel] = (float)(-factor * sum / rows);
}

template <int W>
DEVICE void norm_gradient_body(const T *x, const T *residual, const T *dy, const float *mean, const float *scale,
                               const float *bias, const float *back, T *dx, T *dresidual, Count rows, Count channels,
                               int kind) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    float center[W], factor[W], shift[W], tilt[W], offset[W];
    load_channels<W>(mean, channel, center);
    load_channels<W>(scale, channel, factor);
    load_channels<W>(bias, channel, shift);
    load_channels<W>(back, channel, tilt);
    load_channels<W>(back + channels, channel, offset);
    FOR_EACH_ROW(row, rows) {
        Count at = row * channels + channel;
        float distance[W], dz[W];
        inner_gradient<W>(x, residual, dy, at, center, factor, shift, kind, distance, dz);
        if (dresidual) store<W>(dresidual + at, dz);
        if (!dx) continue;
        for (int i = 0; i < W; ++i) distance[i] = dz[i] * factor[i] + distance[i] * tilt[i] + offset[i];
        store<W>(dx + at, distance);
    }
}

// Either output may be null.
KERNEL(norm_gradient, const T *x, const T *residual, const T *dy, const float *mean, const float *scale,
       const float *bias, const float *back, T *dx, T *dresidual, Count rows, Count channels, int kind, int wide) {
    WIDE_OR_NARROW(norm_gradient_body, x, residual, dy, mean, scale, bias, back, dx, dresidual, rows, channels, kind);
}

// The running statistics of one layer, and its count of batches.
KERNEL(track_statistics, float *running_mean, float *running_var, Count *batches, const float *mean, const float *var,
       Count channels, float keep, float share) {
    FOR_EACH(channel, channels) {
        running_mean[channel] = running_mean[channel] * keep + mean[channel] * share;
        running_var[channel] = running_var[channel] * keep + var[channel] * share;
        if (channel == 0) *batches += 1;
    }
}
