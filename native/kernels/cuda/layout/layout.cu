// Strided copies and Range (batch_invariant/cuda/layout.h), one thread an element or 16 bytes.
#include <algorithm>
#include <limits>

#include "batch_invariant/cuda/layout.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/dispatch.cuh"
#include "kernels/cuda/elementwise/functions.cuh"
#include "kernels/cuda/elementwise/views.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

unsigned GridOf(std::int64_t items) {
  return static_cast<unsigned>(
      std::min<std::int64_t>(CeilDiv(items, kThreads), std::numeric_limits<int>::max()));
}

template <typename Word>
__global__ void __launch_bounds__(kThreads)
    CopyKernel(const Word* from, Word* to, const __grid_constant__ Views<2> views) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < views.count;
       i += std::int64_t{gridDim.x} * kThreads) {
    std::int64_t offsets[2];
    views.Offsets(i, offsets);
    to[offsets[1]] = from[offsets[0]];
  }
}

// Turns the elements of the last axis into 16-byte words where every address allows it.
bool Widen(const CopyArgs& args, std::int64_t size, Views<2>* views) {
  const std::int64_t per_word = 16 / size;
  const int last = views->rank - 1;
  if (last < 0 || views->shape[last] % per_word != 0 || views->strides[0][last] != 1 ||
      views->strides[1][last] != 1 || reinterpret_cast<std::uintptr_t>(args.from) % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(args.to) % 16 != 0) {
    return false;
  }
  for (int axis = 0; axis < last; ++axis) {
    if (views->strides[0][axis] % per_word != 0 || views->strides[1][axis] % per_word != 0) {
      return false;
    }
  }
  for (int axis = 0; axis < last; ++axis) {
    views->strides[0][axis] /= per_word;
    views->strides[1][axis] /= per_word;
  }
  views->shape[last] /= per_word;
  views->count /= per_word;
  return true;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) RangeKernel(const __grid_constant__ RangeArgs args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.count) return;
  T* y = static_cast<T*>(args.y);
  if constexpr (kIsFloat<T>) {
    y[i] = FromFloat<T>(__fmaf_rn(static_cast<float>(i), static_cast<float>(args.delta),
                                  static_cast<float>(args.start)));
  } else {
    y[i] = static_cast<T>(args.integer_start + i * args.integer_delta);
  }
}

}  // namespace

Status CopyStrided(const CopyArgs& args, Stream stream) {
  Views<2> views;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeViews("copy", args.shape, {args.from_strides, args.to_strides}, &views));
  if (views.count == 0) return Status::Ok();
  if (args.from == nullptr || args.to == nullptr) {
    return Status::InvalidArgument("copy: an operand is missing");
  }
  const std::int64_t size = SizeOf(args.type);
  return DispatchWordSize(Widen(args, size, &views) ? 16 : size, [&](auto tag) {
    using Word = typename decltype(tag)::type;
    CopyKernel<Word><<<GridOf(views.count), kThreads, 0, stream>>>(
        static_cast<const Word*>(args.from), static_cast<Word*>(args.to), views);
    return LaunchStatus("copy");
  });
}

Status Range(const RangeArgs& args, Stream stream) {
  if (args.count < 0) return Status::InvalidArgument("Range: the count is negative");
  if (args.count == 0) return Status::Ok();
  if (args.y == nullptr) return Status::InvalidArgument("Range: the output is missing");
  return DispatchArithmeticType("Range", args.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>) {
      return Status::Unsupported("Range: not defined for bool");
    } else {
      RangeKernel<T><<<GridOf(args.count), kThreads, 0, stream>>>(args);
      return LaunchStatus("Range");
    }
  });
}

}  // namespace batch_invariant::cuda
