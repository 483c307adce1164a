// Softmax, activations and RMS norm over rows, one thread, every instruction set of this machine.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "batch_invariant/cpu/elementwise.h"
#include "batch_invariant/cpu/norm.h"
#include "batch_invariant/cpu/softmax.h"
#include "benchmark_context.h"

namespace batch_invariant::cpu {
namespace {

constexpr int64_t kRows = 8;

struct Rows {
  int64_t width;
  std::vector<float> x, y;

  explicit Rows(int64_t elements)
      : width(elements), x(NormalValues(kRows * elements)), y(x.size()) {}
};

Status Softmax(const Context& context, Rows& rows) {
  return SoftmaxF32(context, {kRows, rows.width, 1, rows.x.data(), rows.y.data()});
}

template <UnaryOp kOp>
Status Unary(const Context& context, Rows& rows) {
  UnaryArgs args;
  args.op = kOp;
  args.rows = kRows;
  args.width = rows.width;
  args.x = rows.x.data();
  args.y = rows.y.data();
  return UnaryF32(context, args);
}

Status RmsNorm(const Context& context, Rows& rows) {
  NormArgs args;
  args.rows = kRows;
  args.width = rows.width;
  args.x = rows.x.data();
  args.y = rows.y.data();
  return RmsNormF32(context, args);
}

using Op = Status (*)(const Context& context, Rows& rows);

const bool kRegistered = [] {
  const std::pair<const char*, Op> ops[] = {{"Softmax", &Softmax},
                                            {"Sigmoid", &Unary<UnaryOp::kSigmoid>},
                                            {"Silu", &Unary<UnaryOp::kSilu>},
                                            {"Tanh", &Unary<UnaryOp::kTanh>},
                                            {"Gelu", &Unary<UnaryOp::kGelu>},
                                            {"RmsNorm", &RmsNorm}};
  for (InstructionSet set : AvailableInstructionSets()) {
    if (set == InstructionSet::kScalar) continue;
    for (const auto& [name, op] : ops) {
      for (int64_t width : {1024, 32768}) {
        const std::string title =
            std::string(name) + "/" + std::string(Name(set)) + "/width:" + std::to_string(width);
        benchmark::RegisterBenchmark(title.c_str(), [=, op = op](benchmark::State& state) {
          BenchmarkContext context(set);
          Rows rows(width);
          for (auto _ : state) benchmark::DoNotOptimize(op(context.get(), rows));
          state.SetItemsProcessed(state.iterations() * kRows * width);
        })->UseRealTime();
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace batch_invariant::cpu
