// Work on rows of values, a warp for each: sums over a row are shuffles.
#pragma once
#include "columns.cuh"

#define FOR_EACH_WARP(row, rows) \
    for (Count row = ((Count)blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < (rows); \
         row += (Count)gridDim.x * blockDim.x / WARP)

// A lane's share of a row, `W` values at a time.
#define FOR_EACH_IN_ROW(at, width) for (Count at = threadIdx.x % WARP * W; at < (width); at += WARP * W)
