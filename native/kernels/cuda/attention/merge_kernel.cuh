// Merges what the split kernel left, in ascending order of the key blocks (step 5 of
// attention.tc16, batch_invariant/cuda/attention.h). Row tiles that the split kernel finished
// itself are left alone; rows of tiles without any key become 0.
//
// A thread block takes 32 columns of the rows of one tile, one after the other (rows spread over
// blockIdx.y as far as the grid goes). All threads bring blocks into shared memory; one warp, a
// column a lane, runs the chain. The grid is free.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_

#include "kernels/cuda/attention/split_kernel.cuh"

namespace batch_invariant::cuda {

inline constexpr int kMergeThreads = 64;
inline constexpr int kMergeBlocks = kMergeThreads;  // key blocks in shared memory at a time
inline constexpr int kMergeColumns = 32;

struct MergeShared {
  alignas(16) float chunk[2][kMergeBlocks][kMergeColumns];
  float4 factors[kMergeBlocks];  // a, b, lb; a < 0: an untouched row
  float maxima[kMergeThreads / 32];
};

template <typename T>
__global__ void __launch_bounds__(kMergeThreads)
    MergeKernel(const __grid_constant__ CoreArgs args) {
  __shared__ MergeShared shared;
  const int tiles = SplitTiles(args);
  const int tile_index = blockIdx.x % tiles;
  const int head_index = blockIdx.x / tiles;  // b * kv_heads + kv_head
  const int b = head_index / args.kv_heads;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  LaunchDependents();
  const int first_column = blockIdx.z * kMergeColumns;
  const int columns = min(kMergeColumns, args.head_size - first_column);
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = SplitTileOf(args, sequence, tile_index);
  const BlockRange range = BlocksOf(tile.low, tile.high);
  const int blocks = range.last - range.first;
  const int rows_of_head = args.tokens * args.group;
  WaitForDependencies();
  const int done = blocks == 0 ? 0 : args.prefix[blockIdx.x];
  if (blocks > 0 && done == blocks) return;

  const int last_row = min((tile_index + 1) * kSplitRows, rows_of_head);
  for (int r = tile_index * kSplitRows + blockIdx.y; r < last_row; r += gridDim.y) {
    const QueryRow row = RowOf(args, sequence, head_index % args.kv_heads, r);
    const std::int64_t place =
        (static_cast<std::int64_t>(head_index) * rows_of_head + r) * args.max_blocks;
    const float* partials = args.partial_acc + place * args.head_size + first_column;
    float acc = 0.0f;
    RowState state;
    if (blocks > 0) {
      const float2 ml = args.partial_ml[place + done - 1];
      state = {ml.x, ml.y};
      if (warp == 0 && lane < columns) {
        acc = partials[static_cast<std::int64_t>(done - 1) * args.head_size + lane];
      }
    }
    const auto load = [&](int first, int stage) {
      constexpr int kVectors = kMergeColumns / 4;
      const int column = thread % kVectors * 4;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        const int block = thread / kVectors + i * (kMergeThreads / kVectors);
        if (first + block < blocks && column < columns) {
          CopyAsync16(SharedAddress(&shared.chunk[stage][block][column]),
                      partials + static_cast<std::int64_t>(first + block) * args.head_size + column,
                      16);
        }
      }
      CopyAsyncCommit();
    };
    load(done, 0);
    for (int first = done, stage = 0; first < blocks; first += kMergeBlocks, stage ^= 1) {
      load(first + kMergeBlocks, stage ^ 1);
      // The running maximum after each block; a maximum is exact, so a scan gives the same values.
      float2 ml = make_float2(kMinusInf, -1.0f);
      if (first + thread < blocks) ml = args.partial_ml[place + first + thread];
      float m = ml.x;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const float other = __shfl_up_sync(0xffffffffu, m, step);
        if (lane >= step) m = MaxKeepNan(m, other);
      }
      if (lane == 31) shared.maxima[warp] = m;
      __syncthreads();
      float carry = state.m;
      for (int w = 0; w < warp; ++w) carry = MaxKeepNan(carry, shared.maxima[w]);
      m = MaxKeepNan(m, carry);
      float before = __shfl_up_sync(0xffffffffu, m, 1);
      if (lane == 0) before = carry;
      shared.factors[thread] = make_float4(ml.y != -1.0f ? PowerOfTwo(__fsub_rn(before, m)) : -1.0f,
                                           PowerOfTwo(__fsub_rn(ml.x, m)), ml.y, 0.0f);
#pragma unroll
      for (int w = 0; w < kMergeThreads / 32; ++w) state.m = MaxKeepNan(state.m, shared.maxima[w]);
      CopyAsyncWait<1>();
      __syncthreads();
      if (warp == 0) {
        const int count = min(kMergeBlocks, blocks - first);
#pragma unroll 8
        for (int j = 0; j < count; ++j) {
          const float4 f = shared.factors[j];
          const float block = shared.chunk[stage][j][lane];
          if (f.x >= 0.0f) {
            state.l = __fmaf_rn(f.z, f.y, __fmul_rn(state.l, f.x));
            acc = MergeElement(acc, block, {f.x, f.y});
          }
        }
      }
      __syncthreads();
    }
    if (warp == 0 && lane < columns) {
      const FinishFactors finish = Finish<T>(args, state, row.head);
      static_cast<T*>(
          args.output)[b * args.output_strides.batch_stride +
                       row.head * args.output_strides.head_stride +
                       row.token * args.output_strides.token_stride + first_column + lane] =
          FromFloat<T>(row.high > row.low ? FinishElement(acc, finish) : 0.0f);
    }
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_MERGE_KERNEL_CUH_
