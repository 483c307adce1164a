// Pow on the CPU, contract pow: y = base^exponent element by element, the same operations for every
// element wherever it stands.
#ifndef BATCH_INVARIANT_CPU_POW_H_
#define BATCH_INVARIANT_CPU_POW_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

enum class NumberType : uint8_t { kFloat32, kFloat64, kInt32, kInt64 };

// `shape` is y's, y is contiguous; the strides (in elements, 0 where an operand is broadcast) have
// shape's rank, which may be 0 (a scalar). y has the base's type.
struct PowArgs {
  std::span<const int64_t> shape;
  NumberType base_type = NumberType::kFloat32;
  const void* base = nullptr;
  std::span<const int64_t> base_strides;
  NumberType exponent_type = NumberType::kFloat32;
  const void* exponent = nullptr;
  std::span<const int64_t> exponent_strides;
  void* y = nullptr;  // may be the base where that is not broadcast
};

// kInvalidArgument: a negative size, a missing operand, strides of another rank than shape's.
Status Pow(const Context& context, const PowArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_POW_H_
