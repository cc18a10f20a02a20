// Muon around its matrix products, for matrices of one size.
#pragma once
#include "optim.cuh"

#ifdef TYPE_f32

// The running means, and the sum of squares of each chunk of them.
KERNEL(muon_means, TENSORS, float *sums, float take) {
    SHARED float shared[WARP];
    Chunk chunk = chunks[blockIdx.x];
    UPDATE(1, [=](float &, float g, float *s) { s[0] += take * (g - s[0]); });
    float sum = 0;
    float *arrays[] = {chunk_of(slots, chunk)};
    each<1, 0>(chunk_size(chunk), arrays, [&](float *own, Count) { sum += own[0] * own[0]; });
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The means as matrices of norm 1, one after another from the tensor `first` on.
KERNEL(muon_start, TENSORS, const float *sums, float *x, Count first, float eps) {
    Chunk chunk = chunks[blockIdx.x];
    float norm = fmaxf(tensor_norm(sums, 1, chunk), eps);
    float *mean = chunk_of(slots, chunk), *to = x + (chunk.tensor - first) * chunk.size + chunk.start;
    for (Count i = threadIdx.x; i < chunk_size(chunk); i += blockDim.x) to[i] = mean[i] / norm;
}

// `mixed = a + b square + c fourth` of square matrices `width` wide.
KERNEL(muon_mix, const float *square, const float *fourth, float *mixed, Count count, Count width, float a, float b, float c) {
    FOR_EACH(i, count) {
        Count at = i % (width * width);
        mixed[i] = b * square[i] + c * fourth[i] + (at / width == at % width ? a : 0.0f);
    }
}

KERNEL(muon_step, TENSORS, const float *x, Count first, float keep, float size) {
    Chunk chunk = chunks[blockIdx.x];
    if (!gradients[chunk.tensor] || control[SKIP] != 0) return;
    float *parameter = chunk_of(parameters, chunk);
    const float *direction = x + (chunk.tensor - first) * chunk.size + chunk.start;
    for (Count i = threadIdx.x; i < chunk_size(chunk); i += blockDim.x) parameter[i] = keep * parameter[i] - size * direction[i];
}

#endif
