// Every kernel, as one module.
#include "augment.cuh"
#include "columns.cuh"
#include "conv.cuh"
#include "elementwise.cuh"
#include "norm.cuh"
