// What is lost by JPEG: `augment/jpeg_compression.rs`, whose codec is libjpeg-turbo. Colour conversion, 4:2:0, the accurate
// integer DCT (Loeffler, Ligtenberg & Moschytz 1989), quantization and all of it back, with fancy upsampling; integers
// throughout, so that the bits are those of the codec. What loses nothing, the entropy coding, is left out.
#pragma once
#include "canvas.cuh"

// Annex K of the standard, row by row: for luma and for chroma.
CONSTANT unsigned char JPEG_TABLES[2][64] = {
    {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
     14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
     18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
     49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99},
    {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99},
};

// A step of quantization at a quality of 1 to 100.
DEVICE int jpeg_step(int table, int place, int quality) {
    int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    int step = (JPEG_TABLES[table][place] * scale + 50) / 100;
    return step < 1 ? 1 : step > 255 ? 255 : step;
}

DEVICE int jpeg_luma(const Byte *p) { return (19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) >> 16; }

DEVICE int jpeg_chroma(const Byte *p, bool red) {
    int sum = red ? 32768 * p[0] - 27439 * p[1] - 5329 * p[2] : -11059 * p[0] - 21709 * p[1] + 32768 * p[2];
    return (sum + (128 << 16) + 32767) >> 16;
}

// A sample of the plane 0 (luma), 1 (blue) or 2 (red); beyond the image its border repeats.
DEVICE int jpeg_sample(const Canvas &c, int plane, int x, int y) {
    if (plane == 0) return jpeg_luma(c.here + (within(y, c.height) * c.width + within(x, c.width)) * 3);
    // Rows repeat once they are small, columns while they are large.
    y = within(y, (c.height + 1) / 2);
    int sum = 1 + (x & 1);
    for (int n = 0; n < 4; ++n) {
        int column = within(2 * x + (n & 1), c.width), row = within(2 * y + (n >> 1), c.height);
        sum += jpeg_chroma(c.here + (row * c.width + column) * 3, plane == 2);
    }
    return sum >> 2;
}

constexpr int DCT_BITS = 13, DCT_KEPT = 2;

DEVICE int descaled(int x, int bits) { return (x + (1 << (bits - 1))) >> bits; }

// The odd half, which both directions share: what `a`, `b`, `c` and `d` become.
DEVICE void rotate_odd(int &a, int &b, int &c, int &d) {
    int sum = (a + b + c + d) * 9633;
    int ad = (a + d) * -7373, bc = (b + c) * -20995, ac = (a + c) * -16069 + sum, bd = (b + d) * -3196 + sum;
    a = a * 2446 + ad + ac;
    b = b * 16819 + bc + bd;
    c = c * 25172 + bc + ac;
    d = d * 12299 + ad + bd;
}

// Eight samples `step` apart to frequencies. Rows come first and keep two bits more.
DEVICE void dct(int *v, int step, bool rows) {
    int sums[4], differences[4];
    for (int i = 0; i < 4; ++i) {
        sums[i] = v[i * step] + v[(7 - i) * step];
        differences[i] = v[i * step] - v[(7 - i) * step];
    }
    int bits = rows ? DCT_BITS - DCT_KEPT : DCT_BITS + DCT_KEPT;
    int outer = sums[0] + sums[3], inner = sums[1] + sums[2], outer_off = sums[0] - sums[3], inner_off = sums[1] - sums[2];
    v[0] = rows ? (outer + inner) * (1 << DCT_KEPT) : descaled(outer + inner, DCT_KEPT);
    v[4 * step] = rows ? (outer - inner) * (1 << DCT_KEPT) : descaled(outer - inner, DCT_KEPT);
    int turned = (inner_off + outer_off) * 4433;
    v[2 * step] = descaled(turned + outer_off * 6270, bits);
    v[6 * step] = descaled(turned - inner_off * 15137, bits);
    int a = differences[3], b = differences[2], c = differences[1], d = differences[0];
    rotate_odd(a, b, c, d);
    v[7 * step] = descaled(a, bits);
    v[5 * step] = descaled(b, bits);
    v[3 * step] = descaled(c, bits);
    v[step] = descaled(d, bits);
}

// Back: columns come first.
DEVICE void inverse_dct(int *v, int step, bool columns) {
    int bits = columns ? DCT_BITS - DCT_KEPT : DCT_BITS + DCT_KEPT + 3;
    int turned = (v[2 * step] + v[6 * step]) * 4433;
    int low = turned - v[6 * step] * 15137, high = turned + v[2 * step] * 6270;
    int sum = (v[0] + v[4 * step]) * (1 << DCT_BITS), difference = (v[0] - v[4 * step]) * (1 << DCT_BITS);
    int even[4] = {sum + high, difference + low, difference - low, sum - high};
    int odd[4] = {v[step], v[3 * step], v[5 * step], v[7 * step]};
    rotate_odd(odd[3], odd[2], odd[1], odd[0]);
    for (int i = 0; i < 4; ++i) {
        v[i * step] = descaled(even[i] + odd[i], bits);
        v[(7 - i) * step] = descaled(even[i] - odd[i], bits);
    }
}

// A block of a plane through quantization, into its place of the plane as it is decoded.
APART void jpeg_block(const Canvas &c, int plane, int left, int top, int quality, Byte *decoded, int line) {
    int block[64];
    ROLLED
    for (int i = 0; i < 64; ++i) block[i] = jpeg_sample(c, plane, left + i % 8, top + i / 8) - 128;
    ROLLED
    for (int i = 0; i < 8; ++i) dct(block + 8 * i, 1, true);
    ROLLED
    for (int i = 0; i < 8; ++i) dct(block + i, 8, false);
    ROLLED
    for (int i = 0; i < 64; ++i) {
        // The transform is eight times too large.
        int step = jpeg_step(plane > 0, i, quality), size = block[i] < 0 ? -block[i] : block[i];
        int level = (size + 4 * step) / (8 * step) * step;
        block[i] = block[i] < 0 ? -level : level;
    }
    ROLLED
    for (int i = 0; i < 8; ++i) inverse_dct(block + i, 8, true);
    ROLLED
    for (int i = 0; i < 8; ++i) inverse_dct(block + 8 * i, 1, false);
    ROLLED
    for (int i = 0; i < 64; ++i) decoded[(top + i / 8) * line + left + i % 8] = (Byte)within(block[i] + 128, 256);
}

// The plane of a chroma at a pixel: three quarters from the nearest sample and a quarter from the next along each axis,
// the halves rounded up at one side and down at the other. Very narrow images repeat their samples.
DEVICE int enlarged(const Byte *plane, int line, int width, int height, int x, int y) {
    int column = x / 2, row = y / 2;
    if (width <= 2) return plane[row * line + column];
    int next_column = within(column + (x & 1 ? 1 : -1), width), next_row = within(row + (y & 1 ? 1 : -1), height);
    int near = plane[row * line + column] * 3 + plane[next_row * line + column];
    int far = plane[row * line + next_column] * 3 + plane[next_row * line + next_column];
    return (near * 3 + far + (x & 1 ? 7 : 8)) >> 4;
}

DEVICE void from_jpeg_colours(int luma, int blue, int red, Byte *out) {
    blue -= 128, red -= 128;
    out[0] = (Byte)within(luma + ((91881 * red + 32768) >> 16), 256);
    out[1] = (Byte)within(luma + ((-22554 * blue - 46802 * red + 32768) >> 16), 256);
    out[2] = (Byte)within(luma + ((116130 * blue + 32768) >> 16), 256);
}

APART void through_jpeg(const Canvas &c, int quality) {
    int width = (c.width + 1) / 2, height = (c.height + 1) / 2;
    int across = (c.width + 7) / 8, across_small = (width + 7) / 8;
    int blocks = across * ((c.height + 7) / 8), blocks_small = across_small * ((height + 7) / 8);
    Byte *planes = (Byte *)c.notes, *blue = planes + blocks * 64, *red = blue + blocks_small * 64;
    SHARE(i, blocks + 2 * blocks_small) {
        int plane = i < blocks ? 0 : i < blocks + blocks_small ? 1 : 2;
        int at = plane == 0 ? i : plane == 1 ? i - blocks : i - blocks - blocks_small;
        int wide = plane == 0 ? across : across_small;
        Byte *decoded = plane == 0 ? planes : plane == 1 ? blue : red;
        jpeg_block(c, plane, at % wide * 8, at / wide * 8, quality, decoded, wide * 8);
    }
    __syncthreads();
    SHARE(i, c.pixels()) {
        int x = i % c.width, y = i / c.width;
        int cb = enlarged(blue, across_small * 8, width, height, x, y);
        int cr = enlarged(red, across_small * 8, width, height, x, y);
        from_jpeg_colours(planes[y * across * 8 + x], cb, cr, c.here + i * 3);
    }
}
