// The walk of walk_kernel.cuh on Hopper: wgmma, and a warpgroup of its own for the copies.
//
// Contract: attention.tc16 (batch_invariant/cuda/attention.h). Two warpgroups of 64 rows each and
// one that keeps a ring of tiles (keys and values in turn, at most 128 columns each) filled. The
// warpgroups take turns at the tensor cores: one has the values of a block and the scores of the
// next, while the other computes probabilities. The values of a block are taken 64 columns at a
// time, the first of them with a column of ones beside it, which gives the row sums. wgmma adds up
// in the order of mma.sync (K ascending in steps of 16, one fp32 accumulator), so the bytes are
// those of the other kernels. kHead is 64, 128 or 256, kGeneral the form of step 2; WalkOrder is
// free.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_

#include <type_traits>

#include "kernels/cuda/attention/walk_kernel.cuh"
#include "kernels/cuda/attention/wgmma_attention.cuh"
#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace batch_invariant::cuda {

inline constexpr int kSm90Consumers = 256;
inline constexpr int kSm90Producers = 128;
inline constexpr int kSm90Threads = kSm90Consumers + kSm90Producers;
// Registers a thread, out of the 168 that each starts with.
inline constexpr int kSm90ProducerRegisters = 24;
inline constexpr int kSm90ConsumerRegisters = 240;

template <int kHead>
struct WalkSm90Shape {
  static constexpr int kColumns = kHead < 128 ? kHead : 128;  // of a tile of the ring
  static constexpr int kParts = kHead / kColumns;             // tiles of the keys of a block
  static constexpr int kTileBytes = Tile<kColumns>::kBytes;
  static constexpr int kSlots = kHead == 256 ? 5 : kHead == 128 ? 6 : 8;
  static constexpr int kQueryBytes = Tile<kHead>::kBytes;
  static constexpr int kOnesBytes = 2048;  // 16 rows of a slab
  static constexpr int kSharedBytes =
      kQueryBytes + kSlots * kTileBytes + kOnesBytes + 2 * kSlots * 8;
};

// Which rows a thread block takes: the row tiles of a section of KV heads, whose keys and values
// fit the L2 cache together, the longest first.
struct WalkOrder {
  int row_tiles;  // of one KV head
  int heads;      // batch * kv_heads
  int section;    // heads of a section
};

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

// A place in the ring: its slot, and the parity of the phase in which it is filled.
template <int kSlots>
struct RingPlace {
  int slot = 0, parity = 0;

  __device__ __forceinline__ RingPlace Next() const {
    return slot + 1 == kSlots ? RingPlace{0, parity ^ 1} : RingPlace{slot + 1, parity};
  }
};

template <typename T, int kHead, bool kGeneral>
__global__ void __launch_bounds__(kSm90Threads, 1)
    WalkSm90Kernel(const __grid_constant__ CoreArgs args, const WalkOrder order) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = WalkSm90Shape<kHead>;
  constexpr int kTile = Shape::kTileBytes, kSlots = Shape::kSlots, kParts = Shape::kParts;
  constexpr int kChunks = kHead / 64;  // of 64 value columns
  // A warpgroup with 256 columns waits between its products, and the other uses the time.
  constexpr bool kTurns = kHead <= 128;
  // Who gives a slot back: a lane for its warp, whose others the barrier of a turn has ordered before
  // it; without turns, where lanes read values themselves, each for itself.
  constexpr bool kEachLane = kGeneral && !kTurns;
  constexpr WgmmaStart kStart = kHead == 256 ? WgmmaStart::kFresh : WgmmaStart::kInPlace;
  using Place = RingPlace<kSlots>;
  extern __shared__ __align__(1024) unsigned char dynamic[];
  const std::uint32_t queries = SharedAddress(dynamic), ring = queries + Shape::kQueryBytes;
  const std::uint32_t ones = ring + kSlots * kTile;
  const std::uint32_t barriers = ones + Shape::kOnesBytes;
  const auto full = [&](Place place) { return barriers + 8 * place.slot; };
  const auto empty = [&](Place place) { return barriers + 8 * (kSlots + place.slot); };
  if (queries % 1024 != 0) __trap();  // swizzled tiles

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int of_section = order.section * order.row_tiles;
  const int section = blockIdx.x / of_section, in_section = blockIdx.x % of_section;
  const int heads = min(order.section, order.heads - section * order.section);
  const int head = section * order.section + in_section % heads;
  const int b = head / args.kv_heads, kv_head = head % args.kv_heads;
  const int first_row = (order.row_tiles - 1 - in_section / heads) * kWalkRows;

  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSlots; ++slot) {
      BarrierInit(full({slot}), kSm90Producers);
      BarrierInit(empty({slot}), kEachLane ? kSm90Consumers : kSm90Consumers / 32);
    }
    BarrierInitFence();
  }
  __syncthreads();
  WaitForDependencies();
  LaunchDependents();
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = TileOf(args, sequence, first_row, kWalkRows);
  const BlockRange blocks = BlocksOf(tile.low, tile.high);

  if (warp >= kSm90Consumers / 32) {
    RegistersLower<kSm90ProducerRegisters>();
    const int thread = threadIdx.x - kSm90Consumers;
    const T* key_head = static_cast<const T*>(args.key.data) + b * args.key.batch_stride +
                        kv_head * args.key.head_stride;
    const T* value_head = static_cast<const T*>(args.value.data) + b * args.value.batch_stride +
                          kv_head * args.value.head_stride;
    constexpr int kOfBlock = 2 * kParts;
    const int tiles = kOfBlock * (blocks.last - blocks.first);
    // A tile is announced so many tiles later, once its copies have landed. The slot of that later
    // tile must be free before the consumers need this one.
    constexpr int kLag = kParts == 1 ? 2 : 1;
    Place fill, announce;
    for (int t = 0; t < tiles + kLag; ++t) {
      if (t < tiles) {
        const bool keys = t % kOfBlock < kParts;
        const int column = t % kParts * Shape::kColumns;
        BarrierWait(empty(fill), fill.parity ^ 1);
        LoadBlock<T, Shape::kColumns, kSm90Producers>(
            thread, ring + fill.slot * kTile, (keys ? key_head : value_head) + column,
            keys ? args.key.token_stride : args.value.token_stride,
            (blocks.first + t / kOfBlock) * kBlockKeys, tile.low, tile.high,
            args.head_size - column);
        fill = fill.Next();
      }
      CopyAsyncCommit();
      if (t >= kLag) {
        CopyAsyncWait<kLag>();
        FenceProxyAsync();
        BarrierArrive(full(announce));
        announce = announce.Next();
      }
    }
  } else {
    RegistersRaise<kSm90ConsumerRegisters>();
    const int group = warp / 4;  // warpgroup
    const int group_thread = threadIdx.x % 128;
    const int row = first_row + 16 * warp + lane / 4;  // and 8 further
    const auto find_rows = [&](QueryRow(&rows)[2]) {
#pragma unroll
      for (int h = 0; h < 2; ++h) rows[h] = RowOf(args, sequence, kv_head, row + 8 * h);
    };
    RowState state[2];
    float acc[kHead / 8][4] = {};
    if (blocks.first < blocks.last) {
      LoadQueries<T, kHead, kSm90Consumers, kWalkRows>(queries, args, b, kv_head, first_row);
      CopyAsyncCommit();
      for (int i = threadIdx.x; i < Shape::kOnesBytes / 4; i += kSm90Consumers) {
        reinterpret_cast<std::uint32_t*>(dynamic + (ones - queries))[i] = kOnes<T>;
      }
      CopyAsyncWait<0>();
      FenceProxyAsync();
      GroupSync(1, kSm90Consumers);

      const std::uint64_t query_tile = SwizzledDescriptor(queries + group * 64 * 128);
      // The tensor cores belong to one warpgroup at a time. Named barrier 4 + g is group g's turn.
      const auto take_turn = [&] { GroupSync(4 + group, kSm90Consumers); };
      const auto pass_turn = [&] {
        asm volatile("bar.arrive %0, %1;\n" ::"r"(4 + (group ^ 1)), "r"(kSm90Consumers) : "memory");
      };
      const auto wait_full = [&](Place place) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          BarrierWait(full(place), place.parity);
          place = place.Next();
        }
        return place;
      };
      const auto release = [&](Place place) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          if (kEachLane || lane == 0) BarrierArrive(empty(place));
          place = place.Next();
        }
      };
      float s[64];
      // Starts the scores of the keys at `place`, which have arrived.
      const auto start_scores = [&](Place place) {
        WgmmaFence();
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const std::uint64_t key_tile = SwizzledDescriptor(ring + place.slot * kTile);
#pragma unroll
          for (int k = 0; k < Shape::kColumns / 16; ++k) {
            // 32 bytes a step along K; the next slab after four of them.
            const std::uint32_t step = k / 4 * Tile<kHead>::kSlabBytes + k % 4 * 32;
            const std::uint64_t q =
                AdvanceDescriptor(query_tile, part * Tile<Shape::kColumns>::kBytes + step);
            if (part == 0 && k == 0) {
              WgmmaScores<T, kStart>(s, q, key_tile);
            } else {
              WgmmaScores<T, WgmmaStart::kAdd>(s, q, AdvanceDescriptor(key_tile, step));
            }
          }
          place = place.Next();
        }
        WgmmaCommit();
      };

      // One block, whose scores are in s; the values are at `place`. kMasked: some row may not see
      // some key, or the general form. kLast: no block follows. Returns the place of the next
      // values.
      const auto step = [&](int block, Place value_place, auto is_masked, auto is_last) {
        constexpr bool kMasked = is_masked.value, kLast = is_last.value;
        float(&scores)[16][4] = reinterpret_cast<float(&)[16][4]>(s);
        const float c = kGeneral ? 1.0f : args.plain_scale;
        KeepBits keep;
        bool touched[2] = {true, true};
        if constexpr (kMasked) {
          QueryRow rows[2];
          find_rows(rows);
          if constexpr (kGeneral) {
            ScoreFragments<T, 16>(args, b, rows, block * kBlockKeys, true, scores, keep);
            RowsTouched(keep, touched);
          } else {
            HideKeys(rows, block * kBlockKeys, scores, touched);
          }
        }
        float mb[2];
        RowMaximum(scores, c, mb);
        mb[0] = rintf(mb[0]);
        mb[1] = rintf(mb[1]);
        Probabilities(mb, c, touched, scores);
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
        // acc * a of step 5. Usually a is 1 after a few blocks.
        if constexpr (!kMasked) {
          if (!__all_sync(0xffffffffu, factors[0].a == 1.0f && factors[1].a == 1.0f)) {
#pragma unroll
            for (int n = 0; n < kHead / 8; ++n) {
#pragma unroll
              for (int e = 0; e < 4; ++e) acc[n][e] = __fmul_rn(acc[n][e], factors[e / 2].a);
            }
          }
        }
        float sums[2];

        const Place next_place = wait_full(value_place);
        bool rowwise = false;
        if (kMasked && (kGeneral || tile.first_token != tile.last_token)) {
          bool found = false;
          Place place = value_place;
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
            found |= ShareHasNotFinite<T, Shape::kColumns, 128>(
                group_thread, dynamic + (ring - queries) + place.slot * kTile);
            place = place.Next();
          }
          rowwise = GroupOr(2 + group, 128, found);
        }
        if constexpr (!kLast) wait_full(next_place);
        if constexpr (kTurns) take_turn();
        if (kMasked && rowwise) {
          if constexpr (!kGeneral) {
            QueryRow rows[2];
            find_rows(rows);
            keep = SeenKeys(rows, block * kBlockKeys);
          }
          float all[4] = {};
#pragma unroll
          for (int k = 0; k < 8; ++k) MmaStep<T>(all, p[k], kOnes<T>, kOnes<T>);
          sums[0] = all[0];
          sums[1] = all[2];
          Place place = value_place;
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
            constexpr int kTiles = Shape::kColumns / 8;
            MultiplyValues<T, Shape::kColumns, 32>(
                ring + place.slot * kTile, p, factors, touched, true, keep,
                reinterpret_cast<float(&)[kTiles][4]>(acc[part * kTiles]));
            place = place.Next();
          }
          if constexpr (!kLast) start_scores(next_place);
          if (kTurns && (!kLast || group == 0)) pass_turn();
          if constexpr (!kLast) {
            WgmmaWait<0>();
            PinRegisters(s);
          }
        } else {
          // The scores of the next block run beside the first columns where registers suffice.
          constexpr bool kBeside = !kLast && kHead <= 128;
          float block_sum[36];  // of 64 columns and, with the first ones, of the ones
          float(&columns)[32] = reinterpret_cast<float(&)[32]>(block_sum);
          Place place = value_place;
#pragma unroll
          for (int chunk = 0; chunk < kChunks; ++chunk) {
            if (chunk == 2) place = place.Next();
            const std::uint64_t values =
                ValueDescriptor(ring + place.slot * kTile + chunk % 2 * Tile<64>::kSlabBytes, ones);
            WgmmaFence();
#pragma unroll
            for (int k = 0; k < 8; ++k) {
              // 16 keys a step: further along the slab, and that much nearer to the ones.
              constexpr std::uint64_t kStep = 16 * 128 >> 4;
              const std::uint64_t at = values + k * (kStep - (kStep << 16));
              if (chunk == 0 && k == 0) {
                WgmmaValues<T, 72, kStart>(block_sum, p[k], at);
              } else if (chunk == 0) {
                WgmmaValues<T, 72, WgmmaStart::kAdd>(block_sum, p[k], at);
              } else if (k == 0) {
                WgmmaValues<T, 64, WgmmaStart::kInPlace>(columns, p[k], at);
              } else {
                WgmmaValues<T, 64, WgmmaStart::kAdd>(columns, p[k], at);
              }
            }
            WgmmaCommit();
            const bool last_chunk = chunk + 1 == kChunks;
            const bool beside = kBeside && chunk == 0;
            if (beside) start_scores(next_place);
            if (kTurns && last_chunk && (!kLast || group == 0)) pass_turn();
            if (beside) {
              WgmmaWait<1>();
            } else {
              WgmmaWait<0>();
            }
            PinRegisters(block_sum);
            if (chunk == 0) {
              sums[0] = block_sum[32];
              sums[1] = block_sum[34];
            }
            if (last_chunk) release(value_place);
#pragma unroll
            for (int i = 0; i < 32; ++i) {
              float& a = acc[8 * chunk + i / 4][i % 4];
              const MergeFactors& f = factors[i % 4 / 2];
              if constexpr (kMasked) {
                const float merged = MergeElement(a, block_sum[i], f);
                a = touched[i % 4 / 2] ? merged : a;
              } else {
                a = __fmaf_rn(block_sum[i], f.b, a);
              }
            }
          }
          if constexpr (!kLast && !kBeside) start_scores(next_place);
          if constexpr (!kLast) {
            WgmmaWait<0>();
            PinRegisters(s);
          }
        }
        if (kMasked && rowwise) release(value_place);
        if constexpr (!kLast) release(next_place);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (touched[h]) state[h].l = MergeElement(state[h].l, sums[h], factors[h]);
        }
        Place after = next_place;
#pragma unroll
        for (int part = 0; part < kParts; ++part) after = after.Next();
        return after;
      };

      if (kTurns && group == 1) pass_turn();
      Place place = wait_full({});
      if constexpr (kTurns) take_turn();
      start_scores({});
      if constexpr (kTurns) pass_turn();
      WgmmaWait<0>();
      PinRegisters(s);
      release({});

      using True = std::true_type;
      using False = std::false_type;
#pragma unroll 1
      for (int block = blocks.first; block + 1 < blocks.last; ++block) {
        if constexpr (kGeneral) {
          place = step(block, place, True{}, False{});
        } else {
          const int first_key = block * kBlockKeys;
          const bool masked = first_key < tile.all_low || first_key + kBlockKeys > tile.all_high;
          place =
              masked ? step(block, place, True{}, False{}) : step(block, place, False{}, False{});
        }
      }
      step(blocks.last - 1, place, True{}, True{});
    }

    QueryRow rows[2];
    find_rows(rows);
    StoreRows<T, kHead>(args, b, rows, row, state, acc);
  }
#else
  __trap();  // built without sm_90a: fail rather than leave the output unwritten
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_SM90_KERNEL_CUH_
