// Row normalisations, contract norm.cuda (batch_invariant/cuda/norm.h): T threads a row, eight
// neighbouring elements each; kChunks of those stay in registers (0: as many as the row needs are
// read again instead). The grid and kChunks are free.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_KERNEL_CUH_

#include "batch_invariant/cuda/norm.h"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/norm/row_io.cuh"

namespace batch_invariant::cuda {

// s of eight elements; stores it where `args.sum` asks for it.
template <typename T>
__device__ __forceinline__ void Summed(const NormArgs& args, std::int64_t row, int column,
                                       bool whole, bool store, float (&s)[kRowVector]) {
  const int width = static_cast<int>(args.width);
  LoadEight(static_cast<const T*>(args.x) + row * args.width, column, width, whole, s);
  if (args.skip != nullptr) {
    float skip[kRowVector];
    const std::int64_t skip_row = args.skip_rows == args.rows ? row : row % args.skip_rows;
    LoadEight(static_cast<const T*>(args.skip) + skip_row * args.width, column, width, whole, skip);
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) s[j] = __fadd_rn(s[j], skip[j]);
  }
  if (args.bias != nullptr) {
    float bias[kRowVector];
    LoadEight(static_cast<const T*>(args.bias), column, width, whole, bias);
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) s[j] = __fadd_rn(s[j], bias[j]);
  }
#pragma unroll
  for (int j = 0; j < kRowVector; ++j) s[j] = ToFloat(FromFloat<T>(s[j]));
  if (store && args.sum != nullptr) {
    StoreEight(static_cast<T*>(args.sum) + row * args.width, column, width, whole, s);
  }
}

template <typename T, int kChunks, bool kLayer>
__global__ void __launch_bounds__(kMaxRowThreads)
    NormKernel(const __grid_constant__ NormArgs args, bool vectors) {
  __shared__ float scratch[2][8][kMaxRowThreads / 32];
  LaunchDependents();
  WaitForDependencies();
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool active = row < args.rows;
  const int width = static_cast<int>(args.width);
  const int first = threadIdx.x * kRowVector, stride = blockDim.x * kRowVector;
  const float n = static_cast<float>(args.width);
  constexpr int kHeld = kChunks == 0 ? 1 : kChunks;
  float held[kHeld][kRowVector];
  // Asked for early, so that it is here when the sums are.
  constexpr bool kHoldGamma = kChunks == 1 || kChunks == 2;
  float held_gamma[kHeld][kRowVector];
  if constexpr (kHoldGamma) {
    if (args.gamma != nullptr) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int column = first + c * stride;
        if (column < width) {
          LoadEight(static_cast<const T*>(args.gamma), column, width,
                    vectors && column + kRowVector <= width, held_gamma[c]);
        }
      }
    }
  }

  // Calls body(column, whole, s, gamma or null) for this thread's chunks in ascending order.
  const auto each = [&](bool store, auto body) {
    if (!active) return;
    if constexpr (kChunks == 0) {
      for (int column = first; column < width; column += stride) {
        const bool whole = vectors && column + kRowVector <= width;
        // Once s is stored it may have replaced x or skip.
        if (store || args.sum == nullptr) {
          Summed<T>(args, row, column, whole, store, held[0]);
        } else {
          LoadEight(static_cast<const T*>(args.sum) + row * args.width, column, width, whole,
                    held[0]);
        }
        body(column, whole, held[0], nullptr);
      }
    } else {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int column = first + c * stride;
        if (column < width) {
          const bool whole = vectors && column + kRowVector <= width;
          if (store) Summed<T>(args, row, column, whole, true, held[c]);
          body(column, whole, held[c], kHoldGamma ? held_gamma[c] : nullptr);
        }
      }
    }
  };

  float mean = 0.0f;
  float squares[kRowVector] = {};
  if constexpr (kLayer) {
    float partial[kRowVector] = {};
    each(true, [&](int, bool, const float(&s)[kRowVector], const float*) {
#pragma unroll
      for (int j = 0; j < kRowVector; ++j) partial[j] = __fadd_rn(partial[j], s[j]);
    });
    mean = __fdiv_rn(FoldRow<AddOp>(partial, scratch[0]), n);
    each(false, [&](int column, bool, const float(&s)[kRowVector], const float*) {
#pragma unroll
      for (int j = 0; j < kRowVector; ++j) {
        const float d = __fsub_rn(s[j], mean);
        if (column + j < width) squares[j] = __fmaf_rn(d, d, squares[j]);
      }
    });
  } else {
    each(true, [&](int, bool, const float(&s)[kRowVector], const float*) {
#pragma unroll
      for (int j = 0; j < kRowVector; ++j) squares[j] = __fmaf_rn(s[j], s[j], squares[j]);
    });
  }
  const float variance = __fdiv_rn(FoldRow<AddOp>(squares, scratch[1]), n);
  const float inverse = __frcp_rn(__fsqrt_rn(__fadd_rn(variance, args.epsilon)));
  if (active && threadIdx.x == 0) {
    if (args.mean != nullptr) args.mean[row] = mean;
    if (args.inv_std != nullptr) args.inv_std[row] = inverse;
  }
  each(false, [&](int column, bool whole, const float(&s)[kRowVector], const float* known) {
    float gamma[kRowVector], beta[kRowVector], y[kRowVector];
    if (args.gamma != nullptr) {
      if (known != nullptr) {
#pragma unroll
        for (int j = 0; j < kRowVector; ++j) gamma[j] = known[j];
      } else {
        LoadEight(static_cast<const T*>(args.gamma), column, width, whole, gamma);
      }
    }
    if (kLayer && args.beta != nullptr) {
      LoadEight(static_cast<const T*>(args.beta), column, width, whole, beta);
    }
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) {
      y[j] = __fmul_rn(kLayer ? __fsub_rn(s[j], mean) : s[j], inverse);
      if (!kLayer && args.round_before_scale) y[j] = ToFloat(FromFloat<T>(y[j]));
      const float scale = args.gamma != nullptr ? gamma[j] : 1.0f;
      y[j] =
          kLayer && args.beta != nullptr ? __fmaf_rn(y[j], scale, beta[j]) : __fmul_rn(y[j], scale);
    }
    StoreEight(static_cast<T*>(args.y) + row * args.width, column, width, whole, y);
  });
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_KERNEL_CUH_
