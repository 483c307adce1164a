// Merges what the split kernel left, one thread block a row, in ascending order of the key blocks
// (step 5 of attention.tc16, batch_invariant/cuda/attention.h). Rows that the split kernel finished
// itself are left alone; rows of tiles without any key become 0.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_

#include "kernels/cuda/attention/split_kernel.cuh"

namespace batch_invariant::cuda {

inline constexpr int kMergeThreads = 256;
inline constexpr int kMergeChunk = 32;  // key blocks in shared memory at a time, one a lane

constexpr int MergeSharedBytes(int head_size) {
  return 2 * kMergeChunk * head_size * static_cast<int>(sizeof(float));
}

template <typename T>
__global__ void __launch_bounds__(kMergeThreads) MergeKernel(const __grid_constant__ CoreArgs args) {
  extern __shared__ __align__(16) float chunks[];
  __shared__ float4 factors[kMergeChunk];  // a, b, lb; a < 0: an untouched row
  __shared__ RowState shared_state;

  const int rows_of_head = args.tokens * args.group;
  const int b = blockIdx.x / (args.kv_heads * rows_of_head);
  const int head_index = blockIdx.x / rows_of_head;  // b * kv_heads + kv_head
  const int r = blockIdx.x % rows_of_head;
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = SplitTileOf(args, sequence, r / kSplitRows);
  const BlockRange range = BlocksOf(tile.low, tile.high);
  const int blocks = range.last - range.first;
  const int done =
      blocks == 0 ? 0 : args.prefix[head_index * SplitTiles(args) + r / kSplitRows];
  if (blocks > 0 && done == blocks) return;

  const QueryRow row = RowOf(args, sequence, head_index % args.kv_heads, r);
  const int d = threadIdx.x, lane = threadIdx.x % 32;
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * args.max_blocks;
  const float* partials = args.partial_acc + place * args.head_size;
  float acc = 0.0f;
  RowState state;
  if (blocks > 0) {
    const float2 ml = args.partial_ml[place + done - 1];
    state = {ml.x, ml.y};
    if (d < args.head_size) acc = partials[static_cast<std::int64_t>(done - 1) * args.head_size + d];
  }

  const auto load = [&](int first, int stage) {
    const int vectors = max(min(kMergeChunk, blocks - first), 0) * args.head_size / 4;
    const float* source = partials + static_cast<std::int64_t>(first) * args.head_size;
    const std::uint32_t target = SharedAddress(chunks + stage * kMergeChunk * args.head_size);
    for (int i = threadIdx.x; i < vectors; i += kMergeThreads) {
      CopyAsync16(target + 16 * i, source + 4 * i, 16);
    }
    CopyAsyncCommit();
  };
  load(done, 0);
  for (int first = done, stage = 0; first < blocks; first += kMergeChunk, stage ^= 1) {
    load(first + kMergeChunk, stage ^ 1);
    if (threadIdx.x < 32) {
      // The running maximum after each block; a maximum is exact, so a scan gives the same values.
      float2 ml = make_float2(kMinusInf, -1.0f);
      if (first + lane < blocks) ml = args.partial_ml[place + first + lane];
      float m = ml.x;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const float other = __shfl_up_sync(0xffffffffu, m, step);
        if (lane >= step) m = MaxKeepNan(m, other);
      }
      m = MaxKeepNan(m, state.m);
      float before = __shfl_up_sync(0xffffffffu, m, 1);
      if (lane == 0) before = state.m;
      const bool touched = ml.y != -1.0f;
      factors[lane] = make_float4(touched ? PowerOfTwo(__fsub_rn(before, m)) : -1.0f,
                                  PowerOfTwo(__fsub_rn(ml.x, m)), ml.y, 0.0f);
      state.m = __shfl_sync(0xffffffffu, m, 31);
    }
    CopyAsyncWait<1>();
    __syncthreads();
    const float* chunk = chunks + stage * kMergeChunk * args.head_size;
    const int count = min(kMergeChunk, blocks - first);
#pragma unroll 8
    for (int j = 0; j < count; ++j) {
      const float4 f = factors[j];
      const float block = d < args.head_size ? chunk[j * args.head_size + d] : 0.0f;
      if (f.x >= 0.0f) {
        state.l = __fmaf_rn(f.z, f.y, __fmul_rn(state.l, f.x));
        acc = MergeElement(acc, block, {f.x, f.y});
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) shared_state.m = state.m;
  __syncthreads();
  state.m = shared_state.m;
  if (d >= args.head_size) return;
  const FinishFactors finish = Finish<T>(args, state, row.head);
  static_cast<T*>(args.output)[b * args.output_strides.batch_stride +
                               row.head * args.output_strides.head_stride +
                               row.token * args.output_strides.token_stride + d] =
      FromFloat<T>(row.high > row.low ? FinishElement(acc, finish) : 0.0f);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_
