#include "kernels/cuda/gemm/gemm_f32.cuh"
#include "kernels/cuda/gemm/gemm_f32.h"

namespace batch_invariant::cuda {

Status GemmF32Small(const GemmArgs& g, Stream stream) {
  const ReadF32 a{OperandA<float>(g)}, b{OperandB<float>(g)};
  return LaunchGemmF32<16, 32>(a, b, MakeEpilogue<float>(g), g.k, g.batch, stream);
}

Status GemmF32Large(const GemmArgs& g, Stream stream) {
  const ReadF32 a{OperandA<float>(g)}, b{OperandB<float>(g)};
  return LaunchGemmF32<64, 64>(a, b, MakeEpilogue<float>(g), g.k, g.batch, stream);
}

}  // namespace batch_invariant::cuda
