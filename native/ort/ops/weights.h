// Memory for weights that a kernel packs for itself.
#ifndef BATCH_INVARIANT_ORT_OPS_WEIGHTS_H_
#define BATCH_INVARIANT_ORT_OPS_WEIGHTS_H_

#include <cstddef>
#include <memory>
#include <new>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::ort {

inline constexpr std::align_val_t kWeightAlignment{64};

struct WeightDeleter {
  void operator()(std::byte* memory) const { ::operator delete(memory, kWeightAlignment); }
};
using Weights = std::unique_ptr<std::byte, WeightDeleter>;

// Throws std::bad_alloc.
inline Weights AllocateWeights(size_t bytes) {
  return Weights(static_cast<std::byte*>(::operator new(bytes, kWeightAlignment)));
}

// Packing happens while a session is created, on the creating thread.
inline cpu::Context PackingContext() {
  cpu::Context context;
  context.instruction_set = cpu::BestInstructionSet();
  return context;
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_WEIGHTS_H_
