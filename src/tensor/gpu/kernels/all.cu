// Every kernel, as one module.
#include "elementwise.cuh"
