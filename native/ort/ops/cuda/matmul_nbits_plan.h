// The plan of a MatMulNBits node on CUDA.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_MATMUL_NBITS_PLAN_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_MATMUL_NBITS_PLAN_H_

#include "batch_invariant/cuda/matmul_nbits.h"
#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

// kInvalidArgument names an attribute that the op does not have.
Status MakeCudaMatMulNBitsPlan(const NodeInfo& node, cuda::MatMulNBitsPlan* plan);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_MATMUL_NBITS_PLAN_H_
