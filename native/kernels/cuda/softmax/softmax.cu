// Softmax and LogSoftmax, contract softmax.cuda (batch_invariant/cuda/softmax.h): T threads a row,
// the row read three times (the second and third time from the cache). The grid is free.
#include "batch_invariant/cuda/softmax.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/math.cuh"
#include "kernels/cuda/norm/row_io.cuh"

namespace batch_invariant::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    SoftmaxKernel(const __grid_constant__ SoftmaxArgs args, bool logarithm) {
  __shared__ float scratch[2][8][kMaxRowThreads / 32];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool active = row < args.outer * args.inner;
  const std::int64_t base =
      active ? row / args.inner * args.length * args.inner + row % args.inner : 0;
  const T* x = static_cast<const T*>(args.x) + base;
  T* y = static_cast<T*>(args.y) + base;
  const std::int64_t first = std::int64_t{threadIdx.x} * kRowVector;
  const std::int64_t stride = std::int64_t{blockDim.x} * kRowVector;
  const auto each = [&](auto body) {
    if (!active) return;
    for (std::int64_t i = first; i < args.length; i += stride) {
#pragma unroll
      for (int j = 0; j < kRowVector; ++j) {
        if (i + j < args.length) body(j, (i + j) * args.inner);
      }
    }
  };

  float maxima[kRowVector], sums[kRowVector] = {};
#pragma unroll
  for (int j = 0; j < kRowVector; ++j) maxima[j] = -__builtin_huge_valf();
  each([&](int j, std::int64_t at) { maxima[j] = MaxOp::Apply(maxima[j], ToFloat(x[at])); });
  const float m = FoldRow<MaxOp>(maxima, scratch[0]);
  each([&](int j, std::int64_t at) {
    sums[j] = __fadd_rn(sums[j], Exp(__fsub_rn(ToFloat(x[at]), m)));
  });
  const float t = FoldRow<AddOp>(sums, scratch[1]);
  const float log_t = logarithm ? Log(t) : 0.0f;
  each([&](int, std::int64_t at) {
    const float d = __fsub_rn(ToFloat(x[at]), m);
    y[at] = FromFloat<T>(logarithm ? __fsub_rn(d, log_t) : __fdiv_rn(Exp(d), t));
  });
}

template <typename T>
Status Launch(const SoftmaxArgs& args, bool logarithm, Stream stream) {
  const int threads = RowThreads(args.length);
  const dim3 block(threads, RowsAtOnce(threads));
  const unsigned grid = static_cast<unsigned>(CeilDiv(args.outer * args.inner, block.y));
  SoftmaxKernel<T><<<grid, block, 0, stream>>>(args, logarithm);
  return LaunchStatus("softmax");
}

Status Run(const SoftmaxArgs& args, bool logarithm, Stream stream) {
  if (args.outer < 0 || args.length < 0 || args.inner < 0) {
    return Status::InvalidArgument("softmax: a size is negative");
  }
  if (args.outer * args.length * args.inner == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("softmax: x or y is missing");
  }
  switch (args.type) {
    case ElementType::kFloat32:
      return Launch<float>(args, logarithm, stream);
    case ElementType::kFloat16:
      return Launch<__half>(args, logarithm, stream);
    case ElementType::kBFloat16:
      return Launch<__nv_bfloat16>(args, logarithm, stream);
  }
  return Status::Unsupported("softmax: unknown element type");
}

}  // namespace

Status Softmax(const SoftmaxArgs& args, Stream stream) { return Run(args, false, stream); }
Status LogSoftmax(const SoftmaxArgs& args, Stream stream) { return Run(args, true, stream); }

}  // namespace batch_invariant::cuda
