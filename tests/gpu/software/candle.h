// Candle's own kernels.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace software {

// A kernel, given the places of its arguments.
using CandleKernel = std::function<void(void **)>;

// Candle's kernel of this name; empty where it is not one of those that are known here.
CandleKernel candle_kernel(const std::string &name);

} // namespace software
