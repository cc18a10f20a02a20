// What a network sees of 8-bit RGB images beside their colours: `data/channels.rs`. Every kernel takes the middle
// `size x size` of `count` images (side x side), `margin` from their left and upper edges, and makes (count, size, size,
// channels) of it; `levels` is what each level of each colour is after normalization.
#pragma once
#include "common.cuh"

// The middle of an image.
struct Middle {
    const unsigned char *pixels;
    int side, size;

    DEVICE const unsigned char *at(int y, int x) const { return pixels + (y * side + x) * 3; }

    // A weighted sum of the colours; beyond the border it repeats.
    DEVICE float grey(int y, int x, const float *weights) const {
        y = y < 0 ? 0 : y < size ? y : size - 1;
        x = x < 0 ? 0 : x < size ? x : size - 1;
        const unsigned char *p = at(y, x);
        float sum = __fmul_rn((float)p[0], weights[0]);
        sum = __fadd_rn(sum, __fmul_rn((float)p[1], weights[1]));
        return __fadd_rn(sum, __fmul_rn((float)p[2], weights[2]));
    }
};

DEVICE Middle middle(const unsigned char *images, Count image, Count side, Count size, Count margin) {
    return {images + ((image * side + margin) * side + margin) * 3, (int)side, (int)size};
}

// JPEG's full-range conversion in Pillow's fixed point, each term rounded as its tables are.
DEVICE int fixed_term(double factor, unsigned char value) { return (int)__dadd_rn(__dmul_rn(factor * 64.0, (double)value), 0.5); }

DEVICE int fixed_sum(const unsigned char *p, double r, double g, double b) {
    return (fixed_term(r, p[0]) + fixed_term(g, p[1]) + fixed_term(b, p[2])) >> 6;
}

KERNEL(see_rgb, const unsigned char *images, const float *levels, T *out, Count count, Count side, Count size, Count margin) {
    FOR_EACH(i, count * size * size) {
        const unsigned char *p = middle(images, i / (size * size), side, size, margin).at((int)(i / size % size), (int)(i % size));
        for (int k = 0; k < 3; ++k) out[i * 3 + k] = to<T>(levels[k * 256 + p[k]]);
    }
}

KERNEL(see_ycbcr, const unsigned char *images, const float *levels, T *out, Count count, Count side, Count size, Count margin) {
    FOR_EACH(i, count * size * size) {
        const unsigned char *p = middle(images, i / (size * size), side, size, margin).at((int)(i / size % size), (int)(i % size));
        int luma = fixed_sum(p, 0.299, 0.587, 0.114), blue = fixed_sum(p, -0.16874, -0.33126, 0.5) + 128;
        int red = fixed_sum(p, 0.5, -0.41869, -0.08131) + 128;
        // A cast to a byte, as Rust's.
        out[i * 3] = to<T>(levels[luma & 255]);
        out[i * 3 + 1] = to<T>(levels[256 + (blue & 255)]);
        out[i * 3 + 2] = to<T>(levels[512 + (red & 255)]);
    }
}

// The high-pass kernels of Zhou et al. 2018.
CONSTANT signed char HIGH_PASSES[3][25] = {
    {0, 0, 0, 0, 0, 0, -1, 2, -1, 0, 0, 2, -4, 2, 0, 0, -1, 2, -1, 0, 0, 0, 0, 0, 0},
    {-1, 2, -2, 2, -1, 2, -6, 8, -6, 2, -2, 8, -12, 8, -2, 2, -6, 8, -6, 2, -1, 2, -2, 2, -1},
    {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
};

KERNEL(see_srm, const unsigned char *images, const float *levels, T *out, Count count, Count side, Count size, Count margin) {
    const float weights[3] = {1.0f / 3.0f, 1.0f / 3.0f, 1.0f / 3.0f}, divisors[3] = {4.0f, 12.0f, 2.0f};
    FOR_EACH(i, count * size * size) {
        Middle m = middle(images, i / (size * size), side, size, margin);
        int y = (int)(i / size % size), x = (int)(i % size);
        float sums[3] = {0.0f, 0.0f, 0.0f};
        for (int tap = 0; tap < 25; ++tap) {
            float grey = m.grey(y + tap / 5 - 2, x + tap % 5 - 2, weights);
            for (int k = 0; k < 3; ++k) sums[k] = __fadd_rn(sums[k], __fmul_rn((float)HIGH_PASSES[k][tap], grey));
        }
        for (int k = 0; k < 3; ++k) {
            out[i * 6 + k] = to<T>(levels[k * 256 + m.at(y, x)[k]]);
            out[i * 6 + 3 + k] = to<T>(fminf(fmaxf(sums[k] / divisors[k], -2.0f), 2.0f));
        }
    }
}

// The sum of eight products.
DEVICE float dot8(const float *a, const float *b, int step) {
    float sum = 0.0f;
    for (int i = 0; i < 8; ++i) sum = __fadd_rn(sum, __fmul_rn(a[i], b[i * step]));
    return sum;
}

// Each thread takes a block of 8 x 8.
KERNEL(see_dct, const unsigned char *images, const float *levels, T *out, Count count, Count side, Count size, Count margin) {
    // The orthonormal DCT-II, by frequency and place.
    SHARED float basis[64];
    const float weights[3] = {0.299f, 0.587f, 0.114f};
    for (int i = threadIdx.x; i < 64; i += blockDim.x) {
        double angle = 3.14159265358979323846 * (double)(2 * (i % 8) + 1) * (double)(i / 8) / 16.0;
        basis[i] = (float)((i < 8 ? 1.0 : sqrt(2.0)) / sqrt(8.0) * cos(angle));
    }
    __syncthreads();
    Count across = (size + 7) / 8;
    FOR_EACH(i, count * across * across) {
        Count image = i / (across * across);
        Middle m = middle(images, image, side, size, margin);
        int top = (int)(i / across % across) * 8, left = (int)(i % across) * 8;
        // By place down and frequency across.
        float rows[64], sums[3] = {0.0f, 0.0f, 0.0f};
        for (int y = 0; y < 8; ++y) {
            float row[8];
            for (int x = 0; x < 8; ++x) row[x] = m.grey(top + y, left + x, weights);
            for (int v = 0; v < 8; ++v) rows[y * 8 + v] = dot8(basis + v * 8, row, 1);
        }
        for (int v = 0; v < 8; ++v) {
            for (int u = v == 0 ? 1 : 0; u < 8; ++u) {
                float size_of_wave = fabsf(dot8(basis + u * 8, rows + v, 8));
                int band = u + v <= 4 ? 0 : u + v <= 9 ? 1 : 2;
                sums[band] = __fadd_rn(sums[band], size_of_wave);
            }
        }
        for (int k = 0; k < 3; ++k) sums[k] = log10f(1.0f + sums[k]);
        for (int y = top; y < top + 8 && y < size; ++y) {
            for (int x = left; x < left + 8 && x < size; ++x) {
                T *to_pixel = out + ((image * size + y) * size + x) * 6;
                for (int k = 0; k < 3; ++k) {
                    to_pixel[k] = to<T>(levels[k * 256 + m.at(y, x)[k]]);
                    to_pixel[3 + k] = to<T>(sums[k]);
                }
            }
        }
    }
}
