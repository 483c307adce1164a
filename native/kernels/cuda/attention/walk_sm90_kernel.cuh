// The walk of walk_kernel.cuh on Hopper: wgmma, and a warpgroup of its own for the copies.
//
// Contract: attention.tc16 (batch_invariant/cuda/attention.h). Two warpgroups of 64 rows each and
// one that keeps a ring of four tiles (keys and values in turn) filled; the warpgroups run apart,
// so that one computes probabilities while the other has the tensor cores. wgmma adds up in the
// order of mma.sync (K ascending in steps of 16, one fp32 accumulator), so the bytes are those of
// the other kernels. kHead is 64 or 128.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_

#include "kernels/cuda/attention/walk_kernel.cuh"
#include "kernels/cuda/attention/wgmma_values.cuh"
#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace batch_invariant::cuda {

inline constexpr int kSm90Consumers = 256;
inline constexpr int kSm90Producers = 128;
inline constexpr int kSm90Threads = kSm90Consumers + kSm90Producers;
// Registers a thread, out of the 168 that each starts with.
inline constexpr int kSm90ProducerRegisters = 40;
inline constexpr int kSm90ConsumerRegisters = 232;
inline constexpr int kSm90Slots = 6;

template <int kHead>
constexpr int WalkSm90SharedBytes() {
  // A tile of ones, and 1024 for the alignment of swizzled tiles.
  return (1 + kSm90Slots) * Tile<kHead>::kBytes + 1024 + 2 * kSm90Slots * 8 + 1024;
}

// Barrier `id` of the CTA among `count` threads.
__device__ __forceinline__ void GroupSync(int id, int count) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ bool GroupOr(int id, int count, bool value) {
  std::uint32_t result;
  asm volatile(
      "{\n"
      ".reg .pred in, out;\n"
      "setp.ne.u32 in, %1, 0;\n"
      "barrier.cta.red.or.pred out, %2, %3, in;\n"
      "selp.u32 %0, 1, 0, out;\n"
      "}\n"
      : "=r"(result)
      : "r"(static_cast<std::uint32_t>(value)), "r"(id), "r"(count)
      : "memory");
  return result != 0;
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kSm90Threads, 1)
    WalkSm90Kernel(const __grid_constant__ CoreArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char dynamic[];
  const std::uint32_t start = (SharedAddress(dynamic) + 1023) & ~1023u;
  unsigned char* const shared = dynamic + (start - SharedAddress(dynamic));
  constexpr int kTile = Tile<kHead>::kBytes;
  const std::uint32_t queries = start, ring = start + kTile;
  const std::uint32_t ones = ring + kSm90Slots * kTile;
  const std::uint32_t barriers = ones + 1024;
  const auto full = [&](int slot) { return barriers + 8 * slot; };
  const auto empty = [&](int slot) { return barriers + 8 * (kSm90Slots + slot); };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int b = blockIdx.z, kv_head = blockIdx.y;
  const int first_row = (gridDim.x - 1 - blockIdx.x) * kWalkRows;  // the longest rows first
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = TileOf(args, sequence, first_row, kWalkRows);
  const BlockRange blocks = BlocksOf(tile.low, tile.high);

  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSm90Slots; ++slot) {
      BarrierInit(full(slot), kSm90Producers);
      BarrierInit(empty(slot), kSm90Consumers / 32);
    }
    BarrierInitFence();
  }
  __syncthreads();

  if (warp >= kSm90Consumers / 32) {
    RegistersLower<kSm90ProducerRegisters>();
    const int thread = threadIdx.x - kSm90Consumers;
    const T* key_head = static_cast<const T*>(args.key.data) + b * args.key.batch_stride +
                        kv_head * args.key.head_stride;
    const T* value_head = static_cast<const T*>(args.value.data) + b * args.value.batch_stride +
                          kv_head * args.value.head_stride;
    const int tiles = 2 * (blocks.last - blocks.first);
    // A tile is announced two tiles later, once its copies have landed.
    constexpr int kLag = 2;
    for (int t = 0; t < tiles + kLag; ++t) {
      if (t < tiles) {
        const int slot = t % kSm90Slots;
        BarrierWait(empty(slot), (t / kSm90Slots & 1) ^ 1);
        LoadBlock<T, kHead, kSm90Producers>(
            thread, ring + slot * kTile, t % 2 == 0 ? key_head : value_head,
            t % 2 == 0 ? args.key.token_stride : args.value.token_stride,
            (blocks.first + t / 2) * kBlockKeys, tile.low, tile.high, args.head_size);
      }
      CopyAsyncCommit();
      if (t >= kLag) {
        CopyAsyncWait<kLag>();
        FenceProxyAsync();
        BarrierArrive(full((t - kLag) % kSm90Slots));
      }
    }
  } else {
    RegistersRaise<kSm90ConsumerRegisters>();
    const int group = warp / 4;  // warpgroup
    const int group_thread = threadIdx.x % 128;
    QueryRow rows[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      rows[h] = RowOf(args, sequence, kv_head, first_row + 16 * warp + lane / 4 + 8 * h);
    }
    RowState state[2];
    float acc[kHead / 8][4] = {};
    if (blocks.first < blocks.last) {
      LoadQueries<T, kHead, kSm90Consumers, kWalkRows>(queries, args, b, kv_head, first_row);
      CopyAsyncCommit();
      reinterpret_cast<std::uint32_t*>(shared + (ones - start))[threadIdx.x] = kOnes<T>;
      CopyAsyncWait<0>();
      FenceProxyAsync();
      GroupSync(1, kSm90Consumers);
    }
    const std::uint64_t ones_tile = SwizzledDescriptor(ones);
    const std::uint64_t query_tile = SwizzledDescriptor(queries + group * 64 * 128);
    // The tensor cores belong to one warpgroup at a time, from the values of a block to the scores
    // of the next: meanwhile the other computes probabilities. Named barrier 4 + g is group g's
    // turn.
    const auto take_turn = [&] { GroupSync(4 + group, kSm90Consumers); };
    const auto pass_turn = [&] {
      asm volatile("bar.arrive %0, %1;\n" ::"r"(4 + (group ^ 1)), "r"(kSm90Consumers) : "memory");
    };
    float s[64];
    // Starts the scores of a block whose keys have arrived.
    const auto start_scores = [&](int slot) {
#pragma unroll
      for (int i = 0; i < 64; ++i) s[i] = 0.0f;
      PinRegisters(s);
      WgmmaFence();
      const std::uint64_t key_tile = SwizzledDescriptor(ring + slot * kTile);
#pragma unroll
      for (int k = 0; k < kHead / 16; ++k) {
        // 32 bytes a step along K; the next slab after four of them.
        const std::uint64_t step = k / 4 * (Tile<kHead>::kSlabBytes >> 4) + k % 4 * 2;
        Wgmma<T, 128>::Shared(s, query_tile + step, key_tile + step);
      }
      WgmmaCommit();
    };
    if (blocks.first < blocks.last) {
      if (group == 1) pass_turn();
      BarrierWait(full(0), 0);
      take_turn();
      start_scores(0);
      pass_turn();
      WgmmaWait<0>();
      PinRegisters(s);
      if (lane == 0) BarrierArrive(empty(0));
    }

#pragma unroll 1
    for (int block = blocks.first; block < blocks.last; ++block) {
      const int t = 2 * (block - blocks.first);
      const int value_slot = (t + 1) % kSm90Slots, next_slot = (t + 2) % kSm90Slots;
      const bool more = block + 1 < blocks.last;
      const std::uint32_t values = ring + value_slot * kTile;
      float(&scores)[16][4] = reinterpret_cast<float(&)[16][4]>(s);

      const int first_key = block * kBlockKeys;
      const bool masked = args.bias != nullptr || first_key < tile.all_low ||
                          first_key + kBlockKeys > tile.all_high;
      KeepBits keep;
      bool touched[2] = {true, true};
      ScoreFragments<T, 16>(args, b, rows, first_key, masked, scores, keep);
      if (masked) RowsTouched(keep, touched);
      float mb[2];
      RowMaximum(scores, mb);
      mb[0] = rintf(mb[0]);
      mb[1] = rintf(mb[1]);
      Probabilities(mb, masked, keep, scores);
      std::uint32_t p[8][4];
#pragma unroll
      for (int k = 0; k < 8; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = scores[2 * k + i / 2];
          p[k][i] = PackPair<T>(pair[2 * (i % 2)], pair[2 * (i % 2) + 1]);
        }
      }
      MergeFactors factors[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float m = state[h].m;
        factors[h] = MergeMaximum(m, mb[h]);
        if (touched[h]) state[h].m = m;
      }
      float sums[4] = {};

      BarrierWait(full(value_slot), t / kSm90Slots & 1);
      bool rowwise = false;
      if (masked && (args.bias != nullptr || tile.first_token != tile.last_token)) {
        rowwise =
            GroupOr(2 + group, 128,
                    ShareHasNotFinite<T, kHead, 128>(group_thread, shared + (values - start)));
      }
      if (more) BarrierWait(full(next_slot), (t + 2) / kSm90Slots & 1);
      take_turn();
      if (rowwise) {
#pragma unroll
        for (int k = 0; k < 8; ++k) MmaStep<T>(sums, p[k], kOnes<T>, kOnes<T>);
        MultiplyValues<T, kHead>(values, p, factors, touched, true, keep, acc);
        start_scores(next_slot);
        if (more || group == 0) pass_turn();
        WgmmaWait<0>();
        PinRegisters(s);
      } else {
        // Nothing to rescale (the usual case after a few blocks): acc * 1 is acc.
        const bool plain =
            !masked && __all_sync(0xffffffffu, factors[0].a == 1.0f && factors[1].a == 1.0f);
#pragma unroll
        for (int c = 0; c < kHead / 64; ++c) {
          float sum[32];
#pragma unroll
          for (int i = 0; i < 32; ++i) sum[i] = 0.0f;
          PinRegisters(sum);
          if (c == 0) PinRegisters(sums);
          WgmmaFence();
          const std::uint64_t value_tile = ValueDescriptor(values + c * Tile<kHead>::kSlabBytes);
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            WgmmaValues<T>(sum, p[k], value_tile + k * (16 * 128 >> 4));
            if (c == 0) Wgmma<T, 8>::Register(sums, p[k], ones_tile);
          }
          WgmmaCommit();
          // The scores of the next block run while the first columns are merged. After the last
          // block they are of stale keys and are dropped: a branch here would make the compiler
          // wait after every wgmma.
          if (c == 0) start_scores(next_slot);
          if (c == kHead / 64 - 1 && (more || group == 0)) pass_turn();
          if (c == 0) {
            WgmmaWait<1>();
          } else {
            WgmmaWait<0>();
          }
          PinRegisters(sum);
          if (c == 0) PinRegisters(sums);
          if (plain) {
#pragma unroll
            for (int i = 0; i < 32; ++i) {
              float& a = acc[8 * c + i / 4][i % 4];
              a = __fmaf_rn(sum[i], factors[i % 4 / 2].b, a);
            }
          } else {
#pragma unroll
            for (int i = 0; i < 32; ++i) {
              float& a = acc[8 * c + i / 4][i % 4];
              const float merged = MergeElement(a, sum[i], factors[i % 4 / 2]);
              a = touched[i % 4 / 2] ? merged : a;
            }
          }
        }
        WgmmaWait<0>();
        PinRegisters(s);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (touched[h]) state[h].l = MergeElement(state[h].l, sums[2 * h], factors[h]);
      }
      if (lane == 0) {
        BarrierArrive(empty(value_slot));
        if (more) BarrierArrive(empty(next_slot));
      }
    }

    StoreRows<T, kHead>(args, b, rows, first_row + 16 * warp + lane / 4, state, acc);
  }
#else
  __trap();  // built without sm_90a: fail rather than leave the output unwritten
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_
