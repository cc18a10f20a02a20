// Activations on their own, sums, and products with a number.
#pragma once
#include "activation.cuh"

KERNEL(activate, const T *x, T *y, Count count, int kind) {
    FOR_EACH(i, count) y[i] = to<T>(activation(kind, to_float(x[i])));
}

KERNEL(activate_gradient, const T *x, const T *dy, T *dx, Count count, int kind) {
    FOR_EACH(i, count) dx[i] = to<T>(to_float(dy[i]) * slope(kind, to_float(x[i])));
}

// `y` may be `a` itself.
KERNEL(add, const T *a, const T *b, T *y, Count count) {
    FOR_EACH(i, count) y[i] = to<T>(to_float(a[i]) + to_float(b[i]));
}

// `factor` times the sum of all values, by one block.
KERNEL(total, const T *x, float *y, Count count, float factor) {
    SHARED double parts[256];
    double sum = 0;
    for (Count i = threadIdx.x; i < count; i += blockDim.x) sum += to_float(x[i]);
    parts[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x == 0) y[0] = (float)(parts[0] * factor);
}

KERNEL(total_gradient, const float *dy, T *dx, Count count, float factor) {
    FOR_EACH(i, count) dx[i] = to<T>(dy[0] * factor);
}

// The factor may stand on the device.
KERNEL(affine, const T *x, T *y, Count count, const float *held, float number, float shift) {
    float factor = held ? *held : number;
    FOR_EACH(i, count) y[i] = to<T>(fmaf(to_float(x[i]), factor, shift));
}
