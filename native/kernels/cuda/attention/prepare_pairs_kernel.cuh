// The prompt's part of prepare.cu: one thread has both halves of eight rotated pairs, loads their
// angles once and takes head after head of a token, so that several loads are in flight.
//
// Formulas and roundings: batch_invariant/cuda/attention.h. For fp16 and bf16, heads of 64, 128 or
// 256 elements that are rotated as a whole, halves apart. The grid is free.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_PREPARE_PAIRS_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_PREPARE_PAIRS_KERNEL_CUH_

#include <cstdint>

#include "kernels/cuda/attention/contract.cuh"
#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/overlap.cuh"

namespace batch_invariant::cuda {

inline constexpr int kVector = 8;

template <typename T>
struct alignas(16) PrepareVector {
  T x[kVector];
};

template <typename T>
__device__ __forceinline__ void Load(const T* source, float (&x)[kVector]) {
  constexpr int kPer = 16 / sizeof(T);
  if constexpr (kPer == kVector) {
    const PrepareVector<T> v = *reinterpret_cast<const PrepareVector<T>*>(source);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = ToFloat(v.x[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = ToFloat(source[i]);
  }
}

template <typename T>
__device__ __forceinline__ void Store(T* target, const float (&x)[kVector]) {
  if constexpr (sizeof(T) == 2) {
    PrepareVector<T> v;
#pragma unroll
    for (int i = 0; i < kVector; ++i) v.x[i] = FromFloat<T>(x[i]);
    *reinterpret_cast<PrepareVector<T>*>(target) = v;
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) target[i] = FromFloat<T>(x[i]);
  }
}

// One element of a rotated pair: u' = fma(u, cos, -(v sin)) or v' = fma(v, cos, u sin).
__device__ __forceinline__ float Rotate(float x, float other, float cosine, float sine,
                                        bool second) {
  const float product = __fmul_rn(other, sine);
  return __fmaf_rn(x, cosine, second ? product : -product);
}

// InverseRms of prepare.cu for a thread that has the chunks of both halves: the step of the tree
// that adds them is its own.
template <int kLanes>
__device__ __forceinline__ float PairInverseRms(const float (&u)[kVector],
                                                const float (&v)[kVector], int head_size,
                                                float epsilon) {
  float first = 0.0f, second = 0.0f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    first = __fmaf_rn(u[i], u[i], first);
    second = __fmaf_rn(v[i], v[i], second);
  }
  float sum = __fadd_rn(first, second);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
  }
  const float mean = __fdiv_rn(sum, static_cast<float>(head_size));
  return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, epsilon)));
}

inline constexpr int kPairsThreads = 128;

// Whether PreparePairsKernel serves a call.
inline bool PairsServe(const PrepareArgs& args) {
  return args.type != ElementType::kFloat32 && args.rotary && !args.rotary_interleaved &&
         args.rotary_dim == args.head_size && args.arrived == nullptr &&
         static_cast<std::int64_t>(args.batch) * args.tokens <= 0x7fffffff &&
         (args.head_size == 64 || args.head_size == 128 || args.head_size == 256);
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kPairsThreads)
    PreparePairsKernel(const __grid_constant__ PrepareArgs args, int first_head) {
  constexpr int kHalf = kHead / 2, kLanes = kHalf / kVector;
  constexpr int kHeadsAtOnce = kPairsThreads / kLanes;
  constexpr int kAhead = 2;  // heads of a thread whose loads are in flight
  // In this order: attention reads the lengths before it waits.
  WaitForDependencies();
  LaunchDependents();
  const int row = blockIdx.x;  // b * tokens + token
  const int b = row / args.tokens, token = row - b * args.tokens;
  const int lane = threadIdx.x % kLanes, d = lane * kVector;
  const int heads = args.heads + 2 * args.kv_heads;
  const bool packed = args.key == nullptr, normalised = args.q_norm_weight != nullptr;
  const std::int64_t place = row;

  const auto source = [&](int head) {
    if (packed) return static_cast<const T*>(args.query) + (place * heads + head) * kHead;
    if (head < args.heads) {
      return static_cast<const T*>(args.query) + (place * args.heads + head) * kHead;
    }
    const bool is_value = head >= args.heads + args.kv_heads;
    const int kv_head = head - args.heads - (is_value ? args.kv_heads : 0);
    return static_cast<const T*>(is_value ? args.value : args.key) +
           (place * args.kv_heads + kv_head) * kHead;
  };
  float u[kAhead][kVector] = {}, v[kAhead][kVector] = {};
  const auto load = [&](int head) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (head + i * kHeadsAtOnce < heads) {
        const T* from = source(head + i * kHeadsAtOnce);
        Load(from + d, u[i]);
        Load(from + d + kHalf, v[i]);
      }
    }
  };
  int head = first_head + threadIdx.x / kLanes;
  load(head);

  const int past = args.from_start ? 0 : args.seqlens_k[b] + 1 - args.tokens;
  const int slot = past + token;
  std::int64_t position = slot;
  if (args.position_ids != nullptr) {
    // Of a first prompt only the first id of a sequence is defined.
    position = args.from_start
                   ? args.position_ids[static_cast<std::int64_t>(b) * args.tokens] + token
                   : args.position_ids[row];
  }
  const bool rotates = position >= 0 && position < args.rotary_positions;
  float cosines[kVector], sines[kVector];
  if (rotates) {
    Load(static_cast<const T*>(args.cos_cache) + position * kHalf + d, cosines);
    Load(static_cast<const T*>(args.sin_cache) + position * kHalf + d, sines);
  }
  const bool in_present = slot >= 0 && slot < args.present_capacity;

  // The heads of a warp stay together: they share shuffles.
  for (int base = first_head; base < heads; base += kAhead * kHeadsAtOnce) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int h = head + i * kHeadsAtOnce;
      const bool is_query = h < args.heads, is_value = h >= args.heads + args.kv_heads;
      if (normalised) {
        const float inverse =
            PairInverseRms<kLanes>(u[i], v[i], args.head_size, args.qk_norm_epsilon);
        if (h < heads && !is_value) {
          const T* weight =
              static_cast<const T*>(is_query ? args.q_norm_weight : args.k_norm_weight);
          float first[kVector], second[kVector];
          Load(weight + d, first);
          Load(weight + d + kHalf, second);
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            u[i][j] = __fmul_rn(__fmul_rn(u[i][j], inverse), first[j]);
            v[i][j] = __fmul_rn(__fmul_rn(v[i][j], inverse), second[j]);
          }
        }
      }
      if (rotates && !is_value) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          const float x = Rotate(u[i][j], v[i][j], cosines[j], sines[j], false);
          v[i][j] = Rotate(v[i][j], u[i][j], cosines[j], sines[j], true);
          u[i][j] = x;
        }
      }
      if (h >= heads) continue;
      T* target = nullptr;
      if (is_query) {
        target = static_cast<T*>(args.prepared_query) + (place * args.heads + h) * kHead;
      } else if (in_present) {
        const int kv_head = h - args.heads - (is_value ? args.kv_heads : 0);
        target = static_cast<T*>(is_value ? args.present_value : args.present_key) +
                 ((static_cast<std::int64_t>(b) * args.kv_heads + kv_head) * args.present_capacity +
                  slot) *
                     kHead;
      } else {
        continue;
      }
      Store(target + d, u[i]);
      Store(target + d + kHalf, v[i]);
    }
    head += kAhead * kHeadsAtOnce;
    load(head);
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_PREPARE_PAIRS_KERNEL_CUH_
