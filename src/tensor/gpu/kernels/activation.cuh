// The activations and their derivatives, numbered as `Activation` in Rust.
#pragma once
#include "common.cuh"

enum Activation { IDENTITY, RELU, SILU, SIGMOID, GELU, HARD_SWISH, HARD_SIGMOID };

DEVICE float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }
DEVICE float hard_sigmoid(float z) { return fminf(fmaxf(z + 3.0f, 0.0f), 6.0f) / 6.0f; }
DEVICE float normal_cdf(float z) { return 0.5f * erfcf(-z * 0.70710678f); }

DEVICE float activation(int kind, float z) {
    switch (kind) {
        case RELU: return z < 0.0f ? 0.0f : z;
        case SILU: return z * sigmoid(z);
        case SIGMOID: return sigmoid(z);
        case GELU: return z * normal_cdf(z);
        case HARD_SWISH: return z * hard_sigmoid(z);
        case HARD_SIGMOID: return hard_sigmoid(z);
        default: return z;
    }
}

// torch's derivatives at the kinks: 0 for relu at 0; 0 and 1 for hard swish at -3 and 3.
DEVICE float slope(int kind, float z) {
    switch (kind) {
        case RELU: return z <= 0.0f ? 0.0f : 1.0f;
        case SILU: {
            float s = sigmoid(z);
            return s * (1.0f + z * (1.0f - s));
        }
        case SIGMOID: {
            float s = sigmoid(z);
            return s * (1.0f - s);
        }
        case GELU: return normal_cdf(z) + z * 0.3989423f * expf(-0.5f * z * z);
        case HARD_SWISH: return z <= -3.0f ? 0.0f : z < 3.0f ? z / 3.0f + 0.5f : 1.0f;
        case HARD_SIGMOID: return z > -3.0f && z < 3.0f ? 1.0f / 6.0f : 0.0f;
        default: return 1.0f;
    }
}
