// RotaryEmbedding (batch_invariant/cuda/rotary.h): one thread a pair, or an element beyond
// rotary_dim.
#include <algorithm>
#include <limits>

#include "batch_invariant/cuda/rotary.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) RotaryKernel(const __grid_constant__ RotaryArgs args) {
  const std::int64_t half = args.rotary_dim / 2;
  const std::int64_t of_head = args.head_size - half;  // pairs, then single elements
  const std::int64_t total = args.batch * args.tokens * args.heads * of_head;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < total;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t pair = i % of_head, head = i / of_head % args.heads;
    const std::int64_t token = i / of_head / args.heads;
    const std::int64_t b = token / args.tokens, s = token % args.tokens;
    const T* x =
        static_cast<const T*>(args.x) + b * args.x_batch + head * args.x_head + s * args.x_token;
    T* y = static_cast<T*>(args.y) + b * args.y_batch + head * args.y_head + s * args.y_token;
    if (pair >= half) {
      y[half + pair] = x[half + pair];
      continue;
    }
    const std::int64_t first = args.interleaved ? 2 * pair : pair;
    const std::int64_t second = args.interleaved ? 2 * pair + 1 : pair + half;
    std::int64_t position = token;
    if (args.positions == RotaryPositions::kOffset) position = args.position_ids[0] + s;
    if (args.positions == RotaryPositions::kPerToken) position = args.position_ids[token];
    const T u_in = x[first], v_in = x[second];
    if (position < 0 || position >= args.cache_rows) {
      y[first] = u_in;
      y[second] = v_in;
      continue;
    }
    const float u = ToFloat(u_in), v = ToFloat(v_in);
    const float c = ToFloat(static_cast<const T*>(args.cos_cache)[position * half + pair]);
    const float n = ToFloat(static_cast<const T*>(args.sin_cache)[position * half + pair]);
    const float rotated_u = __fmaf_rn(u, c, -__fmul_rn(v, n));
    const float rotated_v = __fmaf_rn(v, c, __fmul_rn(u, n));
    y[first] = FromFloat<T>(__fmul_rn(rotated_u, args.scale));
    y[second] = FromFloat<T>(__fmul_rn(rotated_v, args.scale));
  }
}

template <typename T>
Status Launch(const RotaryArgs& args, Stream stream) {
  const std::int64_t total =
      args.batch * args.tokens * args.heads * (args.head_size - args.rotary_dim / 2);
  if (total == 0) return Status::Ok();
  const unsigned grid = static_cast<unsigned>(
      std::min<std::int64_t>(CeilDiv(total, kThreads), std::numeric_limits<int>::max()));
  RotaryKernel<T><<<grid, kThreads, 0, stream>>>(args);
  return LaunchStatus("RotaryEmbedding");
}

}  // namespace

Status Rotary(const RotaryArgs& args, Stream stream) {
  if (args.batch < 0 || args.heads < 0 || args.tokens < 0 || args.head_size < 0) {
    return Status::InvalidArgument("RotaryEmbedding: a size is negative");
  }
  if (args.rotary_dim < 0 || args.rotary_dim % 2 != 0 || args.rotary_dim > args.head_size) {
    return Status::InvalidArgument(
        "RotaryEmbedding: the rotary width must be even and at most the "
        "head size");
  }
  if (args.batch * args.heads * args.tokens * args.head_size == 0) return Status::Ok();
  const bool needs_ids = args.positions != RotaryPositions::kDirect;
  if (args.x == nullptr || args.y == nullptr || args.cos_cache == nullptr ||
      args.sin_cache == nullptr || (needs_ids && args.position_ids == nullptr)) {
    return Status::InvalidArgument("RotaryEmbedding: an operand is missing");
  }
  switch (args.type) {
    case ElementType::kFloat32:
      return Launch<float>(args, stream);
    case ElementType::kFloat16:
      return Launch<__half>(args, stream);
    case ElementType::kBFloat16:
      return Launch<__nv_bfloat16>(args, stream);
  }
  return Status::Unsupported("RotaryEmbedding: unknown element type");
}

}  // namespace batch_invariant::cuda
