// The ops of the CUDA provider, one function a file of this folder.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_

#include <vector>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

void AppendCudaMemcpy(std::vector<OpDefinition>& ops);  // MemcpyFromHost, MemcpyToHost
void AppendCudaGemm(std::vector<OpDefinition>& ops);    // MatMul, FusedMatMul, Gemm
void AppendCudaAttention(std::vector<OpDefinition>& ops);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_
