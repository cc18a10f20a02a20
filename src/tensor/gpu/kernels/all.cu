// Every kernel, as one module.
#include "columns.cuh"
#include "conv.cuh"
#include "elementwise.cuh"
#include "norm.cuh"
