// Reductions, contract reduce.cuda (batch_invariant/cuda/reduce.h): T threads a row of
// floating-point numbers; integers, which are exact in any order, one warp a row. The grid is free.
#include <limits>

#include "batch_invariant/cuda/reduce.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/norm/row_io.cuh"

namespace batch_invariant::cuda {
namespace {

constexpr int kIntegerThreads = 128;

template <typename T, typename Op>
__device__ __forceinline__ void ReduceRow(const ReduceArgs& args, bool squares, float start) {
  __shared__ float scratch[8][kMaxRowThreads / 32];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool active = row < args.outer * args.inner;
  float partial[kRowVector];
#pragma unroll
  for (int j = 0; j < kRowVector; ++j) partial[j] = start;
  if (active) {
    const T* x = static_cast<const T*>(args.x) + row / args.inner * args.length * args.inner +
                 row % args.inner;
    const std::int64_t stride = std::int64_t{blockDim.x} * kRowVector;
    for (std::int64_t i = std::int64_t{threadIdx.x} * kRowVector; i < args.length; i += stride) {
#pragma unroll
      for (int j = 0; j < kRowVector; ++j) {
        if (i + j >= args.length) continue;
        const float value = ToFloat(x[(i + j) * args.inner]);
        partial[j] = squares ? __fmaf_rn(value, value, partial[j]) : Op::Apply(partial[j], value);
      }
    }
  }
  float result = FoldRow<Op>(partial, scratch);
  if (!active || threadIdx.x != 0) return;
  if (args.op == ReduceOp::kMean) result = __fdiv_rn(result, static_cast<float>(args.length));
  if (args.op == ReduceOp::kL2) result = __fsqrt_rn(result);
  static_cast<T*>(args.y)[row] = FromFloat<T>(result);
}

template <typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    ReduceKernel(const __grid_constant__ ReduceArgs args) {
  switch (args.op) {
    case ReduceOp::kMax:
      return ReduceRow<T, MaxOp>(args, false, -__builtin_huge_valf());
    case ReduceOp::kMin:
      return ReduceRow<T, MinOp>(args, false, __builtin_huge_valf());
    default:
      return ReduceRow<T, AddOp>(args, args.op == ReduceOp::kL2 || args.op == ReduceOp::kSumSquare,
                                 0.0f);
  }
}

template <typename T>
__global__ void __launch_bounds__(kIntegerThreads)
    ReduceIntegerKernel(const __grid_constant__ ReduceArgs args, T lowest, T highest) {
  const std::int64_t row = (std::int64_t{blockIdx.x} * kIntegerThreads + threadIdx.x) / 32;
  if (row >= args.outer * args.inner) return;
  const int lane = threadIdx.x % 32;
  const T* x = static_cast<const T*>(args.x) + row / args.inner * args.length * args.inner +
               row % args.inner;
  const auto join = [&](std::int64_t a, std::int64_t b) -> std::int64_t {
    switch (args.op) {
      case ReduceOp::kMax:
        return a > b ? a : b;
      case ReduceOp::kMin:
        return a < b ? a : b;
      default:
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) +
                                         static_cast<std::uint64_t>(b));
    }
  };
  std::int64_t value = args.op == ReduceOp::kMax   ? std::int64_t{lowest}
                       : args.op == ReduceOp::kMin ? std::int64_t{highest}
                                                   : 0;
  for (std::int64_t i = lane; i < args.length; i += 32) {
    std::int64_t element = x[i * args.inner];
    if (args.op == ReduceOp::kSumSquare) element *= element;
    value = join(value, element);
  }
  for (int step = 16; step > 0; step /= 2) {
    value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  if (args.op == ReduceOp::kMean) value = args.length == 0 ? 0 : value / args.length;
  if (lane == 0) static_cast<T*>(args.y)[row] = static_cast<T>(value);
}

template <typename T>
Status Launch(const ReduceArgs& args, Stream stream) {
  const int threads = RowThreads(args.length);
  const dim3 block(threads, RowsAtOnce(threads));
  const unsigned grid = static_cast<unsigned>(CeilDiv(args.outer * args.inner, block.y));
  ReduceKernel<T><<<grid, block, 0, stream>>>(args);
  return LaunchStatus("reduction");
}

template <typename T>
Status LaunchInteger(const ReduceArgs& args, Stream stream) {
  if (args.op == ReduceOp::kL2) return Status::Unsupported("reduction: L2 of integers");
  const unsigned grid =
      static_cast<unsigned>(CeilDiv(args.outer * args.inner * 32, kIntegerThreads));
  ReduceIntegerKernel<T><<<grid, kIntegerThreads, 0, stream>>>(
      args, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
  return LaunchStatus("reduction");
}

}  // namespace

Status Reduce(const ReduceArgs& args, Stream stream) {
  if (args.outer < 0 || args.length < 0 || args.inner < 0) {
    return Status::InvalidArgument("reduction: a size is negative");
  }
  if (args.outer * args.inner == 0) return Status::Ok();
  if ((args.x == nullptr && args.length > 0) || args.y == nullptr) {
    return Status::InvalidArgument("reduction: x or y is missing");
  }
  switch (args.type) {
    case DataType::kFloat32:
      return Launch<float>(args, stream);
    case DataType::kFloat16:
      return Launch<__half>(args, stream);
    case DataType::kBFloat16:
      return Launch<__nv_bfloat16>(args, stream);
    case DataType::kInt32:
      return LaunchInteger<std::int32_t>(args, stream);
    case DataType::kInt64:
      return LaunchInteger<std::int64_t>(args, stream);
    default:
      return Status::Unsupported("reduction: only fp32, fp16, bf16, int32 and int64 are served");
  }
}

}  // namespace batch_invariant::cuda
