// Pools; each output or input pixel gathers what it needs.
#pragma once
#include "pixels.cuh"

template <int W> struct alignas(W) Bytes {
    unsigned char values[W];
};

template <int W>
DEVICE void max_pool_body(const T *x, T *y, unsigned char *winners, Count rows, Count channels, Window w) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, w.out_h, w.out_w);
        const T *image = x + at.image * w.in_h * w.in_w * channels + channel;
        float best[W] = {};
        Bytes<W> winner = {};
        bool first = true;
        for (int a = 0; a < w.kernel_h; ++a) {
            int iy = w.source_y(at.y, a);
            if (iy < 0 || iy >= w.in_h) continue;
            for (int b = 0; b < w.kernel_w; ++b) {
                int ix = w.source_x(at.x, b);
                if (ix < 0 || ix >= w.in_w) continue;
                float values[W];
                load<W>(image + ((Count)iy * w.in_w + ix) * channels, values);
                for (int i = 0; i < W; ++i) {
                    // NaN beats everything, as in torch.
                    if (!first && !(values[i] > best[i]) && values[i] == values[i]) continue;
                    best[i] = values[i];
                    winner.values[i] = (unsigned char)(a * w.kernel_w + b);
                }
                first = false;
            }
        }
        store<W>(y + row * channels + channel, best);
        *reinterpret_cast<Bytes<W> *>(winners + row * channels + channel) = winner;
    }
}

// `winners` are the taps that won; `rows` are the output's pixels.
KERNEL(max_pool, const T *x, T *y, unsigned char *winners, Count rows, Count channels, int wide, WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(max_pool_body, x, y, winners, rows, channels, WINDOW);
}

template <int W>
DEVICE void max_pool_gradient_body(const T *dy, const unsigned char *winners, T *dx, Count rows, Count channels,
                                   Window w) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, w.in_h, w.in_w);
        Count image = at.image * w.out_h * w.out_w;
        float sums[W] = {};
        for (int a = 0; a < w.kernel_h; ++a) {
            int oy = w.sink_y(at.y, a);
            if (oy < 0) continue;
            for (int b = 0; b < w.kernel_w; ++b) {
                int ox = w.sink_x(at.x, b);
                if (ox < 0) continue;
                Count place = (image + (Count)oy * w.out_w + ox) * channels + channel;
                Bytes<W> winner = *reinterpret_cast<const Bytes<W> *>(winners + place);
                float values[W];
                load<W>(dy + place, values);
                for (int i = 0; i < W; ++i) {
                    if (winner.values[i] == a * w.kernel_w + b) sums[i] += values[i];
                }
            }
        }
        store<W>(dx + row * channels + channel, sums);
    }
}

// `rows` are the input's pixels.
KERNEL(max_pool_gradient, const T *dy, const unsigned char *winners, T *dx, Count rows, Count channels, int wide,
       WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(max_pool_gradient_body, dy, winners, dx, rows, channels, WINDOW);
}

// Pixels of an average along one axis: all of the window, or those it sees of the image.
DEVICE int averaged(int at, int kernel, int stride, int pad, int size, int seen) {
    int first = at * stride - pad, last = first + kernel;
    return seen ? (last < size ? last : size) - (first > 0 ? first : 0) : kernel;
}

DEVICE float average_share(int y, int x, const Window &w, int seen) {
    return 1.0f / averaged(y, w.kernel_h, w.stride_h, w.pad_h, w.in_h, seen) /
           averaged(x, w.kernel_w, w.stride_w, w.pad_w, w.in_w, seen);
}

template <int W> DEVICE void avg_pool_body(const T *x, T *y, Count rows, Count channels, int seen, Window w) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, w.out_h, w.out_w);
        const T *image = x + at.image * w.in_h * w.in_w * channels + channel;
        float sums[W] = {};
        for (int a = 0; a < w.kernel_h; ++a) {
            int iy = w.source_y(at.y, a);
            if (iy < 0 || iy >= w.in_h) continue;
            for (int b = 0; b < w.kernel_w; ++b) {
                int ix = w.source_x(at.x, b);
                if (ix < 0 || ix >= w.in_w) continue;
                float values[W];
                load<W>(image + ((Count)iy * w.in_w + ix) * channels, values);
                for (int i = 0; i < W; ++i) sums[i] += values[i];
            }
        }
        float share = average_share(at.y, at.x, w, seen);
        for (int i = 0; i < W; ++i) sums[i] *= share;
        store<W>(y + row * channels + channel, sums);
    }
}

// `seen`: whether padding and what lies beyond the image do not count; `rows` are the output's pixels.
KERNEL(avg_pool, const T *x, T *y, int seen, Count rows, Count channels, int wide, WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(avg_pool_body, x, y, rows, channels, seen, WINDOW);
}

template <int W> DEVICE void avg_pool_gradient_body(const T *dy, T *dx, Count rows, Count channels, int seen, Window w) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, w.in_h, w.in_w);
        const T *image = dy + at.image * w.out_h * w.out_w * channels + channel;
        float sums[W] = {};
        for (int a = 0; a < w.kernel_h; ++a) {
            int oy = w.sink_y(at.y, a);
            if (oy < 0) continue;
            for (int b = 0; b < w.kernel_w; ++b) {
                int ox = w.sink_x(at.x, b);
                if (ox < 0) continue;
                float values[W], share = average_share(oy, ox, w, seen);
                load<W>(image + ((Count)oy * w.out_w + ox) * channels, values);
                for (int i = 0; i < W; ++i) sums[i] += values[i] * share;
            }
        }
        store<W>(dx + row * channels + channel, sums);
    }
}

// `rows` are the input's pixels.
KERNEL(avg_pool_gradient, const T *dy, T *dx, int seen, Count rows, Count channels, int wide, WINDOW_ARGUMENTS) {
    WIDE_OR_NARROW(avg_pool_gradient_body, dy, dx, rows, channels, seen, WINDOW);
}
