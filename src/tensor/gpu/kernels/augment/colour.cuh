// Changes of each pixel by itself, some of them after a look at all: `augment/pillow.rs` and `augment/pillow_levels.rs`.
#pragma once
#include "canvas.cuh"

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
    Byte t = clipped(round(v * __dsub_rn(1.0, __dmul_rn((double)s, 1.0 - (double)rest))));
    const Byte all[6][3] = {{most, t, p}, {q, most, p}, {p, most, t}, {p, q, most}, {t, p, most}, {most, p, q}};
    copy_pixel(pixel, all[(int)sector % 6]);
}

// Counts of each level of each channel, or of the luma in the first 256.
DEVICE void count_levels(const Canvas &c, bool of_luma) {
    SHARE(i, LEVELS) c.levels[i] = 0;
    __syncthreads();
    SHARE(i, c.pixels()) {
        const Byte *p = c.here + i * 3;
        // Whole numbers: the order of the additions does not matter.
        if (of_luma) atomicAdd(c.levels + luma(p), 1u);
        else for (int k = 0; k < 3; ++k) atomicAdd(c.levels + k * 256 + p[k], 1u);
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

// What a change of pixels has to know of the whole image, in `levels`.
DEVICE void look_at_all(const Canvas &c, Kind kind) {
    if (kind == Kind::CONTRAST) {
        count_levels(c, true);
        if (threadIdx.x == 0) {
            unsigned long long sum = 0;
            for (int i = 0; i < 256; ++i) sum += (unsigned long long)c.levels[i] * i;
            c.levels[0] = clipped((double)sum / (c.pixels() > 0 ? c.pixels() : 1) + 0.5);
        }
        __syncthreads();
    } else if (kind == Kind::AUTOCONTRAST || kind == Kind::EQUALIZE) {
        count_levels(c, false);
        if (threadIdx.x < 3) {
            if (kind == Kind::AUTOCONTRAST) autocontrast_levels(c.levels + threadIdx.x * 256);
            else equalize_levels(c.levels + threadIdx.x * 256);
        }
        __syncthreads();
    }
}

DEVICE void change_pixel(Byte *p, Kind kind, const double *words, const unsigned *levels) {
    switch (kind) {
        case Kind::HUE: turn_hue(p, (Byte)words[0]); break;
        case Kind::GRAYSCALE: p[0] = p[1] = p[2] = luma(p); break;
        case Kind::CHANNELS: {
            Byte kept[3] = {p[0], p[1], p[2]};
            for (int k = 0; k < 3; ++k) p[k] = kept[(int)words[k]];
            break;
        }
        case Kind::BRIGHTNESS: for (int k = 0; k < 3; ++k) p[k] = blend(0, p[k], (float)words[0]); break;
        case Kind::CONTRAST: for (int k = 0; k < 3; ++k) p[k] = blend((Byte)levels[0], p[k], (float)words[0]); break;
        case Kind::COLOR: {
            Byte gray = luma(p);
            for (int k = 0; k < 3; ++k) p[k] = blend(gray, p[k], (float)words[0]);
            break;
        }
        case Kind::POSTERIZE: {
            int bits = words[0] < 8.0 ? (int)words[0] : 8;
            for (int k = 0; k < 3; ++k) p[k] &= (Byte)(0xff00 >> bits);
            break;
        }
        case Kind::SOLARIZE: for (int k = 0; k < 3; ++k) p[k] = p[k] < words[0] ? p[k] : 255 - p[k]; break;
        case Kind::SOLARIZE_ADD: for (int k = 0; k < 3; ++k) p[k] = p[k] < 128 ? clipped(p[k] + words[0]) : p[k]; break;
        case Kind::INVERT: for (int k = 0; k < 3; ++k) p[k] = 255 - p[k]; break;
        case Kind::AUTOCONTRAST:
        case Kind::EQUALIZE: for (int k = 0; k < 3; ++k) p[k] = (Byte)levels[k * 256 + p[k]]; break;
        default: break;
    }
}

APART void change_pixels(const Canvas &c, Kind kind, const double *words) {
    look_at_all(c, kind);
    SHARE(i, c.pixels()) change_pixel(c.here + i * 3, kind, words, c.levels);
}

// The weighted sum of an image and of what chains of changes make of it: `augment/aug_mix.rs`. The sums are kept, and
// behind them the image.
APART void mix_chains(Canvas &c, Kind kind, float weight) {
    float *sums = (float *)c.kept;
    Byte *image = (Byte *)(sums + c.values());
    SHARE(i, c.values()) {
        Byte value = c.here[i];
        switch (kind) {
            case Kind::MIXTURE_BEGIN:
                image[i] = value;
                sums[i] = __fmul_rn(weight, (float)value);
                break;
            case Kind::MIXTURE_ADD:
                c.here[i] = image[i];
                sums[i] = __fadd_rn(sums[i], __fmul_rn(weight, (float)value));
                break;
            default: c.here[i] = clipped(sums[i]);
        }
    }
}
