// Past and new tokens behind each other, and masks as a bias (join.h): one thread an element, one
// rounding each. The grid is free.
#include <algorithm>

#include "kernels/cuda/attention/join.h"
#include "kernels/cuda/common/by_type.cuh"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kHidden = -__builtin_huge_valf();

unsigned GridOf(std::int64_t elements) {
  return static_cast<unsigned>(std::min<std::int64_t>(CeilDiv(elements, kThreads), 1 << 20));
}

template <typename T>
__global__ void __launch_bounds__(kThreads) JoinTokens(const __grid_constant__ JoinArgs args) {
  const std::int64_t tokens = args.past_tokens + args.added_tokens;
  const std::int64_t count = std::int64_t{args.batch} * args.heads * tokens * args.width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / args.width;
    const int d = static_cast<int>(i - row * args.width);
    const std::int64_t sequence_head = row / tokens;
    const std::int64_t token = row - sequence_head * tokens;
    const std::int64_t b = sequence_head / args.heads, h = sequence_head - b * args.heads;
    T value = T(0.0f);
    if (d < args.size && token < args.past_tokens) {
      value = static_cast<const T*>(
          args.past)[(sequence_head * args.past_tokens + token) * args.size + d];
    } else if (d < args.size) {
      value = static_cast<const T*>(
          args.added.data)[b * args.added.batch_stride + h * args.added.head_stride +
                           (token - args.past_tokens) * args.added.token_stride + d];
      if (args.bias != nullptr) {
        const float bias = ToFloat(static_cast<const T*>(args.bias)[h * args.size + d]);
        value = FromFloat<T>(__fadd_rn(ToFloat(value), bias));
      }
    }
    static_cast<T*>(args.joined)[i] = value;
  }
}

// The value of the mask that is added to a score; kHidden for a false.
__device__ __forceinline__ float MaskValue(const MultiHeadAttentionArgs& args, std::int64_t at) {
  switch (args.bias_type) {
    case DataType::kFloat16:
      return ToFloat(static_cast<const __half*>(args.bias)[at]);
    case DataType::kBFloat16:
      return ToFloat(static_cast<const __nv_bfloat16*>(args.bias)[at]);
    case DataType::kBool:
      return static_cast<const bool*>(args.bias)[at] ? 0.0f : kHidden;
    default:
      return static_cast<const float*>(args.bias)[at];
  }
}

__device__ __forceinline__ bool IsHidden(const MultiHeadAttentionArgs& args, int b, int t, int j) {
  switch (args.key_mask) {
    case KeyMask::kLengths:
      return j >= args.mask[b];
    case KeyMask::kEndStart:
      return j >= args.mask[b] || j < args.mask[args.batch + b];
    case KeyMask::kValues:
      return args.mask[b * args.mask_batch_stride + t * args.mask_query_stride + j] == 0;
    default:
      return false;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    HideKeys(const __grid_constant__ MultiHeadAttentionArgs args, BiasShape shape, T* out) {
  const int total = args.past_sequence + args.kv_sequence;
  const std::int64_t count = std::int64_t{shape.batch} * shape.heads * shape.queries * total;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / total;
    const int j = static_cast<int>(i - row * total);
    const int t = static_cast<int>(row % shape.queries);
    const int h = static_cast<int>(row / shape.queries % shape.heads);
    const int b = static_cast<int>(row / shape.queries / shape.heads);
    float value = 0.0f;
    if (args.bias != nullptr) {
      value = j < args.bias_keys
                  ? MaskValue(args, b * args.bias_batch_stride + h * args.bias_head_stride +
                                        t * args.bias_query_stride + j * args.bias_key_stride)
                  : kHidden;
    }
    if (args.key_mask != KeyMask::kNone && IsHidden(args, b, t, j)) {
      value = args.filter > -1000.0f ? __fadd_rn(value, args.filter) : kHidden;
    }
    if (args.key_lengths != nullptr) {
      const std::int64_t length = args.key_lengths[b];
      const std::int64_t end = args.causal ? min(length, length - args.sequence + t + 1) : length;
      if (j >= end) value = kHidden;
    }
    out[i] = FromFloat<T>(value);
  }
}

}  // namespace

Status LaunchJoin(const JoinArgs& args, Stream stream) {
  const std::int64_t count =
      std::int64_t{args.batch} * args.heads * (args.past_tokens + args.added_tokens) * args.width;
  if (count == 0) return Status::Ok();
  return ByType(args.type, [&](auto zero) {
    JoinTokens<decltype(zero)><<<GridOf(count), kThreads, 0, stream>>>(args);
    return LaunchStatus("JoinTokens");
  });
}

Status LaunchBias(const MultiHeadAttentionArgs& args, const BiasShape& shape, void* bias,
                  Stream stream) {
  const std::int64_t count = std::int64_t{shape.batch} * shape.heads * shape.queries * args.total();
  if (count == 0) return Status::Ok();
  return ByType(args.type, [&](auto zero) {
    using T = decltype(zero);
    HideKeys<T><<<GridOf(count), kThreads, 0, stream>>>(args, shape, static_cast<T*>(bias));
    return LaunchStatus("HideKeys");
  });
}

}  // namespace batch_invariant::cuda
