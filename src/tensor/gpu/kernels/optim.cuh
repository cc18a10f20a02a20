// The optimizers' rules, as in `src/optim`: for all parameters at once that share their numbers.
#pragma once
#include "gradients.cuh"

#ifdef TYPE_f32

// What every rule is given: `tensors` is the length of the columns, and of each slot's part of `slots`.
#define TENSORS const Chunk *chunks, Places parameters, Places gradients, Places slots, Count tensors, const float *control

// Lets `rule` change each parameter and its slots by its gradient: `own` is the parameter, the slots and the gradient.
#define UPDATE(SLOTS, RULE) update<SLOTS>(chunks, parameters, gradients, slots, tensors, control, RULE)

template <int SLOTS, class Rule> DEVICE void update(TENSORS, Rule rule) {
    Chunk chunk = chunks[blockIdx.x];
    float *gradient = chunk_of(gradients, chunk);
    if (!gradient || control[SKIP] != 0) return;
    float scale = control[GRADIENT_SCALE];
    float *arrays[SLOTS + 2];
    arrays[0] = chunk_of(parameters, chunk);
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) arrays[1 + k] = chunk_of(slots + k * tensors, chunk);
    arrays[SLOTS + 1] = gradient;
    each<SLOTS + 2, SLOTS + 1>(chunk_size(chunk), arrays, [=](float *own, Count) {
        rule(own[0], own[SLOTS + 1] * scale, own + 1);
    });
}

KERNEL(adam, TENSORS, float size, float root, float new1, float keep2, float new2, float eps, float l2, float keep) {
    UPDATE(2, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] += new1 * (g - s[0]);
        s[1] = keep2 * s[1] + new2 * g * g;
        p = keep * p - size * s[0] / (sqrtf(s[1]) / root + eps);
    });
}

KERNEL(sgd, TENSORS, float lr, float decay, float keep, float take, float from_gradient, float from_buffer) {
    UPDATE(1, [=](float &p, float g, float *s) {
        g += decay * p;
        s[0] = keep * s[0] + take * g;
        p -= lr * (from_gradient * g + from_buffer * s[0]);
    });
}

KERNEL(adagrad, TENSORS, float lr, float l2, float eps) {
    UPDATE(1, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] += g * g;
        p -= lr * g / (sqrtf(s[0]) + eps);
    });
}

KERNEL(adan, TENSORS, float mean_size, float change_size, float root, float new1, float keep2, float new2, float keep3, float new3, float eps, float keep, float divide, int first) {
    UPDATE(4, [=](float &p, float g, float *s) {
        float d = first ? 0.0f : g + s[3];
        s[0] += new1 * (g - s[0]);
        s[2] = keep2 * s[2] + new2 * d;
        float ahead = keep2 * d + g;
        s[1] = keep3 * s[1] + new3 * ahead * ahead;
        float spread = sqrtf(s[1]) / root + eps;
        p = (keep * p - (mean_size * s[0] + change_size * s[2]) / spread) / divide;
        s[3] = -g;
    });
}

KERNEL(lion, TENSORS, float lr, float keep, float now, float take) {
    UPDATE(1, [=](float &p, float g, float *s) {
        float direction = s[0] + now * (g - s[0]);
        float sign = direction > 0 ? 1.0f : direction < 0 ? -1.0f : direction;
        p = keep * p - lr * sign;
        s[0] += take * (g - s[0]);
    });
}

// The product of all momenta so far, one number a tensor.
KERNEL(nadam_product, TENSORS, float now) {
    Chunk chunk = chunks[blockIdx.x];
    if (threadIdx.x > 0 || chunk.start > 0 || !gradients[chunk.tensor] || control[SKIP] != 0) return;
    slots[2 * tensors + chunk.tensor][0] *= now;
}

KERNEL(nadam, TENSORS, float gradient_size, float mean_size, float next, float correction, float l2, float keep, float new1, float keep2, float new2, float eps) {
    float product = slots[2 * tensors + chunks[blockIdx.x].tensor][0];
    float from_gradient = gradient_size / (1.0f - product), from_mean = mean_size / (1.0f - product * next);
    UPDATE(2, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] += new1 * (g - s[0]);
        s[1] = keep2 * s[1] + new2 * g * g;
        p = keep * p - (from_gradient * g + from_mean * s[0]) / (sqrtf(s[1] / correction) + eps);
    });
}

// `adaptive` is 0 while the squares are not yet reliable.
KERNEL(radam, TENSORS, float size, float adaptive, float l2, float keep, float new1, float keep2, float new2, float eps) {
    UPDATE(2, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] += new1 * (g - s[0]);
        s[1] = keep2 * s[1] + new2 * g * g;
        p = keep * p - size * s[0] * (adaptive > 0 ? adaptive / (sqrtf(s[1]) + eps) : 1.0f);
    });
}

KERNEL(rmsprop, TENSORS, float lr, float l2, float keep, float take, float eps, float momentum) {
    UPDATE(2, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] = keep * s[0] + take * g * g;
        s[1] = momentum * s[1] + g / (sqrtf(s[0]) + eps);
        p -= lr * s[1];
    });
}

KERNEL(rmsprop_centered, TENSORS, float lr, float l2, float keep, float take, float eps, float momentum) {
    UPDATE(3, [=](float &p, float g, float *s) {
        g += l2 * p;
        s[0] = keep * s[0] + take * g * g;
        s[2] += take * (g - s[2]);
        float spread = fmaxf(s[0] - s[2] * s[2], 0.0f);
        s[1] = momentum * s[1] + g / (sqrtf(spread) + eps);
        p -= lr * s[1];
    });
}

// The slow weights are the first slot here.
KERNEL(lookahead_take, TENSORS) {
    Chunk chunk = chunks[blockIdx.x];
    if (!gradients[chunk.tensor] || control[SKIP] != 0) return;
    float *arrays[] = {chunk_of(slots, chunk), chunk_of(parameters, chunk)};
    each<2, 1>(chunk_size(chunk), arrays, [=](float *own, Count) { own[0] = own[1]; });
}

KERNEL(lookahead_pull, TENSORS, float alpha) {
    Chunk chunk = chunks[blockIdx.x];
    if (!gradients[chunk.tensor] || control[SKIP] != 0) return;
    float *arrays[] = {chunk_of(slots, chunk), chunk_of(parameters, chunk)};
    each<2, 2>(chunk_size(chunk), arrays, [=](float *own, Count) {
        own[0] += alpha * (own[1] - own[0]);
        own[1] = own[0];
    });
}

#endif
