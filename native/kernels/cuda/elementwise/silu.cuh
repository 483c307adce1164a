// silu(gate) * up with the roundings of the graph's nodes Sigmoid, Mul, Mul.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_SILU_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_SILU_CUH_

#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/elementwise/math.cuh"

namespace batch_invariant::cuda {

// gate and up are values of T; so is the result.
template <typename T>
__device__ __forceinline__ float SiluTimes(float gate, float up) {
  const float sigmoid = ToFloat(FromFloat<T>(Sigmoid(gate)));
  const float activated = ToFloat(FromFloat<T>(__fmul_rn(gate, sigmoid)));
  return ToFloat(FromFloat<T>(__fmul_rn(activated, up)));
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_SILU_CUH_
