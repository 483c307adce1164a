// A context for benchmarks: the chosen instruction set, one thread (a kernel's own speed), scratch.
#ifndef BATCH_INVARIANT_TESTS_BENCHMARKS_NATIVE_BENCHMARK_CONTEXT_H_
#define BATCH_INVARIANT_TESTS_BENCHMARKS_NATIVE_BENCHMARK_CONTEXT_H_

#include <cstdint>
#include <random>
#include <vector>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu {

class BenchmarkContext {
 public:
  explicit BenchmarkContext(InstructionSet instruction_set) {
    context_.instruction_set = instruction_set;
    context_.scratch.self = this;
    context_.scratch.allocate = [](void* self, size_t bytes) -> void* {
      auto& memory = static_cast<BenchmarkContext*>(self)->memory_;
      if (memory.size() < bytes + 64) memory.resize(bytes + 64);
      return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    };
  }
  const Context& get() const { return context_; }

 private:
  Context context_;
  std::vector<char> memory_;
};

inline std::vector<float> NormalValues(int64_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_TESTS_BENCHMARKS_NATIVE_BENCHMARK_CONTEXT_H_
