// GroupQueryAttention before attention: q and k are normalised and rotated, k and v written to
// their slots of the present buffers; an unshared past is copied there and the rest zeroed.
//
// Formulas and roundings: batch_invariant/cuda/attention.h. A thread owns 8 elements of one head of
// one token; the threads of a head are 8, 16 or 32 neighbours of one warp. Grid and thread count
// are free.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention/contract.cuh"
#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/attention/prepare_pairs_kernel.cuh"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/overlap.cuh"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

// 1 / sqrt(mean square + epsilon) of a head; lanes of the group hold chunks of 8.
__device__ __forceinline__ float InverseRms(const float (&x)[kVector], int lanes, int head_size,
                                            float epsilon) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum = __fmaf_rn(x[i], x[i], sum);
  for (int step = lanes / 2; step > 0; step /= 2) {
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
  }
  const float mean = __fdiv_rn(sum, static_cast<float>(head_size));
  return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, epsilon)));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PrepareKernel(const __grid_constant__ PrepareArgs args, int lanes, int first_head) {
  // In this order: attention reads the lengths before it waits.
  WaitForDependencies();
  LaunchDependents();
  const std::int64_t thread =
      ((std::int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * kThreads +
      threadIdx.x;
  if (thread < args.arrived_count) args.arrived[thread] = 0;
  const int heads = args.heads + 2 * args.kv_heads;
  // `lanes` is a power of two; blockIdx.y walks over (b, token), blockIdx.x over the heads of one.
  const int shift = 31 - __clz(lanes);
  const int head = first_head + static_cast<int>((blockIdx.x * kThreads + threadIdx.x) >> shift);
  const int lane = threadIdx.x & (lanes - 1);
  const std::int64_t row = std::int64_t{blockIdx.z} * 65535 + blockIdx.y;  // b * tokens + token
  const bool inside = head < heads && row < static_cast<std::int64_t>(args.batch) * args.tokens;
  const int b = inside ? static_cast<int>(static_cast<std::uint32_t>(row) / args.tokens) : 0;
  const int token = static_cast<int>(row - static_cast<std::int64_t>(b) * args.tokens);
  const bool is_query = head < args.heads, is_value = head >= args.heads + args.kv_heads;
  const int kv_head = (head - args.heads) % max(args.kv_heads, 1);
  const bool packed = args.key == nullptr;

  const T* source = nullptr;
  if (packed) {
    source = static_cast<const T*>(args.query) + (row * heads + head) * args.head_size;
  } else if (is_query) {
    source = static_cast<const T*>(args.query) + (row * args.heads + head) * args.head_size;
  } else {
    source = static_cast<const T*>(is_value ? args.value : args.key) +
             (row * args.kv_heads + kv_head) * args.head_size;
  }
  const int d = lane * kVector;
  const bool active = inside && d < args.head_size;
  float x[kVector] = {};
  if (active) Load(source + d, x);

  // Every lane of a warp takes part in the shuffles.
  float inverse = 1.0f;
  const bool normalised = args.q_norm_weight != nullptr && !is_value;
  const T* weight = static_cast<const T*>(is_query ? args.q_norm_weight : args.k_norm_weight);
  if (args.q_norm_weight != nullptr) {
    inverse = InverseRms(x, lanes, args.head_size, args.qk_norm_epsilon);
  }
  if (!active) return;
  const auto normal = [&](float value, int i) {
    return normalised ? __fmul_rn(__fmul_rn(value, inverse), ToFloat(weight[i])) : value;
  };
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] = normal(x[i], d + i);

  const int past = args.from_start ? 0 : args.seqlens_k[b] + 1 - args.tokens;
  const int slot = past + token;
  if (args.rotary && !is_value) {
    std::int64_t position = slot;
    if (args.position_ids != nullptr) {
      // Of a first prompt only the first id of a sequence is defined.
      position = args.from_start
                     ? args.position_ids[static_cast<std::int64_t>(b) * args.tokens] + token
                     : args.position_ids[row];
    }
    if (position >= 0 && position < args.rotary_positions) {
      const int half = args.rotary_dim / 2;
      const T* cosines = static_cast<const T*>(args.cos_cache) + position * half;
      const T* sines = static_cast<const T*>(args.sin_cache) + position * half;
      float rotated[kVector];
      if (!args.rotary_interleaved && half % kVector == 0) {
        // Eight elements lie on one side of the pairs, and so do their partners and angles.
        if (d < args.rotary_dim) {
          const bool second = d >= half;
          const int partner = second ? d - half : d + half;
          float other[kVector], c[kVector], s[kVector];
          Load(source + partner, other);
          Load(cosines + (second ? d - half : d), c);
          Load(sines + (second ? d - half : d), s);
#pragma unroll
          for (int i = 0; i < kVector; ++i) {
            rotated[i] = Rotate(x[i], normal(other[i], partner + i), c[i], s[i], second);
          }
        } else {
#pragma unroll
          for (int i = 0; i < kVector; ++i) rotated[i] = x[i];
        }
      } else {
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const int e = d + i;
          rotated[i] = x[i];
          if (e >= args.rotary_dim) continue;
          const int pair = args.rotary_interleaved ? e / 2 : e % half;
          const bool second = args.rotary_interleaved ? e % 2 == 1 : e >= half;
          const int partner = second ? e - half : e + half;
          const float other =
              args.rotary_interleaved ? x[i ^ 1] : normal(ToFloat(source[partner]), partner);
          rotated[i] = Rotate(x[i], other, ToFloat(cosines[pair]), ToFloat(sines[pair]), second);
        }
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] = rotated[i];
    }
  }

  if (is_query) {
    Store(static_cast<T*>(args.prepared_query) + (row * args.heads + head) * args.head_size + d, x);
  } else if (slot >= 0 && slot < args.present_capacity) {
    T* present = static_cast<T*>(is_value ? args.present_value : args.present_key);
    const std::int64_t place =
        (static_cast<std::int64_t>(b) * args.kv_heads + kv_head) * args.present_capacity + slot;
    Store(present + place * args.head_size + d, x);
  }
}

// Fills an unshared present buffer but for the new tokens: the past, then zeros.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    CopyPastKernel(const __grid_constant__ PrepareArgs args, std::int64_t vectors) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const int of_slot = args.head_size * static_cast<int>(sizeof(T)) / 16;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < vectors;
       i += stride) {
    const std::int64_t place = i / of_slot;
    const int slot = static_cast<int>(place % args.present_capacity);
    const std::int64_t head = place / args.present_capacity;  // b * kv_heads + kv_head
    const int b = static_cast<int>(head / args.kv_heads);
    const int past = args.from_start ? 0 : args.seqlens_k[b] + 1 - args.tokens;
    if (slot >= past && slot < past + args.tokens) continue;
    const bool old = slot < past && slot < args.past_capacity;
    const std::int64_t from = (head * args.past_capacity + slot) * of_slot + i % of_slot;
    const uint4 zero = {0, 0, 0, 0};
    static_cast<uint4*>(args.present_key)[i] =
        old ? static_cast<const uint4*>(args.past_key)[from] : zero;
    static_cast<uint4*>(args.present_value)[i] =
        old ? static_cast<const uint4*>(args.past_value)[from] : zero;
  }
}

template <typename T>
Status LaunchPairs(const PrepareArgs& args, const DeviceInfo& device, Stream stream) {
  const auto launch = [&](auto kernel) {
    const dim3 grid(static_cast<unsigned>(args.batch * args.tokens));
    return LaunchOverlapped(kernel, grid, kPairsThreads, 0, CanOverlap(device), stream,
                            "GroupQueryAttention: rotary embedding and cache", args,
                            args.prepared_query == nullptr ? args.heads : 0);
  };
  if (args.head_size == 64) return launch(PreparePairsKernel<T, 64>);
  if (args.head_size == 128) return launch(PreparePairsKernel<T, 128>);
  return launch(PreparePairsKernel<T, 256>);
}

template <typename T>
Status Launch(const PrepareArgs& args, Stream stream) {
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (!KeepsPast(args)) {
    const std::int64_t vectors = static_cast<std::int64_t>(args.batch) * args.kv_heads *
                                 args.present_capacity * args.head_size *
                                 static_cast<int>(sizeof(T)) / 16;
    const std::int64_t grid = std::min<std::int64_t>(CeilDiv(vectors, kThreads), 8192);
    if (grid > 0) {
      CopyPastKernel<T><<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(args, vectors);
      BATCH_INVARIANT_RETURN_IF_ERROR(LaunchStatus("GroupQueryAttention: copying the past"));
    }
  }
  if constexpr (sizeof(T) == 2) {
    if (PairsServe(args)) return LaunchPairs<T>(args, device, stream);
  }
  const int chunks = args.head_size / kVector;
  const int lanes = chunks <= 8 ? 8 : chunks <= 16 ? 16 : 32;
  const int first_head = args.prepared_query == nullptr ? args.heads : 0;
  const int heads = args.heads + 2 * args.kv_heads - first_head;
  const std::int64_t rows = static_cast<std::int64_t>(args.batch) * args.tokens;
  constexpr std::int64_t kMaxY = 65535;
  const dim3 grid(static_cast<unsigned>(CeilDiv(heads * lanes, kThreads)),
                  static_cast<unsigned>(std::min(rows, kMaxY)),
                  static_cast<unsigned>(CeilDiv(rows, kMaxY)));
  return LaunchOverlapped(PrepareKernel<T>, grid, kThreads, 0, CanOverlap(device), stream,
                          "GroupQueryAttention: rotary embedding and cache", args, lanes,
                          first_head);
}

}  // namespace

bool KeepsPast(const PrepareArgs& args) {
  return args.past_key == args.present_key && args.past_value == args.present_value;
}

Status LaunchPrepare(const PrepareArgs& args, Stream stream) {
  switch (args.type) {
    case ElementType::kFloat32:
      return Launch<float>(args, stream);
    case ElementType::kFloat16:
      return Launch<__half>(args, stream);
    case ElementType::kBFloat16:
      return Launch<__nv_bfloat16>(args, stream);
  }
  return Status::Unsupported("GroupQueryAttention: unknown element type");
}

}  // namespace batch_invariant::cuda
