// Pixels and tokens put elsewhere: borders, upsampling, patches, the token sequence.
#pragma once
#include "pixels.cuh"

template <int W>
DEVICE void pad_body(const T *x, T *y, float value, int top, int left, int in_h, int in_w, int out_h, int out_w,
                     Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, out_h, out_w);
        int iy = at.y - top, ix = at.x - left;
        float values[W];
        for (int i = 0; i < W; ++i) values[i] = value;
        if (iy >= 0 && iy < in_h && ix >= 0 && ix < in_w) {
            load<W>(x + ((at.image * in_h + iy) * in_w + ix) * channels + channel, values);
        }
        store<W>(y + row * channels + channel, values);
    }
}

// `rows` are the output's pixels.
KERNEL(pad, const T *x, T *y, float value, int top, int left, int in_h, int in_w, int out_h, int out_w, Count rows,
       Count channels, int wide) {
    WIDE_OR_NARROW(pad_body, x, y, value, top, left, in_h, in_w, out_h, out_w, rows, channels);
}

template <int W>
DEVICE void crop_body(const T *dy, T *dx, int top, int left, int in_h, int in_w, int out_h, int out_w, Count rows,
                      Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, in_h, in_w);
        float values[W];
        load<W>(dy + ((at.image * out_h + at.y + top) * out_w + at.x + left) * channels + channel, values);
        store<W>(dx + row * channels + channel, values);
    }
}

// Back from the padded image; `rows` are the input's pixels.
KERNEL(pad_gradient, const T *dy, T *dx, int top, int left, int in_h, int in_w, int out_h, int out_w, Count rows,
       Count channels, int wide) {
    WIDE_OR_NARROW(crop_body, dy, dx, top, left, in_h, in_w, out_h, out_w, rows, channels);
}

template <int W> DEVICE void upsample_body(const T *x, T *y, int in_h, int in_w, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, 2 * in_h, 2 * in_w);
        float values[W];
        load<W>(x + ((at.image * in_h + at.y / 2) * in_w + at.x / 2) * channels + channel, values);
        store<W>(y + row * channels + channel, values);
    }
}

// `rows` are the output's pixels.
KERNEL(upsample, const T *x, T *y, int in_h, int in_w, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(upsample_body, x, y, in_h, in_w, rows, channels);
}

template <int W> DEVICE void upsample_gradient_body(const T *dy, T *dx, int in_h, int in_w, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Pixel at = pixel(row, in_h, in_w);
        float sums[W] = {};
        for (int tap = 0; tap < 4; ++tap) {
            Count oy = 2 * at.y + tap / 2, ox = 2 * at.x + tap % 2;
            float values[W];
            load<W>(dy + ((at.image * 2 * in_h + oy) * 2 * in_w + ox) * channels + channel, values);
            for (int i = 0; i < W; ++i) sums[i] += values[i];
        }
        store<W>(dx + row * channels + channel, sums);
    }
}

// `rows` are the input's pixels.
KERNEL(upsample_gradient, const T *dy, T *dx, int in_h, int in_w, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(upsample_gradient_body, dy, dx, in_h, in_w, rows, channels);
}

template <int W>
DEVICE void tokens_body(const T *patches, const float *first, const float *positions, T *y, Count count, Count rows,
                        Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        Count image = row / (count + 1), token = row % (count + 1);
        float values[W], position[W];
        if (token == 0) load_channels<W>(first, channel, values);
        else load<W>(patches + (image * count + token - 1) * channels + channel, values);
        load_channels<W>(positions + token * channels, channel, position);
        for (int i = 0; i < W; ++i) values[i] += position[i];
        store<W>(y + row * channels + channel, values);
    }
}

// `count` patches an image behind the class token; `rows` are all tokens.
KERNEL(tokens, const T *patches, const float *first, const float *positions, T *y, Count count, Count rows,
       Count channels, int wide) {
    WIDE_OR_NARROW(tokens_body, patches, first, positions, y, count, rows, channels);
}

template <int W>
DEVICE void tokens_patches_body(const T *dy, T *dpatches, Count count, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        float values[W];
        load<W>(dy + (row + row / count + 1) * channels + channel, values);
        store<W>(dpatches + row * channels + channel, values);
    }
}

// The gradient without the class tokens; `rows` are all patches.
KERNEL(tokens_patches, const T *dy, T *dpatches, Count count, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(tokens_patches_body, dy, dpatches, count, rows, channels);
}

template <int W>
DEVICE void tokens_positions_body(const T *dy, float *dpositions, float *dfirst, Count images, Count rows,
                                  Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        double sums[W] = {};
        for (Count image = 0; image < images; ++image) {
            float values[W];
            load<W>(dy + (image * rows + row) * channels + channel, values);
            for (int i = 0; i < W; ++i) sums[i] += (double)values[i];
        }
        for (int i = 0; i < W; ++i) {
            dpositions[row * channels + channel + i] = (float)sums[i];
            if (row == 0) dfirst[channel + i] = (float)sums[i];
        }
    }
}

// The sums over images; `rows` are one image's tokens.
KERNEL(tokens_positions, const T *dy, float *dpositions, float *dfirst, Count images, Count rows, Count channels,
       int wide) {
    WIDE_OR_NARROW(tokens_positions_body, dy, dpositions, dfirst, images, rows, channels);
}

template <int W> DEVICE void first_token_body(const T *x, T *y, Count tokens, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        float values[W];
        load<W>(x + row * tokens * channels + channel, values);
        store<W>(y + row * channels + channel, values);
    }
}

// Of `tokens` an image; `rows` are the images.
KERNEL(first_token, const T *x, T *y, Count tokens, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(first_token_body, x, y, tokens, rows, channels);
}

template <int W> DEVICE void first_token_gradient_body(const T *dy, T *dx, Count tokens, Count rows, Count channels) {
    Count channel = first_channel<W>();
    if (channel >= channels) return;
    FOR_EACH_ROW(row, rows) {
        float values[W] = {};
        if (row % tokens == 0) load<W>(dy + row / tokens * channels + channel, values);
        store<W>(dx + row * channels + channel, values);
    }
}

// `rows` are all tokens.
KERNEL(first_token_gradient, const T *dy, T *dx, Count tokens, Count rows, Count channels, int wide) {
    WIDE_OR_NARROW(first_token_gradient_body, dy, dx, tokens, rows, channels);
}

// Where a value of images (.., h, w, channels) lies in their patches, (.., h / side, w / side, side, side, channels).
DEVICE Count in_patches(Count at, int w, int channels, int side) {
    int channel = (int)(at % channels), x = (int)(at / channels % w);
    Count line = at / channels / w;
    Count patch = line / side * (w / side) + x / side;
    return ((patch * side + line % side) * side + x % side) * channels + channel;
}

KERNEL(patches, const T *x, T *y, Count count, int w, int channels, int side) {
    FOR_EACH(i, count) y[in_patches(i, w, channels, side)] = x[i];
}

KERNEL(patches_gradient, const T *dy, T *dx, Count count, int w, int channels, int side) {
    FOR_EACH(i, count) dx[i] = dy[in_patches(i, w, channels, side)];
}
