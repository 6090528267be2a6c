// CUDA's words for the host's compiler: a kernel becomes a function of one thread, called for each.
#pragma once
#include <math.h>

struct host_dim3 { int x, y, z; };
static thread_local host_dim3 blockIdx, blockDim, threadIdx;
#define __global__
