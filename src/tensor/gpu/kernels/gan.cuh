// What a generative adversarial network needs of its own: spectral normalization, and augmentations that gradients flow
// through. In f32 alone, in one module.
#pragma once
#include "common.cuh"

#ifdef TYPE_f32

// A vector at length 1, by one block; its length before where that is asked for.
KERNEL(unit, float *x, float *length, Count count) {
    SHARED float slots[WARP];
    float sum = 0;
    for (Count i = threadIdx.x; i < count; i += blockDim.x) sum += x[i] * x[i];
    float root = sqrtf(block_sum(sum, slots));
    for (Count i = threadIdx.x; i < count; i += blockDim.x) x[i] /= fmaxf(root, 1e-12f);
    if (threadIdx.x == 0 && length) length[0] = root;
}

KERNEL(divide, const float *x, const float *by, float *y, Count count) {
    FOR_EACH(i, count) y[i] = x[i] / by[0];
}

// Each block's share of the sum of products.
KERNEL(product_sums, const float *a, const float *b, float *partial, Count count) {
    SHARED float slots[WARP];
    float sum = 0;
    FOR_EACH(i, count) sum += a[i] * b[i];
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The gradient of a weight (out, rest) that is divided by sigma = left weight right; `partial` are the shares of the sum
// of weight * dy.
KERNEL(spectral_gradient, const float *dy, const float *partial, const float *sigma, const float *left,
       const float *right, float *dx, Count parts, Count count, Count rest) {
    SHARED float slots[WARP];
    float sum = 0;
    for (Count i = threadIdx.x; i < parts; i += blockDim.x) sum += partial[i];
    float slope = -block_sum(sum, slots) / (sigma[0] * sigma[0]);
    FOR_EACH(i, count) dx[i] = dy[i] / sigma[0] + left[i / rest] * (slope * right[i % rest]);
}

// What happens to one image; `Change` in Rust.
struct Changes {
    float brightness, saturation, contrast, right, down;
};

// The pixel that lands on `at` when an image moves; -1 where nothing does.
DEVICE Count moved_from(Count at, int height, int width, int right, int down) {
    int x = (int)(at % width) - right, y = (int)(at / width) - down;
    return x >= 0 && x < width && y >= 0 && y < height ? (Count)y * width + x : -1;
}

// Images (gridDim.x, height, width, 3) in other colours, then moved; or, `back`, moved back and then in those colours,
// which are a symmetric linear map but for the brightness. A block for each.
KERNEL(diff_augment, const float *images, const Changes *changes, float *out, int height, int width, int back) {
    SHARED float slots[WARP];
    Changes own = changes[blockIdx.x];
    Count pixels = (Count)height * width;
    const float *image = images + blockIdx.x * pixels * 3;
    float *to = out + blockIdx.x * pixels * 3;
    int sign = back ? -1 : 1, right = sign * (int)own.right, down = sign * (int)own.down;
    float brightness = back ? 0.0f : own.brightness, sum = 0;
    for (Count at = threadIdx.x; at < pixels; at += blockDim.x) {
        Count from = back ? moved_from(at, height, width, right, down) : at;
        for (int c = 0; from >= 0 && c < 3; ++c) sum += image[from * 3 + c];
    }
    float mean = block_sum(sum, slots) / (float)(pixels * 3) + brightness;
    for (Count at = threadIdx.x; at < pixels; at += blockDim.x) {
        Count from = moved_from(at, height, width, right, down);
        float values[3] = {};
        for (int c = 0; from >= 0 && c < 3; ++c) values[c] = image[from * 3 + c];
        float grey = (values[0] + values[1] + values[2]) / 3.0f + brightness;
        float all = own.contrast * (1.0f - own.saturation) * grey + (1.0f - own.contrast) * mean;
        for (int c = 0; c < 3; ++c) {
            float value = own.contrast * own.saturation * (values[c] + brightness) + all;
            to[at * 3 + c] = back || from >= 0 ? value : 0.0f;
        }
    }
}

#endif
