// MatMulNBits, block 32, one thread, every instruction set of this machine.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "batch_invariant/cpu/matmul_nbits.h"
#include "benchmark_context.h"

namespace batch_invariant::cpu {
namespace {

void Run(benchmark::State& state, InstructionSet instruction_set, int64_t m, int64_t n, int64_t k,
         int bits, int accuracy_level) {
  BenchmarkContext context(instruction_set);
  MatMulNBitsPlan plan;
  if (!MakeMatMulNBitsPlan(k, n, bits, 32, accuracy_level, ZeroPoints::kDefault, &plan).ok()) {
    return;
  }
  const std::vector<uint8_t> b(static_cast<size_t>(n * k * bits / 8), 0x5a);
  const auto scales = NormalValues(n * plan.blocks());
  std::vector<uint8_t> packed(PackedMatMulNBitsBytes(plan));
  if (!PackMatMulNBits(context.get(), plan, b.data(), scales.data(), nullptr, packed.data()).ok()) {
    return;
  }
  const auto a = NormalValues(m * k);
  std::vector<float> y(static_cast<size_t>(m * n));
  MatMulNBitsArgs args;
  args.m = m;
  args.a = a.data();
  args.a_row_stride = k;
  args.packed_b = packed.data();
  args.y = y.data();
  args.y_row_stride = n;
  for (auto _ : state) benchmark::DoNotOptimize(MatMulNBits(context.get(), plan, args));
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * m * n * k),
                                               benchmark::Counter::kIsIterationInvariantRate);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(packed.size()));
}

const bool kRegistered = [] {
  for (InstructionSet set : AvailableInstructionSets()) {
    if (set == InstructionSet::kScalar) continue;
    for (int bits : {4, 8}) {
      for (int level : {0, 4}) {
        for (const auto& [k, n] : {std::pair{512, 512}, {4096, 4096}}) {
          for (int64_t m : {1, 2, 4, 8, 16, 64, 256, 1024}) {
            const std::string name = "MatMulNBits/" + std::string(Name(set)) +
                                     "/bits:" + std::to_string(bits) +
                                     "/level:" + std::to_string(level) + "/k:" + std::to_string(k) +
                                     "/n:" + std::to_string(n) + "/m:" + std::to_string(m);
            benchmark::RegisterBenchmark(name.c_str(), [=, k = k, n = n](benchmark::State& state) {
              Run(state, set, m, n, k, bits, level);
            })->UseRealTime();
          }
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace batch_invariant::cpu
