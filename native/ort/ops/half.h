// fp16 tensors on the CPU: every kernel works on fp32. Its fp16 operands are widened exactly before
// it, its fp16 results rounded once, to nearest even, after it.
#ifndef BATCH_INVARIANT_ORT_OPS_HALF_H_
#define BATCH_INVARIANT_ORT_OPS_HALF_H_

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// What T may be where fp32 is served.
inline const std::vector<ElementType> kCpuFloats = {kFloat, kFloat16};

// An fp16 constant as an fp32 tensor that owns its elements; any other tensor as it is.
// Throws std::bad_alloc.
Tensor Widened(const Tensor& constant);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_HALF_H_
