// The fixed summation tree over a row (batch_invariant/cuda/norm.h), shared by norms, softmax and
// reductions: which thread adds what follows from the row's length alone.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_SUM_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_SUM_CUH_

#include <cstdint>

namespace batch_invariant::cuda {

inline constexpr int kRowVector = 8;        // neighbouring elements of one thread
inline constexpr int kMaxRowThreads = 256;  // T of the contract at most

// T of the contract: R rounds of at most 256 threads, and no more warps than those rounds need.
constexpr int RowThreads(std::int64_t width) {
  constexpr std::int64_t kRound = kMaxRowThreads * kRowVector;
  const std::int64_t rounds = width <= kRound ? 1 : (width + kRound - 1) / kRound;
  const std::int64_t of_warp = 32 * kRowVector * rounds;
  const std::int64_t warps = (width + of_warp - 1) / of_warp;
  return 32 * static_cast<int>(warps < 1 ? 1 : warps);
}

// Rows that one thread block works on side by side, so that short rows fill it.
constexpr int RowsAtOnce(int row_threads) { return row_threads >= 256 ? 1 : 256 / row_threads; }

struct AddOp {
  static constexpr float kNeutral = 0.0f;
  static __device__ __forceinline__ float Apply(float a, float b) { return __fadd_rn(a, b); }
};
// Keeps a NaN.
struct MaxOp {
  static constexpr float kNeutral = -__builtin_huge_valf();
  static __device__ __forceinline__ float Apply(float a, float b) {
    float r;
    asm("max.NaN.f32 %0, %1, %2;\n" : "=f"(r) : "f"(a), "f"(b));
    return r;
  }
};
struct MinOp {
  static constexpr float kNeutral = __builtin_huge_valf();
  static __device__ __forceinline__ float Apply(float a, float b) {
    float r;
    asm("min.NaN.f32 %0, %1, %2;\n" : "=f"(r) : "f"(a), "f"(b));
    return r;
  }
};

// Folds the eight partials of each of blockDim.x threads; every thread of the row gets the result.
// Threads of row threadIdx.y use `scratch[threadIdx.y]`; blockDim.x is T. All threads of the block
// must call it; two calls need no barrier between them when they use different scratch.
template <typename Op>
__device__ __forceinline__ float FoldRow(const float (&partial)[kRowVector],
                                         float (*scratch)[kMaxRowThreads / 32]) {
  const float p0 = Op::Apply(partial[0], partial[4]), p1 = Op::Apply(partial[1], partial[5]);
  const float p2 = Op::Apply(partial[2], partial[6]), p3 = Op::Apply(partial[3], partial[7]);
  float sum = Op::Apply(Op::Apply(p0, p2), Op::Apply(p1, p3));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    sum = Op::Apply(sum, __shfl_xor_sync(0xffffffffu, sum, step));
  }
  const int warps = blockDim.x / 32;
  if (warps == 1) return sum;
  float* sums = scratch[threadIdx.y];
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  // Every warp folds the same values the same way.
  const int lane = threadIdx.x % 32;
  float group = lane % 8 < warps ? sums[lane % 8] : Op::kNeutral;
#pragma unroll
  for (int step = 4; step > 0; step /= 2) {
    group = Op::Apply(group, __shfl_xor_sync(0xffffffffu, group, step));
  }
  return group;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_SUM_CUH_
