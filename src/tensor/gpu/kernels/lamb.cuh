// LAMB: the means and the norms of a step first, then the step, scaled to each tensor.
#pragma once
#include "optim.cuh"

#ifdef TYPE_f32

DEVICE float lamb_direction(float p, float m, float v, float scale, float root, float eps, float l2) {
    return m / scale / (sqrtf(v) / root + eps) + l2 * p;
}

// `sums` gets the squares of each chunk's parameters and directions.
KERNEL(lamb_means, TENSORS, float *sums, float most, float keep1, float new1, float keep2, float new2, float keep, float scale, float root, float eps, float l2) {
    SHARED float shared[WARP];
    float clip = most > 0 ? fmaxf(control[GRADIENT_NORM] / most, 1.0f) : 1.0f;
    float own = 0, step = 0;
    UPDATE(2, ([=, &own, &step](float &p, float g, float *s) {
        g /= clip;
        p *= keep;
        s[0] = keep1 * s[0] + new1 * g;
        s[1] = keep2 * s[1] + new2 * g * g;
        float direction = lamb_direction(p, s[0], s[1], scale, root, eps, l2);
        own += p * p;
        step += direction * direction;
    }));
    own = block_sum(own, shared);
    step = block_sum(step, shared);
    if (threadIdx.x > 0) return;
    sums[2 * blockIdx.x] = own;
    sums[2 * blockIdx.x + 1] = step;
}

KERNEL(lamb_step, TENSORS, const float *sums, float lr, float scale, float root, float eps, float l2, int adapt, int trust_clip) {
    float trust = 1;
    if (adapt) {
        Chunk chunk = chunks[blockIdx.x];
        float own = tensor_norm(sums, 2, chunk), step = tensor_norm(sums + 1, 2, chunk);
        if (own > 0 && step > 0) trust = own / step;
        if (trust_clip) trust = fminf(trust, 1.0f);
    }
    float size = lr * trust;
    UPDATE(2, [=](float &p, float, float *s) { p -= size * lamb_direction(p, s[0], s[1], scale, root, eps, l2); });
}

#endif
