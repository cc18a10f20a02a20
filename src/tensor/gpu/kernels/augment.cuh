// Batches made of 8-bit RGB images, one block an image: what `augment/` does on the CPU, to the bit but for sines,
// cosines and logarithms.
#pragma once
#include "augment/colour.cuh"
#include "augment/filter.cuh"
#include "augment/jpeg.cuh"
#include "augment/move.cuh"

DEVICE void change_image(Canvas &c, Kind kind, const double *words) {
    switch (kind) {
        case Kind::NOTHING: return;
        case Kind::FLIP_HORIZONTAL: return flip_horizontal(c);
        case Kind::FLIP_VERTICAL: return flip_vertical(c);
        case Kind::FILL: return fill(c, words);
        case Kind::SCATTER: return scatter(c, words);
        case Kind::CROP: return crop(c, words);
        case Kind::PAD: return pad(c, words);
        case Kind::QUARTERS: return turn(c, (int)words[0]);
        case Kind::SHARPNESS: return sharpen(c, (float)words[0]);
        case Kind::WARP: return warp(c, words);
        case Kind::RESIZE: return resize(c, words);
        case Kind::BLUR: return blur(c, words);
        case Kind::NOISE: return add_noise(c, words);
        case Kind::ELASTIC: return bend(c, words);
        case Kind::GRID: return erase_grid(c, words);
        case Kind::JPEG: return through_jpeg(c, (int)words[0]);
        case Kind::MIXTURE_BEGIN:
        case Kind::MIXTURE_ADD:
        case Kind::MIXTURE_END: return mix_chains(c, kind, (float)words[0]);
        default: return change_pixels(c, kind, words);
    }
}

// Block `n` makes image `n` of the batch: `out` is (blocks, size, size, 3). `table` holds which of `images` (side x side)
// each is, where the words of its changes begin and the last's end, and the words: for each change its kind, how many
// words it is long, these two included, and what belongs to it. `room` holds for each block two images of `canvas` bytes,
// `notes` and `kept` bytes, and `normalized` what each level of each channel becomes; without it `out` is bytes.
KERNEL_OF(1024, augment, const Byte *images, const Count *table, const float *normalized, Byte *room, T *out, Count side,
       Count size, Count canvas, Count notes, Count kept) {
    SHARED unsigned levels[LEVELS];
    Count block = blockIdx.x, blocks = gridDim.x, bytes = side * side * 3;
    const Count *begin = table + blocks;
    const double *words = (const double *)(begin + blocks + 1);
    Byte *own = room + block * (2 * canvas + notes + kept);
    Canvas c = {own, own + canvas, (int)side, (int)side, own + 2 * canvas, own + 2 * canvas + notes, levels};
    const Byte *image = images + table[block] * bytes;
    SHARE(i, (int)bytes) c.here[i] = image[i];
    __syncthreads();
    for (Count at = begin[block]; at < begin[block + 1]; at += (Count)words[at + 1]) {
        change_image(c, (Kind)(int)words[at], words + at + 2);
        __syncthreads();
    }
    Count first = block * size * size * 3;
    SHARE(i, (int)(size * size * 3)) {
        if (normalized) out[first + i] = to<T>(normalized[i % 3 * 256 + c.here[i]]);
        else ((Byte *)out)[first + i] = c.here[i];
    }
}

// Mixes each image with its partner. `mixes` holds, for each, its partner, whether it is averaged with it (0), or a box of
// it is pasted (1), or all of it into a box (2), the share that it keeps and the rest, and the box: left, right, top, bottom.
KERNEL(mix_images, const T *x, const float *mixes, T *y, Count samples, Count size, Count channels) {
    Count image = size * size * channels;
    FOR_EACH(i, samples * image) {
        Count sample = i / image, place = i % image, column = place / channels % size, row = place / channels / size;
        const float *m = mixes + sample * 8;
        const T *partner = x + (Count)m[0] * image;
        float left = m[4], right = m[5], top = m[6], bottom = m[7];
        if (m[1] == 0) {
            float own = to_float(x[i]), other = to_float(partner[place]);
            y[i] = to<T>(__fadd_rn(__fmul_rn(m[3], other), __fmul_rn(m[2], own)));
        } else if (column >= left && column < right && row >= top && row < bottom) {
            if (m[1] == 2) {
                column = (Count)__fmul_rn((float)column - left, (float)size / (right - left));
                row = (Count)__fmul_rn((float)row - top, (float)size / (bottom - top));
                column = column < size ? column : size - 1;
                row = row < size ? row : size - 1;
            }
            y[i] = partner[(row * size + column) * channels + place % channels];
        } else {
            y[i] = x[i];
        }
    }
}
