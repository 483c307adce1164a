// The ops of the CUDA provider, one function a file of this folder.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_

#include <vector>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

void AppendCudaMemcpy(std::vector<OpDefinition>& ops);  // MemcpyFromHost, MemcpyToHost
void AppendCudaGemm(std::vector<OpDefinition>& ops);    // MatMul, FusedMatMul, Gemm
void AppendCudaNorm(std::vector<OpDefinition>& ops);
void AppendCudaSoftmax(std::vector<OpDefinition>& ops);
void AppendCudaRotaryEmbedding(std::vector<OpDefinition>& ops);
void AppendCudaMatMulNBits(std::vector<OpDefinition>& ops);
void AppendCudaReduce(std::vector<OpDefinition>& ops);
void AppendCudaElementwise(std::vector<OpDefinition>& ops);  // activations, arithmetic, Where, Cast
void AppendCudaPow(std::vector<OpDefinition>& ops);
void AppendCudaGather(std::vector<OpDefinition>& ops);
void AppendCudaLayout(
    std::vector<OpDefinition>& ops);  // Transpose, Slice, Concat, Reshape, Shape ...
void AppendCudaAttention(std::vector<OpDefinition>& ops);  // GroupQueryAttention
void AppendCudaMultiHeadAttention(
    std::vector<OpDefinition>& ops);  // MultiHeadAttention, Attention of both domains
void AppendCudaMoe(std::vector<OpDefinition>& ops);  // MoE, QMoE
void AppendCudaEmbedLayerNorm(std::vector<OpDefinition>& ops);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_OP_TABLE_H_
