// Row normalisations, contract norm.cuda (batch_invariant/cuda/norm.h), for rows of whole vectors
// that fit the registers: a thread block walks over rows and loads the next while it finishes one.
// T threads a row, kChunks times eight neighbouring elements each. The grid is free.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_ROWS_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_ROWS_KERNEL_CUH_

#include "batch_invariant/cuda/norm.h"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/norm/row_io.cuh"

namespace batch_invariant::cuda {

// Thread blocks of a multiprocessor.
template <typename T, int kChunks>
constexpr int NormRowsBlocks() {
  return sizeof(T) == 4 ? 2 : kChunks == 1 ? 4 : kChunks == 2 ? 3 : 2;
}

template <typename T, int kChunks, bool kLayer>
__global__ void __launch_bounds__(kMaxRowThreads, NormRowsBlocks<T, kChunks>())
    NormRowsKernel(const __grid_constant__ NormArgs args) {
  using Words = RowWords<T>;
  __shared__ float scratch[2][2][8][kMaxRowThreads / 32];
  LaunchDependents();
  const int width = static_cast<int>(args.width);
  const int first = threadIdx.x * kRowVector, stride = blockDim.x * kRowVector;
  const float n = static_cast<float>(args.width);
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.y;
  // Calls body(chunk, column) for this thread's chunks in ascending order.
  const auto each = [&](auto body) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = first + c * stride;
      if (column < width) body(c, column);
    }
  };
  Words x[kChunks], skip[kChunks], gamma[kChunks];
  // Of a row: where this thread's first elements of x and skip lie.
  const auto place = [&](std::int64_t row) {
    return static_cast<const T*>(args.x) + row * args.width + first;
  };
  const auto skip_place = [&](std::int64_t row) {
    return static_cast<const T*>(args.skip) +
           (args.skip_rows == args.rows ? row : row % args.skip_rows) * args.width + first;
  };
  const auto load = [&](const T* x_at, const T* skip_at) {
    each([&](int c, int) {
      x[c] = Words::Load(x_at + c * stride);
      if (args.skip != nullptr) skip[c] = Words::Load(skip_at + c * stride);
    });
  };
  const auto load_gamma = [&] {
    each([&](int c, int column) {
      gamma[c] = Words::Load(static_cast<const T*>(args.gamma) + column);
    });
  };

  std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  // The weights of a step have pushed gamma out of the caches.
  const bool has_gamma = args.gamma != nullptr;
  if (has_gamma && args.gamma_is_ready) load_gamma();
  const T* const first_x = place(row);
  const T* const first_skip = args.skip == nullptr ? nullptr : skip_place(row);
  WaitForDependencies();
  if (row < args.rows) load(first_x, first_skip);
  if (has_gamma && !args.gamma_is_ready) load_gamma();
  int parity = 0;
  // All rows of a thread block go on together: they share barriers.
#pragma unroll 1
  for (std::int64_t base = std::int64_t{blockIdx.x} * blockDim.y; base < args.rows; base += step) {
    const bool active = row < args.rows;
    Words s[kChunks];
    float partial[kRowVector] = {};
    if (active) {
      each([&](int c, int column) {
        float sum[kRowVector], other[kRowVector];
        x[c].Widen(sum);
        if (args.skip != nullptr) {
          skip[c].Widen(other);
#pragma unroll
          for (int j = 0; j < kRowVector; ++j) sum[j] = __fadd_rn(sum[j], other[j]);
        }
        if (args.bias != nullptr) {
          Words::Load(static_cast<const T*>(args.bias) + column).Widen(other);
#pragma unroll
          for (int j = 0; j < kRowVector; ++j) sum[j] = __fadd_rn(sum[j], other[j]);
        }
        s[c] = Words::Round(sum);
        s[c].Widen(sum);
#pragma unroll
        for (int j = 0; j < kRowVector; ++j) {
          partial[j] =
              kLayer ? __fadd_rn(partial[j], sum[j]) : __fmaf_rn(sum[j], sum[j], partial[j]);
        }
      });
    }
    const std::int64_t next = row + step;
    if (next < args.rows) load(place(next), args.skip == nullptr ? nullptr : skip_place(next));
    if (active && args.sum != nullptr) {
      T* const sum_row = static_cast<T*>(args.sum) + row * args.width;
      each([&](int c, int column) { s[c].Store(sum_row + column); });
    }
    float mean = 0.0f;
    float total = FoldRow<AddOp>(partial, scratch[parity][0]);
    if constexpr (kLayer) {
      mean = __fdiv_rn(total, n);
      float squares[kRowVector] = {};
      if (active) {
        each([&](int c, int) {
          float x_or_sum[kRowVector];
          s[c].Widen(x_or_sum);
#pragma unroll
          for (int j = 0; j < kRowVector; ++j) {
            const float d = __fsub_rn(x_or_sum[j], mean);
            squares[j] = __fmaf_rn(d, d, squares[j]);
          }
        });
      }
      total = FoldRow<AddOp>(squares, scratch[parity][1]);
    }
    const float variance = __fdiv_rn(total, n);
    const float inverse = __frcp_rn(__fsqrt_rn(__fadd_rn(variance, args.epsilon)));
    if (active) {
      if (threadIdx.x == 0) {
        if (args.mean != nullptr) args.mean[row] = mean;
        if (args.inv_std != nullptr) args.inv_std[row] = inverse;
      }
      T* const y_row = static_cast<T*>(args.y) + row * args.width;
      each([&](int c, int column) {
        float y[kRowVector], scale[kRowVector], beta[kRowVector];
        s[c].Widen(y);
        if (args.gamma != nullptr) gamma[c].Widen(scale);
        if (kLayer && args.beta != nullptr) {
          Words::Load(static_cast<const T*>(args.beta) + column).Widen(beta);
        }
#pragma unroll
        for (int j = 0; j < kRowVector; ++j) {
          y[j] = __fmul_rn(kLayer ? __fsub_rn(y[j], mean) : y[j], inverse);
          if (!kLayer && args.round_before_scale) y[j] = ToFloat(FromFloat<T>(y[j]));
          const float by = args.gamma != nullptr ? scale[j] : 1.0f;
          y[j] =
              kLayer && args.beta != nullptr ? __fmaf_rn(y[j], by, beta[j]) : __fmul_rn(y[j], by);
        }
        Words::Round(y).Store(y_row + column);
      });
    }
    row = next;
    parity ^= 1;
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_NORM_NORM_ROWS_KERNEL_CUH_
