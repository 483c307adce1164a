// The epilogue of a MatMulNBits call: that of GEMM with the bias as a broadcast c.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_ARGS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_ARGS_H_

#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/matmul_nbits.h"

namespace batch_invariant::cuda {

inline GemmArgs AsGemm(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args) {
  GemmArgs g;
  g.type = plan.type;
  g.m = args.m;
  g.n = plan.n;
  g.k = plan.k;
  g.a = {args.a, args.a_row_stride, 1};
  g.c = {args.bias, 0, 1};
  g.y = args.y;
  g.y_row_stride = args.y_row_stride;
  g.silu_gated = args.silu_gated;
  return g;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_ARGS_H_
