// Group normalization with an activation behind it: within an image, channels of a group share their statistics.
// y = act((x - mean) * weight * inverse + bias), inverse = 1 / sqrt(var + eps); `statistics` is (images, groups, 2).
#pragma once
#include "activation.cuh"
#include "pixels.cuh"
#include "rows.cuh"

template <int W>
DEVICE void group_moments_body(const T *x, float *partial, Count images, Count pixels, Count channels) {
    Count channel = first_channel<W>();
    FOR_EACH_IMAGE(image, images) {
        float sums[W] = {}, squares[W] = {}, center[W] = {};
        const T *from = x + image * pixels * channels + channel;
        if (channel < channels) {
            // About the first pixel: squares of large values would drown the variance.
            load<W>(from, center);
            FOR_EACH_ROW(row, pixels) {
                float values[W];
                load<W>(from + row * channels, values);
                for (int i = 0; i < W; ++i) {
                    float distance = values[i] - center[i];
                    sums[i] += distance;
                    squares[i] += distance * distance;
                }
            }
        }
        float *parts = partial + image * gridDim.y * 2 * channels;
        write_partial_at<W>(sums, parts, 2 * channels, channel, channel < channels);
        write_partial_at<W>(squares, parts, 2 * channels, channels + channel, channel < channels);
    }
}

// `partial` is (images, gridDim.y, 2, channels): sums of the distance to the image's first pixel, and of its square.
KERNEL(group_moments, const T *x, float *partial, Count images, Count pixels, Count channels, int wide) {
    WIDE_OR_NARROW(group_moments_body, x, partial, images, pixels, channels);
}

// A warp for each group of each image.
KERNEL(group_statistics, const T *x, const float *partial, float *statistics, Count images, Count chunks, Count pixels,
       Count channels, Count groups, float eps) {
    Count members = channels / groups;
    FOR_EACH_WARP(row, images * groups) {
        Count image = row / groups, first = row % groups * members;
        const float *parts = partial + image * chunks * 2 * channels;
        double sum = 0, squares = 0;
        for (Count c = first + threadIdx.x % WARP; c < first + members; c += WARP) {
            sum += to_float(x[image * pixels * channels + c]) + sum_partials(parts, chunks, 2 * channels, c) / pixels;
        }
        double mean = warp_sum(sum) / members;
        for (Count c = first + threadIdx.x % WARP; c < first + members; c += WARP) {
            double offset = sum_partials(parts, chunks, 2 * channels, c) / pixels;
            double square = sum_partials(parts, chunks, 2 * channels, channels + c) / pixels;
            double apart = to_float(x[image * pixels * channels + c]) + offset - mean;
            squares += square - offset * offset + apart * apart;
        }
        double var = warp_sum(squares) / members;
        if (threadIdx.x % WARP > 0) continue;
        statistics[2 * row] = (float)mean;
        statistics[2 * row + 1] = (float)(1.0 / sqrt((var > 0 ? var : 0) + (double)eps));
    }
}

// What an image does with a thread's channels: z = (x - center) * factor + shift.
template <int W>
DEVICE void load_group_map(const float *statistics, const float *weight, const float *bias, Count image, Count channel,
                           Count groups, Count members, float (&center)[W], float (&factor)[W], float (&shift)[W]) {
    load_channels<W>(weight, channel, factor);
    load_channels<W>(bias, channel, shift);
    for (int i = 0; i < W; ++i) {
        Count group = image * groups + (channel + i) / members;
        center[i] = statistics[2 * group];
        factor[i] *= statistics[2 * group + 1];
    }
}

template <int W>
DEVICE void group_norm_body(const T *x, const float *statistics, const float *weight, const float *bias, T *y,
                            Count images, Count pixels, Count channels, Count groups, int kind) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_IMAGE(image, images) {
        float center[W], factor[W], shift[W];
        load_group_map<W>(statistics, weight, bias, image, channel, groups, channels / groups, center, factor, shift);
        FOR_EACH_ROW(row, pixels) {
            Count at = (image * pixels + row) * channels + channel;
            float values[W];
            load<W>(x + at, values);
            for (int i = 0; i < W; ++i) values[i] = activation(kind, (values[i] - center[i]) * factor[i] + shift[i]);
            store<W>(y + at, values);
        }
    }
}

KERNEL(group_norm, const T *x, const float *statistics, const float *weight, const float *bias, T *y, Count images,
       Count pixels, Count channels, Count groups, int kind, int wide) {
    WIDE_OR_NARROW(group_norm_body, x, statistics, weight, bias, y, images, pixels, channels, groups, kind);
}

template <int W>
DEVICE void group_sums_body(const T *x, const T *dy, const float *statistics, const float *weight, const float *bias,
                            float *partial, Count images, Count pixels, Count channels, Count groups, int kind) {
    Count channel = first_channel<W>();
    FOR_EACH_IMAGE(image, images) {
        float sums[W] = {}, products[W] = {};
        if (channel < channels) {
            float center[W], factor[W], shift[W];
            load_group_map<W>(statistics, weight, bias, image, channel, groups, channels / groups, center, factor, shift);
            FOR_EACH_ROW(row, pixels) {
                Count at = (image * pixels + row) * channels + channel;
                float values[W], dz[W];
                load<W>(x + at, values);
                load<W>(dy + at, dz);
                for (int i = 0; i < W; ++i) {
                    float distance = values[i] - center[i];
                    dz[i] *= slope(kind, distance * factor[i] + shift[i]);
                    sums[i] += dz[i];
                    products[i] += dz[i] * distance;
                }
            }
        }
        float *parts = partial + image * gridDim.y * 2 * channels;
        write_partial_at<W>(products, parts, 2 * channels, channel, channel < channels);
        write_partial_at<W>(sums, parts, 2 * channels, channels + channel, channel < channels);
    }
}

// `partial` is (images, gridDim.y, 2, channels): sums of the inner gradient times the distance to the mean, and of it.
KERNEL(group_sums, const T *x, const T *dy, const float *statistics, const float *weight, const float *bias,
       float *partial, Count images, Count pixels, Count channels, Count groups, int kind, int wide) {
    WIDE_OR_NARROW(group_sums_body, x, dy, statistics, weight, bias, partial, images, pixels, channels, groups, kind);
}

// A warp for each group of each image. `back` is (images, groups, 2): the input's gradient is
// dz * weight * inverse + (x - mean) * back[0] + back[1].
KERNEL(group_back, const float *partial, const float *statistics, const float *weight, float *back, Count images,
       Count chunks, Count pixels, Count channels, Count groups) {
    Count members = channels / groups;
    FOR_EACH_WARP(row, images * groups) {
        Count first = row % groups * members;
        const float *parts = partial + row / groups * chunks * 2 * channels;
        double sum = 0, product = 0;
        for (Count c = first + threadIdx.x % WARP; c < first + members; c += WARP) {
            product += weight[c] * sum_partials(parts, chunks, 2 * channels, c);
            sum += weight[c] * sum_partials(parts, chunks, 2 * channels, channels + c);
        }
        double share = (double)statistics[2 * row + 1] / ((double)members * pixels);
        product = warp_sum(product);
        sum = warp_sum(sum);
        if (threadIdx.x % WARP > 0) continue;
        double inverse = statistics[2 * row + 1];
        back[2 * row] = (float)(-inverse * inverse * share * product);
        back[2 * row + 1] = (float)(-share * sum);
    }
}

// The gradients of weight and bias: over all images.
KERNEL(group_affine, const float *partial, const float *statistics, float *dweight, float *dbias, Count images,
       Count chunks, Count channels, Count groups) {
    Count column = LAST_COLUMN;
    double share = 0;
    if (column < 2 * channels) {
        for (Count part = threadIdx.y; part < images * chunks; part += blockDim.y) {
            float value = partial[part * 2 * channels + column];
            Count group = part / chunks * groups + column % channels / (channels / groups);
            share += column < channels ? (double)value * statistics[2 * group + 1] : (double)value;
        }
    }
    share = sum_down(share);
    if (threadIdx.y > 0 || column >= 2 * channels) return;
    if (column < channels) dweight[column] = (float)share;
    else dbias[column - channels] = (float)share;
}

template <int W>
DEVICE void group_gradient_body(const T *x, const T *dy, const float *statistics, const float *weight,
                                const float *bias, const float *back, T *dx, Count images, Count pixels, Count channels,
                                Count groups, int kind) {
    Count channel = first_channel<W>(), members = channels / groups;
    if (channel >= channels) return;
    FOR_EACH_IMAGE(image, images) {
        float center[W], factor[W], shift[W], tilt[W], offset[W];
        load_group_map<W>(statistics, weight, bias, image, channel, groups, members, center, factor, shift);
        for (int i = 0; i < W; ++i) {
            Count group = image * groups + (channel + i) / members;
            tilt[i] = back[2 * group];
            offset[i] = back[2 * group + 1];
        }
        FOR_EACH_ROW(row, pixels) {
            Count at = (image * pixels + row) * channels + channel;
            float values[W], dz[W];
            load<W>(x + at, values);
            load<W>(dy + at, dz);
            for (int i = 0; i < W; ++i) {
                float distance = values[i] - center[i];
                dz[i] *= slope(kind, distance * factor[i] + shift[i]);
                dz[i] = dz[i] * factor[i] + distance * tilt[i] + offset[i];
            }
            store<W>(dx + at, dz);
        }
    }
}

KERNEL(group_gradient, const T *x, const T *dy, const float *statistics, const float *weight, const float *bias,
       const float *back, T *dx, Count images, Count pixels, Count channels, Count groups, int kind, int wide) {
    WIDE_OR_NARROW(group_gradient_body, x, dy, statistics, weight, bias, back, dx, images, pixels, channels, groups,
                   kind);
}
