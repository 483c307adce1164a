// What the machine can do, as the floor beside every other number: reading memory with one thread.
// The peak of fused multiply-adds is a MatMul of 192 rows with all operands in the first-level
// cache.
#include <benchmark/benchmark.h>

#include <vector>

#include "batch_invariant/cpu/matmul.h"
#include "benchmark_context.h"

namespace batch_invariant::cpu {
namespace {

void ReadMemory(benchmark::State& state) {
  const std::vector<uint64_t> words(static_cast<size_t>(state.range(0)) / 8, 3);
  for (auto _ : state) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 8 <= words.size(); i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
    }
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ReadMemory)->Arg(16 << 10)->Arg(256 << 10)->Arg(8 << 20)->Arg(256 << 20)->UseRealTime();

void PeakMultiplyAdd(benchmark::State& state) {
  BenchmarkContext context(BestInstructionSet());
  const int64_t m = 12, n = 16, k = 256;
  const auto a = NormalValues(m * k), b = NormalValues(k * n);
  std::vector<float> packed(PackedMatMulBytes(k, n) / 4), y(m * n);
  if (!PackMatMul(context.get(), k, n, {b.data(), n, 1}, packed.data()).ok()) return;
  MatMulArgs args;
  args.m = m, args.n = n, args.k = k;
  args.a = {a.data(), k, 1};
  args.packed_b = packed.data();
  args.y = y.data();
  args.y_row_stride = n;
  for (auto _ : state) benchmark::DoNotOptimize(MatMul(context.get(), args));
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * m * n * k),
                                               benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(PeakMultiplyAdd)->UseRealTime();

}  // namespace
}  // namespace batch_invariant::cpu
