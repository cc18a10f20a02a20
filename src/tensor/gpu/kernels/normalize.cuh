// 8-bit RGB images as a network takes them.
#pragma once
#include "common.cuh"

// The middle `size x size` of each of `count` images (side x side), `margin` from their left and upper edges, normalized:
// `out` is (count, size, size, 3). `tables` is what each level of each channel becomes.
KERNEL(normalize_images, const unsigned char *images, const float *tables, T *out, Count count, Count side, Count size,
       Count margin) {
    FOR_EACH(i, count * size * size) {
        Count row = i / size, image = row / size, y = row % size + margin, x = i % size + margin;
        const unsigned char *pixel = images + ((image * side + y) * side + x) * 3;
        for (int c = 0; c < 3; ++c) out[i * 3 + c] = to<T>(tables[c * 256 + pixel[c]]);
    }
}
