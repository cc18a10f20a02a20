// Changes to 8-bit RGB images, one block an image: what `augment/change.rs` does on the CPU, to the bit.
#pragma once
#include "common.cuh"

typedef unsigned char Byte;

// The image at hand, and another place of its size.
struct Canvas {
    Byte *here, *there;
    int width, height;
};

#define FOR_EACH_PIXEL(i, count) for (int i = threadIdx.x; i < (count); i += blockDim.x)

constexpr int WORDS = 12;
constexpr int LEVELS = 3 * 256;

DEVICE Byte luma(const Byte *p) { return (Byte)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16); }

// A cast to a byte that clips, as Rust's.
DEVICE Byte clipped(double value) { return (Byte)(value <= 0.0 ? 0 : value >= 255.0 ? 255 : (int)value); }

DEVICE Byte blend(Byte from, Byte to, float alpha) {
    // Not fused: the product is rounded, as on the CPU.
    return clipped(__fadd_rn((float)from, __fmul_rn(alpha, (float)((int)to - (int)from))));
}

DEVICE void swap_pixels(Byte *a, Byte *b) {
    for (int c = 0; c < 3; ++c) {
        Byte kept = a[c];
        a[c] = b[c];
        b[c] = kept;
    }
}

DEVICE void turn_hue(Byte *pixel, Byte shift) {
    Byte r = pixel[0], g = pixel[1], b = pixel[2];
    Byte most = r > g ? r : g, least = r < g ? r : g;
    most = most > b ? most : b;
    least = least < b ? least : b;
    Byte hue = 0, saturation = 0;
    if (most != least) {
        float range = (float)(most - least);
        float rc = (most - r) / range, gc = (most - g) / range, bc = (most - b) / range;
        float sixths = r == most ? bc - gc : g == most ? (float)(2.0 + (double)rc - (double)bc) : (float)(4.0 + (double)gc - (double)rc);
        double turns = (double)sixths / 6.0 + 1.0;
        float h = (float)(turns >= 1.0 ? turns - 1.0 : turns);
        hue = clipped((double)h * 255.0);
        saturation = clipped((double)(range / (float)most) * 255.0);
    }
    hue = (Byte)(hue + shift);
    if (saturation == 0) {
        pixel[0] = pixel[1] = pixel[2] = most;
        return;
    }
    double sixths = (double)hue * 6.0 / 255.0, sector = floor(sixths);
    float rest = (float)(sixths - (double)(float)sector);
    float s = (float)((double)saturation / 255.0);
    double v = most;
    Byte p = clipped(round(v * (1.0 - (double)s)));
    Byte q = clipped(round(v * (1.0 - (double)__fmul_rn(s, rest))));
    Byte t = clipped(round(v * (1.0 - (double)s * (1.0 - (double)rest))));
    const Byte all[6][3] = {{most, t, p}, {q, most, p}, {p, most, t}, {p, q, most}, {t, p, most}, {most, p, q}};
    const Byte *chosen = all[(int)sector % 6];
    for (int c = 0; c < 3; ++c) pixel[c] = chosen[c];
}

DEVICE double mix(double a, double b, double d) { return __dadd_rn(a, __dmul_rn(__dsub_rn(b, a), d)); }

DEVICE double cubic(const double *v, double d) {
    double first = -v[0] + v[2], second = 2.0 * (v[0] - v[1]) + v[2] - v[3], third = -v[0] + v[1] - v[2] + v[3];
    return __dadd_rn(v[1], __dmul_rn(d, __dadd_rn(first, __dmul_rn(d, __dadd_rn(second, __dmul_rn(d, third))))));
}

DEVICE int within(int at, int size) { return at < 0 ? 0 : at >= size ? size - 1 : at; }

// Reads by filter (0 nearest, 1 bilinear, 2 bicubic) at a point inside.
DEVICE void read_at(const Canvas &c, double x, double y, int filter, Byte *out) {
    if (filter == 0) {
        const Byte *from = c.here + ((int)y * c.width + (int)x) * 3;
        for (int i = 0; i < 3; ++i) out[i] = from[i];
        return;
    }
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
            rows[a] = filter == 1 ? mix(row[0], row[1], dx) : cubic(row, dx);
        }
        out[i] = clipped(filter == 1 ? mix(rows[0], rows[1], dy) : cubic(rows, dy));
    }
}

DEVICE long long fixed(double value) { return (long long)floor(value * 65536.0 + 0.5); }

// Kinds 18 to 24: see `encode_map`.
DEVICE void warp(Canvas &c, const double *words) {
    int kind = (int)words[0], fill = (int)words[1];
    const double *m = words + 2;
    FOR_EACH_PIXEL(i, c.width * c.height) {
        int px = i % c.width, py = i / c.width;
        Byte *out = c.there + i * 3;
        out[0] = fill & 255, out[1] = fill >> 8 & 255, out[2] = fill >> 16;
        if (kind == 18) {
            long long x = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5) + py * fixed(m[1]) + px * fixed(m[0]);
            long long y = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5) + py * fixed(m[4]) + px * fixed(m[3]);
            x >>= 16, y >>= 16;
            if (x >= 0 && x < c.width && y >= 0 && y < c.height) read_at(c, (double)x, (double)y, 0, out);
            continue;
        }
        double x = px + 0.5, y = py + 0.5;
        double fx = __dadd_rn(__dadd_rn(__dmul_rn(m[0], x), __dmul_rn(m[1], y)), m[2]);
        double fy = __dadd_rn(__dadd_rn(__dmul_rn(m[3], x), __dmul_rn(m[4], y)), m[5]);
        int filter = kind - (kind < 22 ? 19 : 22);
        if (kind >= 22) {
            double depth = __dadd_rn(__dadd_rn(__dmul_rn(m[6], x), __dmul_rn(m[7], y)), 1.0);
            fx /= depth, fy /= depth;
        }
        if (fx >= 0 && fx < c.width && fy >= 0 && fy < c.height) read_at(c, fx, fy, filter, out);
    }
}

DEVICE void exchange(Canvas &c) {
    Byte *kept = c.here;
    c.here = c.there;
    c.there = kept;
}

// Counts of each level of each channel, or of the luma in the first 256.
DEVICE void count_levels(const Canvas &c, unsigned *counts, bool of_luma) {
    FOR_EACH_PIXEL(i, LEVELS) counts[i] = 0;
    __syncthreads();
    FOR_EACH_PIXEL(i, c.width * c.height) {
        const Byte *p = c.here + i * 3;
        // Whole numbers: the order of the additions does not matter.
        if (of_luma) atomicAdd(counts + luma(p), 1u);
        else for (int k = 0; k < 3; ++k) atomicAdd(counts + k * 256 + p[k], 1u);
    }
    __syncthreads();
}

// What each level of one channel becomes, from its counts; in place.
DEVICE void autocontrast_levels(unsigned *levels) {
    int low = 0, high = 255;
    while (low < 255 && levels[low] == 0) ++low;
    while (high > 0 && levels[high] == 0) --high;
    double scale = high > low ? 255.0 / (high - low) : 1.0, offset = high > low ? -(double)low * scale : 0.0;
    for (int i = 0; i < 256; ++i) levels[i] = clipped(__dadd_rn(__dmul_rn((double)i, scale), offset));
}

DEVICE void equalize_levels(unsigned *levels) {
    unsigned last = 0, all = 0;
    for (int i = 0; i < 256; ++i) {
        all += levels[i];
        if (levels[i]) last = levels[i];
    }
    unsigned step = (all - last) / 255, below = step / 2;
    for (int i = 0; i < 256; ++i) {
        unsigned count = levels[i];
        levels[i] = step == 0 ? i : below / step < 255 ? below / step : 255;
        below += count;
    }
}

// A change of each pixel by itself.
DEVICE void change_pixel(Byte *p, const double *words, const unsigned *levels) {
    double x = words[1];
    switch ((int)words[0]) {
        case 3: turn_hue(p, (Byte)x); break;
        case 4: p[0] = p[1] = p[2] = luma(p); break;
        case 5: {
            Byte kept[3] = {p[0], p[1], p[2]};
            for (int k = 0; k < 3; ++k) p[k] = kept[(int)words[1 + k]];
            break;
        }
        case 9: for (int k = 0; k < 3; ++k) p[k] = blend(0, p[k], (float)x); break;
        case 10: for (int k = 0; k < 3; ++k) p[k] = blend((Byte)levels[0], p[k], (float)x); break;
        case 11: {
            Byte gray = luma(p);
            for (int k = 0; k < 3; ++k) p[k] = blend(gray, p[k], (float)x);
            break;
        }
        case 12: {
            int bits = x < 8.0 ? (int)x : 8;
            for (int k = 0; k < 3; ++k) p[k] &= (Byte)(0xff00 >> bits);
            break;
        }
        case 13: for (int k = 0; k < 3; ++k) p[k] = p[k] < x ? p[k] : 255 - p[k]; break;
        case 14: for (int k = 0; k < 3; ++k) p[k] = p[k] < 128 ? clipped(p[k] + x) : p[k]; break;
        case 15: for (int k = 0; k < 3; ++k) p[k] = 255 - p[k]; break;
        case 16:
        case 17: for (int k = 0; k < 3; ++k) p[k] = (Byte)levels[k * 256 + p[k]]; break;
    }
}

DEVICE void change_image(Canvas &c, const double *words, unsigned *levels) {
    int kind = (int)words[0], pixels = c.width * c.height;
    switch (kind) {
        case 0: return;
        case 1:
            FOR_EACH_PIXEL(i, c.height * (c.width / 2)) {
                int x = i % (c.width / 2), y = i / (c.width / 2);
                swap_pixels(c.here + (y * c.width + x) * 3, c.here + (y * c.width + c.width - 1 - x) * 3);
            }
            return;
        case 2:
            FOR_EACH_PIXEL(i, c.height / 2 * c.width) {
                int x = i % c.width, y = i / c.width;
                swap_pixels(c.here + i * 3, c.here + ((c.height - 1 - y) * c.width + x) * 3);
            }
            return;
        case 6: {
            int left = (int)words[1], top = (int)words[2], width = (int)words[3], height = (int)words[4];
            FOR_EACH_PIXEL(i, width * height) {
                int x = left + i % width, y = top + i / width;
                if (x >= c.width || y >= c.height) continue;
                for (int k = 0; k < 3; ++k) c.here[(y * c.width + x) * 3 + k] = (Byte)words[5 + k];
            }
            return;
        }
        case 7: {
            int left = (int)words[1], top = (int)words[2], width = (int)words[3], height = (int)words[4];
            FOR_EACH_PIXEL(i, width * height) {
                const Byte *from = c.here + ((top + i / width) * c.width + left + i % width) * 3;
                for (int k = 0; k < 3; ++k) c.there[i * 3 + k] = from[k];
            }
            c.width = width, c.height = height;
            return exchange(c);
        }
        case 8: {
            int quarters = (int)words[1];
            if (quarters == 0) return;
            FOR_EACH_PIXEL(i, pixels) {
                int x = i % c.width, y = i / c.width;
                int fx = quarters == 1 ? c.width - 1 - y : quarters == 2 ? c.width - 1 - x : y;
                int fy = quarters == 1 ? x : c.height - 1 - (quarters == 2 ? y : x);
                for (int k = 0; k < 3; ++k) c.there[i * 3 + k] = c.here[(fy * c.width + fx) * 3 + k];
            }
            return exchange(c);
        }
        case 10: {
            count_levels(c, levels, true);
            if (threadIdx.x == 0) {
                unsigned long long sum = 0;
                for (int i = 0; i < 256; ++i) sum += (unsigned long long)levels[i] * i;
                levels[0] = clipped((double)sum / (pixels > 0 ? pixels : 1) + 0.5);
            }
            break;
        }
        case 16:
        case 17:
            count_levels(c, levels, false);
            if (threadIdx.x < 3) {
                if (kind == 16) autocontrast_levels(levels + threadIdx.x * 256);
                else equalize_levels(levels + threadIdx.x * 256);
            }
            break;
        default:
            if (kind >= 18) {
                warp(c, words);
                return exchange(c);
            }
    }
    __syncthreads();
    FOR_EACH_PIXEL(i, pixels) change_pixel(c.here + i * 3, words, levels);
}

// Block `n` takes image `samples[n]` of `images` (side x side), makes the changes `first[n]` to `first[n + 1]` of `words`,
// cuts out the middle `size x size` and normalizes it: `out` is (blocks, size, size, 3). `room` holds two images a block;
// `tables` is what each level of each channel becomes.
KERNEL(augment, const Byte *images, const Count *samples, const Count *first, const double *words, const float *tables,
       Byte *room, T *out, Count side, Count size) {
    SHARED unsigned levels[LEVELS];
    Count bytes = side * side * 3, block = blockIdx.x;
    Canvas c = {room + 2 * block * bytes, room + (2 * block + 1) * bytes, (int)side, (int)side};
    const Byte *image = images + samples[block] * bytes;
    FOR_EACH_PIXEL(i, (int)bytes) c.here[i] = image[i];
    __syncthreads();
    for (Count change = first[block]; change < first[block + 1]; ++change) {
        change_image(c, words + change * WORDS, levels);
        __syncthreads();
    }
    T *result = out + block * size * size * 3;
    FOR_EACH_PIXEL(i, (int)(size * size)) {
        const Byte *p = c.here + i * 3;
        for (int k = 0; k < 3; ++k) result[i * 3 + k] = to<T>(tables[k * 256 + p[k]]);
    }
}

// Mixes each image with its partner: `mixes` holds, for each, its partner, its share, and the box that is pasted instead
// (left, right, top, bottom; empty for none).
KERNEL(mix_images, const T *x, const float *mixes, T *y, Count samples, Count size, Count channels) {
    Count image = size * size * channels;
    FOR_EACH(i, samples * image) {
        Count sample = i / image, place = i % image, column = place / channels % size, row = place / channels / size;
        const float *m = mixes + sample * 6;
        float own = to_float(x[i]), other = to_float(x[(Count)m[0] * image + place]);
        bool pasted = column >= m[2] && column < m[3] && row >= m[4] && row < m[5];
        bool boxed = m[3] > m[2];
        y[i] = to<T>(boxed ? (pasted ? other : own) : __fadd_rn(__fmul_rn(1.0f - m[1], other), __fmul_rn(m[1], own)));
    }
}
