// Attention of fp32 tensors: one thread block walks the key blocks of 16 rows of one KV head.
//
// Contract: attention.f32 (batch_invariant/cuda/attention.h): as attention.tc16, with dot, lb and
// ab as ascending fma chains from +0 and p kept in fp32. A thread owns a key while it computes
// scores and a column or two while it adds values up, so no chain is ever shared.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_F32_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_F32_KERNEL_CUH_

#include "kernels/cuda/attention/contract.cuh"
#include "kernels/cuda/attention/scores.cuh"

namespace batch_invariant::cuda {

inline constexpr int kF32Rows = 16;
inline constexpr int kF32Threads = 128;
inline constexpr int kF32MaxHead = 256;

struct F32Shared {
  float q[kF32Rows][kF32MaxHead];
  float p[kF32Rows][kBlockKeys];  // -1: the key does not count
  float maximum[kF32Rows][kF32Threads / 32];
  MergeFactors factors[kF32Rows];
  RowState state[kF32Rows];
  bool touched[kF32Rows];
};

__global__ void __launch_bounds__(kF32Threads) F32Kernel(const __grid_constant__ CoreArgs args) {
  __shared__ F32Shared shared;
  static_assert(kF32Threads == kBlockKeys && 2 * kF32Threads == kF32MaxHead);
  const int b = blockIdx.z, kv_head = blockIdx.y;
  const int first_row = (gridDim.x - 1 - blockIdx.x) * kF32Rows;
  const int rows_of_head = args.tokens * args.group;
  const int count = min(kF32Rows, rows_of_head - first_row);
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = TileOf(args, sequence, first_row, count);
  const BlockRange blocks = BlocksOf(tile.low, tile.high);
  const float* key_head = static_cast<const float*>(args.key.data) + b * args.key.batch_stride +
                          kv_head * args.key.head_stride;
  const float* value_head = static_cast<const float*>(args.value.data) +
                            b * args.value.batch_stride + kv_head * args.value.head_stride;
  const int thread = threadIdx.x, warp = thread / 32;

  for (int r = 0; r < count; ++r) {
    const QueryRow row = RowOf(args, sequence, kv_head, first_row + r);
    const float* source = static_cast<const float*>(args.query.data) + b * args.query.batch_stride +
                          row.head * args.query.head_stride + row.token * args.query.token_stride;
    for (int d = thread; d < args.head_size; d += kF32Threads) shared.q[r][d] = source[d];
  }
  if (thread < kF32Rows) shared.state[thread] = RowState{};
  float acc[kF32Rows][2] = {};
  __syncthreads();

  for (int block = blocks.first; block < blocks.last; ++block) {
    const int key = block * kBlockKeys + thread;
    float dot[kF32Rows] = {};
    if (key >= tile.low && key < tile.high) {
      const float* k = key_head + static_cast<std::int64_t>(key) * args.key.token_stride;
      for (int d = 0; d < args.head_size; d += 4) {
        const float4 four = *reinterpret_cast<const float4*>(k + d);
#pragma unroll
        for (int r = 0; r < kF32Rows; ++r) {
          const float4 q = *reinterpret_cast<const float4*>(&shared.q[r][d]);
          dot[r] = __fmaf_rn(q.x, four.x, dot[r]);
          dot[r] = __fmaf_rn(q.y, four.y, dot[r]);
          dot[r] = __fmaf_rn(q.z, four.z, dot[r]);
          dot[r] = __fmaf_rn(q.w, four.w, dot[r]);
        }
      }
    }
    bool use[kF32Rows];
#pragma unroll
    for (int r = 0; r < kF32Rows; ++r) {
      const QueryRow row = RowOf(args, sequence, kv_head, first_row + r);
      use[r] = key >= row.low && key < row.high;
      float y = __fmul_rn(dot[r], args.plain_scale);
      if (args.general) {
        float add = 0.0f;
        if (args.bias != nullptr && use[r] && key < args.bias_keys) {
          add = static_cast<const float*>(
              args.bias)[b * args.bias_batch_stride + row.head * args.bias_head_stride +
                         row.token * args.bias_token_stride + key];
        }
        use[r] = use[r] && add != kMinusInf;
        y = GeneralScore(args, dot[r], add);
      }
      dot[r] = use[r] ? y : kMinusInf;
      float m = dot[r];
#pragma unroll
      for (int step = 16; step > 0; step /= 2) {
        m = MaxKeepNan(m, __shfl_xor_sync(0xffffffffu, m, step));
      }
      if (thread % 32 == 0) shared.maximum[r][warp] = m;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kF32Rows; ++r) {
      float m = shared.maximum[r][0];
#pragma unroll
      for (int w = 1; w < kF32Threads / 32; ++w) m = MaxKeepNan(m, shared.maximum[r][w]);
      m = rintf(m);
      shared.p[r][thread] = use[r] ? BlockExp2(dot[r], m) : -1.0f;
    }
    __syncthreads();
    if (thread < kF32Rows) {
      float m = shared.maximum[thread][0];
#pragma unroll
      for (int w = 1; w < kF32Threads / 32; ++w) m = MaxKeepNan(m, shared.maximum[thread][w]);
      float lb = 0.0f;
      bool touched = false;
      for (int j = 0; j < kBlockKeys; ++j) {
        const float p = shared.p[thread][j];
        if (p == -1.0f) continue;
        lb = __fadd_rn(lb, p);
        touched = true;
      }
      RowState merged = shared.state[thread];
      shared.factors[thread] = Merge(merged, rintf(m), lb);
      shared.touched[thread] = touched;
      if (touched) shared.state[thread] = merged;
    }
    float sum[kF32Rows][2] = {};
    const int last = min(kBlockKeys, tile.high - block * kBlockKeys);
    for (int j = max(0, tile.low - block * kBlockKeys); j < last; ++j) {
      const float* v =
          value_head + static_cast<std::int64_t>(block * kBlockKeys + j) * args.value.token_stride;
      float column[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = thread + i * kF32Threads;
        column[i] = d < args.head_size ? v[d] : 0.0f;
      }
#pragma unroll
      for (int r = 0; r < kF32Rows; ++r) {
        const float p = shared.p[r][j];
        if (p == -1.0f) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) sum[r][i] = __fmaf_rn(p, column[i], sum[r][i]);
      }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kF32Rows; ++r) {
      if (!shared.touched[r]) continue;
#pragma unroll
      for (int i = 0; i < 2; ++i) acc[r][i] = MergeElement(acc[r][i], sum[r][i], shared.factors[r]);
    }
    __syncthreads();
  }

#pragma unroll
  for (int r = 0; r < kF32Rows; ++r) {
    if (r >= count) continue;
    const QueryRow row = RowOf(args, sequence, kv_head, first_row + r);
    const FinishFactors finish = Finish<float>(args, shared.state[r], row.head);
    float* output = static_cast<float*>(args.output) + b * args.output_strides.batch_stride +
                    row.head * args.output_strides.head_stride +
                    row.token * args.output_strides.token_stride;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int d = thread + i * kF32Threads;
      if (d < args.head_size) {
        output[d] = row.high > row.low ? FinishElement(acc[r][i], finish) : 0.0f;
      }
    }
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_F32_KERNEL_CUH_
