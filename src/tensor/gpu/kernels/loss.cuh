// Losses: logits have the activations' type; targets, losses and what comes back are f32.
#pragma once
#include "activation.cuh"
#include "rows.cuh"

// The largest logit of a row, and the sum of e^(logit - largest).
DEVICE void softmax_sum(const T *x, Count classes, float &largest, float &sum) {
    largest = -INFINITY;
    sum = 0;
    for (Count c = threadIdx.x % WARP; c < classes; c += WARP) largest = fmaxf(largest, to_float(x[c]));
    largest = warp_max(largest);
    for (Count c = threadIdx.x % WARP; c < classes; c += WARP) sum += expf(to_float(x[c]) - largest);
    sum = warp_sum(sum);
}

KERNEL(soft_cross_entropy, const T *x, const float *targets, float *losses, Count rows, Count classes) {
    FOR_EACH_WARP(row, rows) {
        float largest, sum, loss = 0;
        softmax_sum(x + row * classes, classes, largest, sum);
        sum = logf(sum);
        for (Count c = threadIdx.x % WARP; c < classes; c += WARP) {
            float target = targets[row * classes + c];
            // A class without weight does not count, however unlikely it is.
            if (target != 0.0f) loss += target * (sum - (to_float(x[row * classes + c]) - largest));
        }
        loss = warp_sum(loss);
        if (threadIdx.x % WARP == 0) losses[row] = loss;
    }
}

KERNEL(soft_cross_entropy_gradient, const T *x, const float *targets, const float *dlosses, T *dx, Count rows,
       Count classes) {
    FOR_EACH_WARP(row, rows) {
        float largest, sum, total = 0;
        softmax_sum(x + row * classes, classes, largest, sum);
        for (Count c = threadIdx.x % WARP; c < classes; c += WARP) total += targets[row * classes + c];
        float share = warp_sum(total) / sum;
        for (Count c = threadIdx.x % WARP; c < classes; c += WARP) {
            Count at = row * classes + c;
            dx[at] = to<T>(dlosses[row] * (expf(to_float(x[at]) - largest) * share - targets[at]));
        }
    }
}

KERNEL(bce_with_logits, const T *x, const float *targets, float *losses, Count count) {
    FOR_EACH(i, count) {
        float z = to_float(x[i]);
        losses[i] = (z < 0.0f ? 0.0f : z) - z * targets[i] + log1pf(expf(-fabsf(z)));
    }
}

KERNEL(bce_with_logits_gradient, const T *x, const float *targets, const float *dlosses, T *dx, Count count) {
    FOR_EACH(i, count) dx[i] = to<T>(dlosses[i] * (sigmoid(to_float(x[i])) - targets[i]));
}

#ifdef TYPE_f32
DEVICE Count first_largest(const float *row, Count classes) {
    Count best = 0;
    for (Count c = 1; c < classes; ++c)
        if (row[c] > row[best]) best = c;
    return best;
}

// One block.
KERNEL(hits, const float *logits, const float *targets, float *count, Count rows, Count classes) {
    SHARED float slots[WARP];
    float right = 0;
    for (Count row = threadIdx.x; row < rows; row += blockDim.x)
        right += first_largest(logits + row * classes, classes) == first_largest(targets + row * classes, classes);
    right = block_sum(right, slots);
    if (threadIdx.x == 0) *count = right;
}
#endif
