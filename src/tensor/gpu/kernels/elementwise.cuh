// Activations on their own, sums, and products with a number.
#pragma once
#include "activation.cuh"
#include "rows.cuh"

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

// A rectifier that is `more` steeper above zero than `below` it.
KERNEL(leaky_relu, const T *x, T *y, Count count, float more, float below) {
    FOR_EACH(i, count) {
        float value = to_float(x[i]);
        y[i] = to<T>((value < 0.0f ? 0.0f : value) * more + value * below);
    }
}

KERNEL(leaky_relu_gradient, const T *x, const T *dy, T *dx, Count count, float more, float below) {
    FOR_EACH(i, count) {
        float slope = to_float(x[i]) <= 0.0f ? below : more + below;
        dx[i] = to<T>(to_float(dy[i]) * slope);
    }
}

// Matrices of `first` and `second` columns side by side.
KERNEL(join, const T *a, const T *b, T *y, Count count, Count first, Count second) {
    FOR_EACH(i, count) {
        Count row = i / (first + second), column = i % (first + second);
        y[i] = column < first ? a[row * first + column] : b[row * second + column - first];
    }
}

// Either output may be null.
KERNEL(join_gradient, const T *dy, T *da, T *db, Count count, Count first, Count second) {
    FOR_EACH(i, count) {
        Count row = i / (first + second), column = i % (first + second);
        if (column < first && da) da[row * first + column] = dy[i];
        if (column >= first && db) db[row * second + column - first] = dy[i];
    }
}

// The scalar product of each row of two matrices.
KERNEL(row_dots, const T *a, const T *b, T *y, Count rows, Count width) {
    FOR_EACH_WARP(row, rows) {
        float sum = 0;
        for (Count at = row * width + threadIdx.x % WARP; at < (row + 1) * width; at += WARP)
            sum += to_float(a[at]) * to_float(b[at]);
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) y[row] = to<T>(sum);
    }
}

KERNEL(row_dots_gradient, const T *dy, const T *other, T *dx, Count count, Count width) {
    FOR_EACH(i, count) dx[i] = to<T>(to_float(dy[i / width]) * to_float(other[i]));
}
