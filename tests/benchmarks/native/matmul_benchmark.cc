// fp32 MatMul with a constant right side, one thread, every instruction set of this machine.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "batch_invariant/cpu/matmul.h"
#include "benchmark_context.h"

namespace batch_invariant::cpu {
namespace {

void Run(benchmark::State& state, InstructionSet instruction_set, int64_t m, int64_t n, int64_t k,
         bool packed) {
  BenchmarkContext context(instruction_set);
  const auto a = NormalValues(m * k), b = NormalValues(k * n);
  std::vector<float> y(static_cast<size_t>(m * n)), panels;
  MatMulArgs args;
  args.m = m, args.n = n, args.k = k;
  args.a = {a.data(), k, 1};
  args.b = {b.data(), n, 1};
  args.y = y.data();
  args.y_row_stride = n;
  if (packed) {
    panels.resize(PackedMatMulBytes(k, n) / sizeof(float));
    if (!PackMatMul(context.get(), k, n, args.b, panels.data()).ok()) return;
    args.packed_b = panels.data();
    args.b.data = nullptr;
  }
  for (auto _ : state) benchmark::DoNotOptimize(MatMul(context.get(), args));
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * m * n * k),
                                               benchmark::Counter::kIsIterationInvariantRate);
  state.SetBytesProcessed(state.iterations() * k * n * 4);
}

const bool kRegistered = [] {
  for (InstructionSet set : AvailableInstructionSets()) {
    if (set == InstructionSet::kScalar) continue;
    for (bool packed : {true, false}) {
      for (const auto& [k, n] : {std::pair{512, 512}, {4096, 4096}}) {
        for (int64_t m : {1, 2, 4, 8, 16, 64, 256, 1024}) {
          const std::string name =
              "MatMul/" + std::string(Name(set)) + (packed ? "/constant" : "/computed") +
              "/k:" + std::to_string(k) + "/n:" + std::to_string(n) + "/m:" + std::to_string(m);
          benchmark::RegisterBenchmark(name.c_str(), [=, k = k, n = n](benchmark::State& state) {
            Run(state, set, m, n, k, packed);
          })->UseRealTime();
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace batch_invariant::cpu
