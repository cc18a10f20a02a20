// Activations on their own.
#pragma once
#include "activation.cuh"

KERNEL(activate, const T *x, T *y, Count count, int kind) {
    FOR_EACH(i, count) y[i] = to<T>(activation(kind, to_float(x[i])));
}

KERNEL(activate_gradient, const T *x, const T *dy, T *dx, Count count, int kind) {
    FOR_EACH(i, count) dx[i] = to<T>(to_float(dy[i]) * slope(kind, to_float(x[i])));
}
