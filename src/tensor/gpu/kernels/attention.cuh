// The softmax between attention's two matrix products: rows of `width` scores, `stride` apart.
#pragma once
#include "rows.cuh"

KERNEL(softmax, const float *scores, T *weights, Count rows, Count width, Count stride, float scale) {
    FOR_EACH_WARP(row, rows) {
        const float *from = scores + row * stride;
        float most = -INFINITY, sum = 0;
        for (Count i = threadIdx.x % WARP; i < width; i += WARP) most = fmaxf(most, from[i]);
        most = warp_max(most);
        for (Count i = threadIdx.x % WARP; i < width; i += WARP) sum += expf((from[i] - most) * scale);
        float inverse = 1.0f / warp_sum(sum);
        for (Count i = threadIdx.x % WARP; i < width; i += WARP) {
            weights[row * stride + i] = to<T>(expf((from[i] - most) * scale) * inverse);
        }
    }
}

// From the gradient of the weights to that of the scores in front of `scale`.
KERNEL(softmax_gradient, const T *weights, const float *dweights, T *dscores, Count rows, Count width, Count stride,
       float scale) {
    FOR_EACH_WARP(row, rows) {
        float mean = 0;
        for (Count i = threadIdx.x % WARP; i < width; i += WARP) {
            mean += to_float(weights[row * stride + i]) * dweights[row * stride + i];
        }
        mean = warp_sum(mean);
        for (Count i = threadIdx.x % WARP; i < width; i += WARP) {
            Count at = row * stride + i;
            dscores[at] = to<T>(to_float(weights[at]) * (dweights[at] - mean) * scale);
        }
    }
}
