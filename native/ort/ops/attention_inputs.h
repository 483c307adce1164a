// What the multi-head attentions of com.microsoft share: how their operands lie in memory.
#ifndef BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_
#define BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_

#include <string>

#include "batch_invariant/cpu/attention.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

// [batch, tokens, heads * size], or [batch, tokens, heads, parts, size] at one part.
cpu::HeadView ViewTokens(const float* data, int64_t tokens, int64_t heads, int64_t size,
                         int64_t parts = 1, int64_t part = 0);

// "`op`: `what` is [2,3], needed is ..."
Status WrongShape(const std::string& op, const char* what, const Tensor& tensor,
                  const char* needed);

// A mask of [batch], [3 * batch + 2], [batch, total] or [batch, sequence, total]; absent: none.
Status ViewKeyMask(const std::string& op, const char* what, const Tensor& mask,
                   cpu::MultiHeadAttentionArgs* args);

// [batch or 1, num_heads or 1, sequence, total]; absent: none.
Status ViewAttentionBias(const std::string& op, const Tensor& bias,
                         cpu::MultiHeadAttentionArgs* args);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_
