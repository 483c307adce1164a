// Plain C entry points of norms and gated activations for rowwise.py.
#include <cstdint>
#include <cstdio>

#include "batch_invariant/cuda/elementwise.h"
#include "batch_invariant/cuda/norm.h"

namespace {

using batch_invariant::Status;
using batch_invariant::cuda::ElementType;
using batch_invariant::cuda::Stream;

int Report(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message.c_str());
  return status.ok() ? 0 : -1;
}

}  // namespace

// SkipSimplifiedLayerNormalization with its sum in bf16; skip null: SimplifiedLayerNormalization.
extern "C" int BenchmarkNorm(std::int64_t rows, std::int64_t width, const void* x, const void* skip,
                             const void* gamma, void* y, void* sum, void* stream) {
  batch_invariant::cuda::NormArgs args;
  args.type = ElementType::kBFloat16;
  args.rows = rows;
  args.width = width;
  args.x = x;
  args.skip = skip;
  args.skip_rows = rows;
  args.gamma = gamma;
  args.y = y;
  args.sum = skip == nullptr ? nullptr : sum;
  return Report(RmsNorm(args, static_cast<Stream>(stream)));
}

// SiLU(gate) * up in bf16, gate and up the halves of rows of 2 * width.
extern "C" int BenchmarkGated(std::int64_t rows, std::int64_t width, const void* gate_up, void* y,
                              void* stream) {
  batch_invariant::cuda::GatedArgs args;
  args.type = ElementType::kBFloat16;
  args.rows = rows;
  args.width = width;
  args.gate = gate_up;
  args.up = static_cast<const char*>(gate_up) + 2 * width;
  args.gate_stride = args.up_stride = 2 * width;
  args.y = y;
  args.y_stride = width;
  return Report(Gated(args, static_cast<Stream>(stream)));
}
