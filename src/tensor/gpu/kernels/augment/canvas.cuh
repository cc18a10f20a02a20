// What the changes to an 8-bit RGB image share: one block makes them all, one after the other.
#pragma once
#include "../common.cuh"

typedef unsigned char Byte;

// By the numbers of `augment/encode.rs`.
enum class Kind {
    NOTHING,
    FLIP_HORIZONTAL,
    FLIP_VERTICAL,
    HUE,
    GRAYSCALE,
    CHANNELS,
    FILL,
    SCATTER,
    CROP,
    PAD,
    QUARTERS,
    BRIGHTNESS,
    CONTRAST,
    COLOR,
    SHARPNESS,
    POSTERIZE,
    SOLARIZE,
    SOLARIZE_ADD,
    INVERT,
    AUTOCONTRAST,
    EQUALIZE,
    WARP,
    RESIZE,
    BLUR,
    NOISE,
    ELASTIC,
    GRID,
    MIXTURE_BEGIN,
    MIXTURE_ADD,
    MIXTURE_END,
    JPEG,
};

constexpr int LEVELS = 3 * 256;

// The image at hand.
struct Canvas {
    // Its pixels, and another place as large as it ever becomes.
    Byte *here, *there;
    int width, height;
    // What a change notes down, and what is kept from one to the next.
    void *notes, *kept;
    // A number for each level of each channel.
    unsigned *levels;

    DEVICE int pixels() const { return width * height; }
    DEVICE int values() const { return width * height * 3; }
};

// What is in the other place is the image from now on.
DEVICE void exchange(Canvas &c) {
    Byte *kept = c.here;
    c.here = c.there;
    c.there = kept;
}

// The threads of a block share `count` things.
#define SHARE(i, count) for (int i = threadIdx.x; i < (count); i += blockDim.x)

DEVICE void copy_pixel(Byte *to, const Byte *from) {
    for (int k = 0; k < 3; ++k) to[k] = from[k];
}

DEVICE void put_colour(Byte *to, int packed) { to[0] = packed & 255, to[1] = packed >> 8 & 255, to[2] = packed >> 16; }

// Casts to a byte that clip, as Rust's.
DEVICE Byte clipped(double value) { return (Byte)(value <= 0.0 ? 0 : value >= 255.0 ? 255 : (int)value); }
DEVICE Byte clipped(float value) { return (Byte)(value <= 0.0f ? 0 : value >= 255.0f ? 255 : (int)value); }

DEVICE Byte luma(const Byte *p) { return (Byte)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16); }

DEVICE Byte blend(Byte from, Byte to, float alpha) {
    // Not fused: the product is rounded, as on the CPU.
    return clipped(__fadd_rn((float)from, __fmul_rn(alpha, (float)((int)to - (int)from))));
}

DEVICE int within(int at, int size) { return at < 0 ? 0 : at >= size ? size - 1 : at; }

// The place of a sample of an image that is mirrored at its border samples.
DEVICE int reflected(int at, int size) {
    if (at >= 0 && at < size) return at;
    int period = 2 * size - 2;
    if (period < 1) return 0;
    at = (at % period + period) % period;
    return at < size ? at : period - at;
}
