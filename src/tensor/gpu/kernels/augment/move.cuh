// Changes that move pixels, and boxes and grids of one colour: `augment/change.rs`, `augment/frame.rs`,
// `augment/warp.rs` and `augment/grid_mask.rs`.
#pragma once
#include "canvas.cuh"
#include "resize.cuh"

// By the numbers of `augment/encode.rs`.
enum class Source { QUARTERS, SCALED, FIXED, AFFINE, PERSPECTIVE };

DEVICE void swap_pixels(Byte *a, Byte *b) {
    for (int k = 0; k < 3; ++k) {
        Byte kept = a[k];
        a[k] = b[k];
        b[k] = kept;
    }
}

APART void flip_horizontal(const Canvas &c) {
    int half = c.width / 2;
    SHARE(i, c.height * half) {
        Byte *row = c.here + i / half * c.width * 3;
        swap_pixels(row + i % half * 3, row + (c.width - 1 - i % half) * 3);
    }
}

APART void flip_vertical(const Canvas &c) {
    SHARE(i, c.height / 2 * c.width) {
        swap_pixels(c.here + i * 3, c.here + ((c.height - 1 - i / c.width) * c.width + i % c.width) * 3);
    }
}

APART void fill(const Canvas &c, const double *words) {
    int left = (int)words[0], top = (int)words[1], width = (int)words[2], height = (int)words[3];
    SHARE(i, width * height) {
        int x = left + i % width, y = top + i / width;
        if (x < c.width && y < c.height) put_colour(c.here + (y * c.width + x) * 3, (int)words[4]);
    }
}

APART void crop(Canvas &c, const double *words) {
    int left = (int)words[0], top = (int)words[1], width = (int)words[2], height = (int)words[3];
    SHARE(i, width * height) {
        copy_pixel(c.there + i * 3, c.here + ((top + i / width) * c.width + left + i % width) * 3);
    }
    c.width = width, c.height = height;
    exchange(c);
}

// Which of `size` samples stands at `at`, inside or outside of them; -1: the fill colour.
DEVICE int padded(int mode, int at, int size) {
    switch (mode) {
        case 0: return at >= 0 && at < size ? at : -1;
        case 1: return within(at, size);
        case 2: return reflected(at, size);
        default: {
            int place = (at % (2 * size) + 2 * size) % (2 * size);
            return place < size ? place : 2 * size - 1 - place;
        }
    }
}

APART void pad(Canvas &c, const double *words) {
    int margin_x = (int)words[0], margin_y = (int)words[1], mode = (int)words[2];
    int width = c.width + 2 * margin_x, height = c.height + 2 * margin_y;
    SHARE(i, width * height) {
        int x = padded(mode, i % width - margin_x, c.width), y = padded(mode, i / width - margin_y, c.height);
        if (x < 0 || y < 0) put_colour(c.there + i * 3, (int)words[3]);
        else copy_pixel(c.there + i * 3, c.here + (y * c.width + x) * 3);
    }
    c.width = width, c.height = height;
    exchange(c);
}

// Where the pixel `(x, y)` of an image that is turned by right angles comes from.
DEVICE void unturn(int quarters, int width, int height, int &x, int &y) {
    int from_x = quarters == 1 ? width - 1 - y : quarters == 2 ? width - 1 - x : quarters == 3 ? y : x;
    y = quarters == 1 ? x : quarters == 2 ? height - 1 - y : quarters == 3 ? height - 1 - x : y;
    x = from_x;
}

APART void turn(Canvas &c, int quarters) {
    if (quarters == 0) return;
    SHARE(i, c.pixels()) {
        int x = i % c.width, y = i / c.width;
        unturn(quarters, c.width, c.height, x, y);
        copy_pixel(c.there + i * 3, c.here + (y * c.width + x) * 3);
    }
    exchange(c);
}

DEVICE long long fixed(double value) { return (long long)floor(value * 65536.0 + 0.5); }

// Where the pixel `(px, py)` comes from.
DEVICE void find_source(Source source, const double *m, int px, int py, double &fx, double &fy) {
    if (source == Source::FIXED) {
        long long x = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5) + py * fixed(m[1]) + px * fixed(m[0]);
        long long y = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5) + py * fixed(m[4]) + px * fixed(m[3]);
        fx = (double)(x >> 16), fy = (double)(y >> 16);
        return;
    }
    double x = px + 0.5, y = py + 0.5;
    fx = __dadd_rn(__dadd_rn(__dmul_rn(m[0], x), __dmul_rn(m[1], y)), m[2]);
    fy = __dadd_rn(__dadd_rn(__dmul_rn(m[3], x), __dmul_rn(m[4], y)), m[5]);
    if (source == Source::PERSPECTIVE) {
        double depth = __dadd_rn(__dadd_rn(__dmul_rn(m[6], x), __dmul_rn(m[7], y)), 1.0);
        fx /= depth, fy /= depth;
    }
}

DEVICE double mix(double a, double b, double d) { return __dadd_rn(a, __dmul_rn(__dsub_rn(b, a), d)); }

DEVICE double cubic_between(const double *v, double d) {
    double first = -v[0] + v[2], second = 2.0 * (v[0] - v[1]) + v[2] - v[3], third = -v[0] + v[1] - v[2] + v[3];
    return __dadd_rn(v[1], __dmul_rn(d, __dadd_rn(first, __dmul_rn(d, __dadd_rn(second, __dmul_rn(d, third))))));
}

// Reads by filter (0 nearest, 1 bilinear, 2 bicubic) at a point inside.
APART void read_at(const Canvas &c, double x, double y, int filter, Byte *out) {
    if (filter == 0) return copy_pixel(out, c.here + ((int)y * c.width + (int)x) * 3);
    x -= 0.5;
    y -= 0.5;
    int left = (int)floor(x), top = (int)floor(y), taps = filter == 1 ? 2 : 4, first = filter == 1 ? 0 : -1;
    double dx = x - floor(x), dy = y - floor(y);
    for (int i = 0; i < 3; ++i) {
        double rows[4];
        for (int a = 0; a < taps; ++a) {
            double row[4];
            for (int b = 0; b < taps; ++b) {
                row[b] = c.here[(within(top + first + a, c.height) * c.width + within(left + first + b, c.width)) * 3 + i];
            }
            rows[a] = filter == 1 ? mix(row[0], row[1], dx) : cubic_between(row, dx);
        }
        out[i] = clipped(filter == 1 ? mix(rows[0], rows[1], dy) : cubic_between(rows, dy));
    }
}

APART void warp(Canvas &c, const double *words) {
    Source source = (Source)(int)words[1];
    int filter = (int)words[2];
    const double *m = words + 3;
    if (source == Source::SCALED) {
        // Moved and scaled along each axis by itself.
        int *columns = (int *)c.notes, *rows = columns + c.width;
        if (threadIdx.x == 0) note_places(columns, c.width, c.width, m[2] + m[0] * 0.5, m[0]);
        if (threadIdx.x == 1) note_places(rows, c.height, c.height, m[5] + m[4] * 0.5, m[4]);
        __syncthreads();
        gather(c, columns, rows, c.width, c.height, (int)words[0]);
        return exchange(c);
    }
    SHARE(i, c.pixels()) {
        double x, y;
        find_source(source, m, i % c.width, i / c.width, x, y);
        if (x >= 0 && x < c.width && y >= 0 && y < c.height) read_at(c, x, y, filter, c.there + i * 3);
        else put_colour(c.there + i * 3, (int)words[0]);
    }
    exchange(c);
}

// Whether a place along an axis lies in one of the bars.
DEVICE bool in_bar(int at, int distance, int start, int bar) { return (at + distance - start) % distance < bar; }

// Erases bars, or the squares between them, of a grid that is turned about the image's middle.
APART void erase_grid(const Canvas &c, const double *words) {
    int distance = (int)words[0], bar = (int)words[1], row = (int)words[2], column = (int)words[3];
    int squares = (int)words[4], width = (int)words[6], height = (int)words[7];
    Source source = (Source)(int)words[8];
    const double *m = words + 9;
    int left = (width - c.width) / 2, top = (height - c.height) / 2;
    SHARE(i, c.pixels()) {
        int x = i % c.width + left, y = i / c.width + top;
        if (source == Source::QUARTERS) {
            unturn((int)m[0], width, height, x, y);
        } else {
            double fx, fy;
            find_source(source, m, x, y, fx, fy);
            // Outside there is no square.
            bool inside = fx >= 0 && fx < width && fy >= 0 && fy < height;
            x = inside ? (int)fx : -1, y = (int)fy;
        }
        int square = x >= 0 && !in_bar(y, distance, row, bar) && !in_bar(x, distance, column, bar);
        if (square == squares) put_colour(c.here + i * 3, (int)words[5]);
    }
}
