// MultiHeadAttention of com.microsoft, and Attention behind its projection, on the CPU.
#ifndef BATCH_INVARIANT_ORT_OPS_CPU_ATTENTION_H_
#define BATCH_INVARIANT_ORT_OPS_CPU_ATTENTION_H_

#include "ort/ops/attention_inputs.h"

namespace batch_invariant::ort {

Status RunMultiHeadAttentionOnCpu(OpContext& context, const MultiHeadAttentionOperands& operands);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CPU_ATTENTION_H_
