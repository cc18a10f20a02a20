// What stands between the gradients and the optimizer: their norm, clipping, and the scale of the loss.
#pragma once
#include "many.cuh"

#ifdef TYPE_f32

// The numbers of a step that live on the device; as in `optim/gpu.rs`.
enum Control { GRADIENT_SCALE, SKIP, GRADIENT_NORM, LOSS_SCALE, GOOD_STEPS, SKIPPED, NON_FINITE, CLIMB };

// The sum of squares of each chunk of the gradients, times their parameters' sizes where `adaptive`.
KERNEL(gradient_squares, const Chunk *chunks, Places parameters, Places gradients, const float *control, float *sums, int adaptive) {
    SHARED float slots[WARP];
    Chunk chunk = chunks[blockIdx.x];
    float unscale = 1.0f / control[LOSS_SCALE], sum = 0;
    float *arrays[] = {chunk_of(gradients, chunk), chunk_of(parameters, chunk)};
    if (arrays[0] && adaptive) {
        each<2, 0>(chunk_size(chunk), arrays, [&](float *own, Count) {
            float moved = own[0] * unscale * fabsf(own[1]);
            sum += moved * moved;
        });
    } else if (arrays[0]) {
        float *alone[] = {arrays[0]};
        each<1, 0>(chunk_size(chunk), alone, [&](float *own, Count) {
            float g = own[0] * unscale;
            sum += g * g;
        });
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The root of all sums, of one block.
DEVICE double norm_of(const float *sums, Count count) {
    SHARED double parts[256];
    double sum = 0;
    for (Count i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    parts[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    __syncthreads();
    return sqrt(parts[0]);
}

DEVICE bool is_finite(double x) { return x - x == 0; }

// The next loss scale, as torch's `GradScaler`.
DEVICE void rescale(float *control, bool good, float growth, float backoff, float interval) {
    if (!good) {
        control[LOSS_SCALE] *= backoff;
        control[GOOD_STEPS] = 0;
        control[SKIPPED] += 1;
    } else if (control[GOOD_STEPS] + 1 < interval) {
        control[GOOD_STEPS] += 1;
    } else {
        float grown = control[LOSS_SCALE] * growth;
        if (is_finite(grown)) control[LOSS_SCALE] = grown;
        control[GOOD_STEPS] = 0;
    }
}

// What the update multiplies gradients by: clips them to the norm `limit` where that is above 0, and takes the loss's
// scale back. A step whose gradients are not finite is skipped; without scaling (`growth` 0) that is remembered.
KERNEL(settle_gradients, const float *sums, Count count, float *control, float limit, float growth, float backoff, float interval) {
    double norm = norm_of(sums, count);
    if (threadIdx.x > 0) return;
    bool good = is_finite(norm);
    double clip = good && limit > 0 ? fmin(limit / (norm + 1e-6), 1.0) : 1.0;
    control[GRADIENT_SCALE] = (float)(clip / control[LOSS_SCALE]);
    control[GRADIENT_NORM] = (float)(norm * clip);
    control[SKIP] = good ? 0 : 1;
    if (growth > 0) rescale(control, good, growth, backoff, interval);
    else if (!good) control[NON_FINITE] = 1;
}

// How far along the gradient sharpness-aware minimization goes; nowhere where it is not finite.
KERNEL(settle_climb, const float *sums, Count count, float *control, float rho, int scaled) {
    double norm = norm_of(sums, count);
    if (threadIdx.x > 0) return;
    control[CLIMB] = is_finite(norm) ? (float)(rho / (norm + 1e-12) / control[LOSS_SCALE]) : 0;
    if (!is_finite(norm) && !scaled) control[NON_FINITE] = 1;
}

// Moves parameters up their gradients and leaves in `before` what they were.
KERNEL(climb, const Chunk *chunks, Places parameters, Places gradients, Places before, const float *control, int adaptive) {
    Chunk chunk = chunks[blockIdx.x];
    float size = control[CLIMB];
    float *gradient = chunk_of(gradients, chunk), *parameter = chunk_of(parameters, chunk);
    // Where there is no way to go all stays, also where the gradient is not a number.
    bool moves = gradient && size != 0;
    float *arrays[] = {parameter, chunk_of(before, chunk), moves ? gradient : parameter};
    each<3, 2>(chunk_size(chunk), arrays, [=](float *own, Count) {
        float p = own[0], g = own[2];
        own[1] = p;
        if (moves) own[0] = p + (adaptive ? g * fabsf(p) * fabsf(p) : g) * size;
    });
}

#endif
