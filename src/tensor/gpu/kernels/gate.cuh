// Means over images and channel gates: x (images, pixels, channels), gates and means (images, channels).
#pragma once
#include "activation.cuh"
#include "pixels.cuh"

// Whether a block has just summed a whole image, and this thread holds the sums of its channels.
DEVICE bool summed_all(Count channel, Count channels) {
    return gridDim.y == 1 && threadIdx.y == 0 && channel < channels;
}

template <int W>
DEVICE void image_means_body(const T *x, float *partial, T *means, Count images, Count pixels, Count channels) {
    Count channel = first_channel<W>();
    FOR_EACH_IMAGE(image, images) {
        float sums[W] = {};
        if (channel < channels) {
            FOR_EACH_ROW(row, pixels) {
                float values[W];
                load<W>(x + (image * pixels + row) * channels + channel, values);
                for (int i = 0; i < W; ++i) sums[i] += values[i];
            }
        }
        float *parts = partial + image * gridDim.y * channels;
        write_partial<W>(sums, parts, channels);
        if (!summed_all(channel, channels)) continue;
        for (int i = 0; i < W; ++i) means[image * channels + channel + i] = to<T>(parts[channel + i] / pixels);
    }
}

// `partial` is (images, gridDim.y, channels). With one block an image `means` are done, else `image_means_final` follows.
KERNEL(image_means, const T *x, float *partial, T *means, Count images, Count pixels, Count channels, int wide) {
    WIDE_OR_NARROW(image_means_body, x, partial, means, images, pixels, channels);
}

KERNEL(image_means_final, const float *partial, T *means, Count images, Count chunks, Count pixels, Count channels) {
    FOR_EACH(i, images * channels) {
        const float *parts = partial + i / channels * chunks * channels;
        means[i] = to<T>((float)(sum_partials(parts, chunks, channels, i % channels) / pixels));
    }
}

// The image's own gate on each of its pixels, plus `spread / pixels` where that is not null.
template <int W>
DEVICE void gate_body(const T *x, const T *gate, const T *spread, T *y, Count images, Count pixels, Count channels,
                      int kind) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_IMAGE(image, images) {
        float open[W], shift[W] = {};
        load<W>(gate + image * channels + channel, open);
        if (spread) load<W>(spread + image * channels + channel, shift);
        for (int i = 0; i < W; ++i) {
            open[i] = activation(kind, open[i]);
            shift[i] /= pixels;
        }
        FOR_EACH_ROW(row, pixels) {
            Count at = (image * pixels + row) * channels + channel;
            float values[W];
            load<W>(x + at, values);
            for (int i = 0; i < W; ++i) values[i] = values[i] * open[i] + shift[i];
            store<W>(y + at, values);
        }
    }
}

KERNEL(gate, const T *x, const T *gate, const T *spread, T *y, Count images, Count pixels, Count channels, int kind,
       int wide) {
    WIDE_OR_NARROW(gate_body, x, gate, spread, y, images, pixels, channels, kind);
}

// A value for all pixels of an image.
template <int W>
DEVICE void spread_body(const T *dy, T *dx, Count images, Count pixels, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_IMAGE(image, images) {
        float values[W];
        load<W>(dy + image * channels + channel, values);
        for (int i = 0; i < W; ++i) values[i] /= pixels;
        FOR_EACH_ROW(row, pixels) store<W>(dx + (image * pixels + row) * channels + channel, values);
    }
}

KERNEL(image_means_gradient, const T *dy, T *dx, Count images, Count pixels, Count channels, int wide) {
    WIDE_OR_NARROW(spread_body, dy, dx, images, pixels, channels);
}

template <int W>
DEVICE void gate_gradient_body(const T *x, const T *dy, const T *gate, float *partial, T *dgate, Count images,
                               Count pixels, Count channels, int kind) {
    Count channel = first_channel<W>();
    FOR_EACH_IMAGE(image, images) {
        float sums[W] = {};
        if (channel < channels) {
            FOR_EACH_ROW(row, pixels) {
                Count at = (image * pixels + row) * channels + channel;
                float values[W], slopes[W];
                load<W>(x + at, values);
                load<W>(dy + at, slopes);
                for (int i = 0; i < W; ++i) sums[i] += values[i] * slopes[i];
            }
        }
        float *parts = partial + image * gridDim.y * channels;
        write_partial<W>(sums, parts, channels);
        if (!summed_all(channel, channels)) continue;
        for (int i = 0; i < W; ++i) {
            Count at = image * channels + channel + i;
            dgate[at] = to<T>(parts[channel + i] * slope(kind, to_float(gate[at])));
        }
    }
}

// As `image_means`, of the products of `x` and `dy`.
KERNEL(gate_gradient, const T *x, const T *dy, const T *gate, float *partial, T *dgate, Count images, Count pixels,
       Count channels, int kind, int wide) {
    WIDE_OR_NARROW(gate_gradient_body, x, dy, gate, partial, dgate, images, pixels, channels, kind);
}

KERNEL(gate_gradient_final, const float *partial, const T *gate, T *dgate, Count images, Count chunks, Count channels,
       int kind) {
    FOR_EACH(i, images * channels) {
        double sum = sum_partials(partial + i / channels * chunks * channels, chunks, channels, i % channels);
        dgate[i] = to<T>((float)sum * slope(kind, to_float(gate[i])));
    }
}
