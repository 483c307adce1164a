// What a CPU kernel is given besides its operands: which instruction set to use, where to run its
// items, and where to put temporary data. Nothing here may change a byte of any result.
#ifndef BATCH_INVARIANT_CPU_CONTEXT_H_
#define BATCH_INVARIANT_CPU_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace batch_invariant::cpu {

// All instruction sets give the same bytes for every op; see contract.h.
enum class InstructionSet : uint8_t { kScalar, kAvx2, kAvx512, kNeon };

// Those compiled into this library that this processor can run, slowest first (kScalar always).
std::span<const InstructionSet> AvailableInstructionSets();

// The fastest of AvailableInstructionSets().
InstructionSet BestInstructionSet();

// "scalar", "avx2", "avx512" or "neon".
std::string_view Name(InstructionSet instruction_set);

// False, leaving `out` alone, when `name` is none of the above.
bool Parse(std::string_view name, InstructionSet* out);

// Runs work(context, 0) .. work(context, items - 1), each once, in any order, on up to `threads`
// threads, and returns when all are done. One item owns the whole accumulation of what it writes.
struct Parallel {
  using Work = void (*)(void* context, int64_t item);
  void (*run)(void* self, int64_t items, Work work, void* context) = nullptr;  // null: serial
  void* self = nullptr;
  int threads = 1;
};

template <typename Function>
void ParallelFor(const Parallel& parallel, int64_t items, Function&& function) {
  if (parallel.run == nullptr || parallel.threads <= 1 || items <= 1) {
    for (int64_t item = 0; item < items; ++item) function(item);
    return;
  }
  parallel.run(
      parallel.self, items,
      [](void* context, int64_t item) {
        (*static_cast<std::remove_reference_t<Function>*>(context))(item);
      },
      &function);
}

// Temporary memory for one kernel call, 64-byte aligned, valid until the call returns.
// `allocate` returns null when memory is exhausted; the kernel then returns kOutOfMemory.
struct Scratch {
  void* (*allocate)(void* self, size_t bytes) = nullptr;
  void* self = nullptr;
};

struct Context {
  InstructionSet instruction_set = InstructionSet::kScalar;
  Parallel parallel;
  Scratch scratch;
};

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_CONTEXT_H_
