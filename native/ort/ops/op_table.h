// The ops, one function a file of this folder. CpuOps() strings them together.
#ifndef BATCH_INVARIANT_ORT_OPS_OP_TABLE_H_
#define BATCH_INVARIANT_ORT_OPS_OP_TABLE_H_

#include <vector>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

void AppendMatMul(std::vector<OpDefinition>& ops);       // MatMul, FusedMatMul
void AppendGemm(std::vector<OpDefinition>& ops);         // Gemm
void AppendMatMulNBits(std::vector<OpDefinition>& ops);  // MatMulNBits
void AppendMoe(std::vector<OpDefinition>& ops);          // MoE, QMoE
void AppendNorm(std::vector<OpDefinition>& ops);         // the layer and RMS norms
void AppendEmbedLayerNorm(std::vector<OpDefinition>& ops);
void AppendSoftmax(std::vector<OpDefinition>& ops);      // Softmax, LogSoftmax
void AppendGroupQueryAttention(std::vector<OpDefinition>& ops);
void AppendMultiHeadAttention(std::vector<OpDefinition>& ops);
void AppendPackedAttention(std::vector<OpDefinition>& ops);  // Attention of com.microsoft
void AppendOnnxAttention(std::vector<OpDefinition>& ops);
void AppendRotaryEmbedding(std::vector<OpDefinition>& ops);
void AppendElementwise(std::vector<OpDefinition>& ops);  // Sigmoid, Tanh, Gelu ...
void AppendReduce(std::vector<OpDefinition>& ops);       // ReduceSum, ReduceMean ...
void AppendPow(std::vector<OpDefinition>& ops);

// An acceptance that asks nothing beyond the type constraints.
inline Status AcceptAll(const NodeInfo&) { return Status::Ok(); }

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_OP_TABLE_H_
