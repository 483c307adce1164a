// Attention of one new token for few sequences, with what goes before it in GroupQueryAttention:
// norm and rotation of query and key, and the append to the cache. One launch.
//
// Contract: attention.tc16 and the formulas of GroupQueryAttention
// (batch_invariant/cuda/attention.h). A cluster of C thread blocks has one tile of 16 query rows of
// a KV head. Thread block r of them takes key blocks [n r / C, n (r + 1) / C) of the tile's n and
// sends (mb, lb, ab) of each, cut by columns, to the thread blocks that merge them: thread block r
// merges columns [d r / C, d (r + 1) / C), each over all key blocks in ascending order. Where there
// are too many for shared memory, they go through the scratch of the split kernel.
// May vary freely: C, the ring's slots, who merges what.
//
// The slot of the new token is not read from the cache: every thread block computes the key and the
// value from the inputs, and one of the KV head's writes them to the cache.
// 8 warps: each takes 16 keys of the scores and an eighth of the value columns.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_DECODE_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_DECODE_KERNEL_CUH_

#include <cstdint>

#include "kernels/cuda/attention/prepare_pairs_kernel.cuh"
#include "kernels/cuda/attention/split_kernel.cuh"
#include "kernels/cuda/common/hopper.cuh"

namespace batch_invariant::cuda {

inline constexpr int kDecodeWarps = 8;
inline constexpr int kDecodeThreads = 32 * kDecodeWarps;

template <int kHead>
struct DecodeShared {
  float maximum[kDecodeWarps][kSplitRows];
  alignas(16) std::uint16_t p[kSplitRows][kBlockKeys + 8];  // padded: ldmatrix without conflicts
  alignas(16) std::uint16_t fresh[2][kHead];                // key and value of the new token
  alignas(16) std::uint64_t came;                           // barrier: all parts are here
};

// Shared memory: the ring, the queries, DecodeShared, the parts.
template <int kHead>
struct DecodeShape {
  static constexpr int kSlots = kHead <= 128 ? 4 : 3;
  static constexpr int kQueries = kSlots * Tile<kHead>::kBytes;
  static constexpr int kShared = kQueries + Tile<kHead, kSplitRows>::kBytes;
  static constexpr int kParts = kShared + static_cast<int>(sizeof(DecodeShared<kHead>));
  static constexpr int kPartBytes = (kHead <= 128 ? 32 : 20) * 1024;
  static constexpr int kBytes = kParts + kPartBytes;
  static_assert(kParts % 16 == 0 && kBytes <= 227 * 1024);
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// The (mb, lb, ab) of a tile's key blocks, on their way from the thread blocks that compute them to
// those that merge them.
template <int kHead>
struct DecodeParts {
  std::uint32_t shared;   // address of the parts that this thread block merges
  std::uint32_t barrier;  // counts their bytes
  bool in_shared;         // else in the scratch
  int rows;               // of the tile
  int count;              // key blocks of the tile
  int shift;              // log2 of the thread blocks
  float* acc;
  float2* ml;
  int max_blocks;

  __device__ __forceinline__ int FirstOf(int rank) const { return count * rank >> shift; }
  // Of the head, that one thread block merges.
  __device__ __forceinline__ int Columns() const { return kHead >> shift; }
  __device__ __forceinline__ int BytesOfBlock() const { return rows * (Columns() * 4 + 8); }
  __device__ __forceinline__ std::uint32_t Ml(int block, int row) const {
    return shared + (block * rows + row) * 8;
  }
  __device__ __forceinline__ std::uint32_t Acc(int block, int row, int own_column) const {
    return shared + count * rows * 8 + ((block * rows + row) * Columns() + own_column) * 4;
  }

  __device__ __forceinline__ void SendAcc(int block, int row, int column, float2 pair) const {
    if (in_shared) {
      SendPair(Acc(block, row, column & (Columns() - 1)), pair, barrier, (column << shift) / kHead);
    } else {
      const std::int64_t place = std::int64_t{row} * max_blocks + block;
      *reinterpret_cast<float2*>(acc + place * kHead + column) = pair;
    }
  }
  // Called by the four threads that share a row, with the same pair.
  __device__ __forceinline__ void SendMl(int block, int row, float2 pair) const {
    const int thread = threadIdx.x % 4;
    if (in_shared) {
      for (int rank = thread; rank < 1 << shift; rank += 4) {
        SendPair(Ml(block, row), pair, barrier, rank);
      }
    } else if (thread == 0) {
      ml[std::int64_t{row} * max_blocks + block] = pair;
    }
  }
  // Until all parts are here.
  __device__ __forceinline__ void Receive() const {
    if (!in_shared) {
      ClusterSync();
    } else if (count > 0) {
      if (threadIdx.x == 0) BarrierExpectBytes(barrier, count * BytesOfBlock());
      BarrierWait(barrier, 0);
    }
  }
  // Two neighbouring columns of this thread block's, and the state.
  __device__ __forceinline__ void Load(int block, int row, int own_column, int rank, float2& pair,
                                       float2& state) const {
    if (in_shared) {
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];\n"
                   : "=f"(pair.x), "=f"(pair.y)
                   : "r"(Acc(block, row, own_column))
                   : "memory");
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];\n"
                   : "=f"(state.x), "=f"(state.y)
                   : "r"(Ml(block, row))
                   : "memory");
    } else {
      const std::int64_t place = std::int64_t{row} * max_blocks + block;
      state = __ldcg(ml + place);
      pair = __ldcg(
          reinterpret_cast<const float2*>(acc + place * kHead + rank * Columns() + own_column));
    }
  }
};

// The new token's vectors of one KV head: the tile's queries, the key and the value. A unit is
// eight elements of one of them and their partners half a head further.
template <typename T, int kHead>
struct DecodeInputs {
  static constexpr int kHalf = kHead / 2, kPairs = kHalf / kVector;
  static constexpr int kUnits = (kSplitRows + 2) * kPairs;
  static constexpr int kTurns = (kUnits + kDecodeThreads - 1) / kDecodeThreads;
  const T* source[kTurns];
  PrepareVector<T> first[kTurns], second[kTurns];

  static __device__ __forceinline__ int RowOfUnit(int turn) {
    return (turn * kDecodeThreads + static_cast<int>(threadIdx.x)) / kPairs;
  }
  static __device__ __forceinline__ int ElementOfUnit() {
    return static_cast<int>(threadIdx.x) % kPairs * kVector;
  }
  static __device__ __forceinline__ bool Active(int row, int rows) {
    return row < rows || (row >= kSplitRows && row < kSplitRows + 2);
  }

  // Where the units of this thread lie; null: not among the inputs.
  __device__ __forceinline__ void Locate(const PrepareArgs& args, int group, int b, int kv_head,
                                         int tile, int rows) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int row = RowOfUnit(turn);
      const bool is_query = row < kSplitRows;
      const int which = is_query ? 0 : row - kSplitRows + 1;  // query, key, value
      const int head = is_query ? kv_head * group + tile * kSplitRows + row : kv_head;
      const bool packed = args.key == nullptr;
      const T* base = static_cast<const T*>(which == 0 || packed ? args.query
                                            : which == 1         ? args.key
                                                                 : args.value);
      const int before = !packed || which == 0 ? 0 : args.heads + (which - 1) * args.kv_heads;
      const int heads =
          packed ? args.heads + 2 * args.kv_heads : (is_query ? args.heads : args.kv_heads);
      source[turn] = Active(row, rows) ? base + (std::int64_t{b} * heads + before + head) * kHead +
                                             ElementOfUnit()
                                       : nullptr;
    }
  }

  __device__ __forceinline__ void Load() {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      first[turn] = second[turn] = {};
      if (source[turn] == nullptr) continue;
      first[turn] = *reinterpret_cast<const PrepareVector<T>*>(source[turn]);
      second[turn] = *reinterpret_cast<const PrepareVector<T>*>(source[turn] + kHalf);
    }
  }

  // Queries into their tile (zeros beyond `rows`), key and value into `fresh` and, where `place` is
  // not negative, into the cache at that row.
  __device__ __forceinline__ void Finish(const PrepareArgs& args, std::int64_t position, int rows,
                                         std::int64_t place, unsigned char* queries,
                                         std::uint16_t (&fresh)[2][kHead]) {
    const bool normalised = args.q_norm_weight != nullptr;
    const bool rotates = args.rotary && position >= 0 && position < args.rotary_positions;
    const int d = ElementOfUnit();
    float cosines[kVector], sines[kVector];
    if (rotates) {
      cuda::Load(static_cast<const T*>(args.cos_cache) + position * kHalf + d, cosines);
      cuda::Load(static_cast<const T*>(args.sin_cache) + position * kHalf + d, sines);
    }
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int row = RowOfUnit(turn);
      const bool is_query = row < kSplitRows, is_value = row == kSplitRows + 1;
      float u[kVector], v[kVector];
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        u[i] = ToFloat(first[turn].x[i]);
        v[i] = ToFloat(second[turn].x[i]);
      }
      if (normalised) {  // every lane takes part in the shuffles
        const float inverse = PairInverseRms<kPairs>(u, v, kHead, args.qk_norm_epsilon);
        if (!is_value) {
          const T* weight =
              static_cast<const T*>(is_query ? args.q_norm_weight : args.k_norm_weight);
          float low[kVector], high[kVector];
          cuda::Load(weight + d, low);
          cuda::Load(weight + d + kHalf, high);
#pragma unroll
          for (int i = 0; i < kVector; ++i) {
            u[i] = __fmul_rn(__fmul_rn(u[i], inverse), low[i]);
            v[i] = __fmul_rn(__fmul_rn(v[i], inverse), high[i]);
          }
        }
      }
      if (rotates && !is_value) {
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const float x = Rotate(u[i], v[i], cosines[i], sines[i], false);
          v[i] = Rotate(v[i], u[i], cosines[i], sines[i], true);
          u[i] = x;
        }
      }
      if (is_query) {
        if (row >= rows) {
#pragma unroll
          for (int i = 0; i < kVector; ++i) u[i] = v[i] = 0.0f;
        }
        using QueryTile = Tile<kHead, kSplitRows>;
        Store(reinterpret_cast<T*>(queries + QueryTile::Offset(row, d / 8)), u);
        Store(reinterpret_cast<T*>(queries + QueryTile::Offset(row, (d + kHalf) / 8)), v);
      } else if (row < kSplitRows + 2) {
        T* own = reinterpret_cast<T*>(fresh[is_value ? 1 : 0]) + d;
        Store(own, u);
        Store(own + kHalf, v);
        if (place >= 0) {
          T* present =
              static_cast<T*>(is_value ? args.present_value : args.present_key) + place * kHead + d;
          Store(present, u);
          Store(present + kHalf, v);
        }
      }
    }
  }
};

// block = P V for this warp's columns of values; warp 0 also has the sums of P.
template <typename T, int kHead>
__device__ __forceinline__ void MultiplyDecodeValues(std::uint32_t values, std::uint32_t p_address,
                                                     float (&block)[kHead / 64][4],
                                                     float (&sums)[4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < 8; k += 2) {
    std::uint32_t p[2][4];
    LoadMatrix4(p[0], p_address + 32 * k);
    LoadMatrix4(p[1], p_address + 32 * (k + 1));
    if (warp == 0) {
      MmaStep<T>(sums, p[0], kOnes<T>, kOnes<T>);
      MmaStep<T>(sums, p[1], kOnes<T>, kOnes<T>);
    }
#pragma unroll
    for (int n = 0; n < kHead / 64; ++n) {
      // Eight columns of 32 keys.
      std::uint32_t v[4];
      LoadMatrix4Transposed(v,
                            values + Tile<kHead>::Offset(16 * k + lane, warp * (kHead / 64) + n));
      MmaStep<T>(block[n], p[0], v[0], v[1]);
      MmaStep<T>(block[n], p[1], v[2], v[3]);
    }
  }
}

// This thread block's columns of the tile's output.
template <typename T, int kHead>
__device__ __forceinline__ void MergeDecodeTile(const CoreArgs& args,
                                                const DecodeParts<kHead>& parts, int rank, int b,
                                                int first_head) {
  constexpr int kAhead = 8;  // blocks whose loads are in flight
  const int pairs = parts.Columns() / 2;
  for (int i = threadIdx.x; i < parts.rows * pairs; i += kDecodeThreads) {
    const int row = i / pairs, column = i % pairs * 2;
    RowState state;
    float2 acc = make_float2(0.0f, 0.0f);
    for (int block = 0; block < parts.count; block += kAhead) {
      float2 ml[kAhead], ab[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        parts.Load(min(block + j, parts.count - 1), row, column, rank, ab[j], ml[j]);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (block + j >= parts.count) continue;
        const MergeFactors f = Merge(state, ml[j].x, ml[j].y);
        acc.x = MergeElement(acc.x, ab[j].x, f);
        acc.y = MergeElement(acc.y, ab[j].y, f);
      }
    }
    const int head = first_head + row;
    const FinishFactors finish = Finish<T>(args, state, head);
    const std::uint32_t pair =
        PackPair<T>(FinishElement(acc.x, finish), FinishElement(acc.y, finish));
    T* output = static_cast<T*>(args.output) + b * args.output_strides.batch_stride +
                head * args.output_strides.head_stride + rank * parts.Columns() + column;
    // 0 where no key is seen.
    *reinterpret_cast<std::uint32_t*>(output) = parts.count == 0 ? 0u : pair;
  }
}

#endif  // __CUDA_ARCH__ >= 900

// Steps 2 and 3 for a warp's 16 keys from `key` on, up to the maximum: all rows see the keys of
// `range`.
template <bool kGeneral>
__device__ __forceinline__ void DecodeScores(const CoreArgs& args, const RowTile& range, int key,
                                             bool masked, float (&s)[2][4], float (&maximum)[2]) {
  if (kGeneral || masked) {
    const int first = key + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int k = first + 8 * j + e % 2;
        if (kGeneral) s[j][e] = GeneralScore(args, s[j][e], 0.0f);
        if (k < range.low || k >= range.high) s[j][e] = kMinusInf;
      }
    }
  }
  RowMaximum(s, kGeneral ? 1.0f : args.plain_scale, maximum);
}

// gridDim.x: thread blocks of a cluster, 1 << shift of them, times tiles of rows, times KV heads,
// times sequences. kGeneral: args.general.
template <typename T, int kHead, bool kGeneral>
__global__ void __launch_bounds__(kDecodeThreads, 1)
    DecodeKernel(const __grid_constant__ CoreArgs args, const __grid_constant__ PrepareArgs prepare,
                 int shift) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using Shape = DecodeShape<kHead>;
  using Inputs = DecodeInputs<T, kHead>;
  extern __shared__ __align__(1024) unsigned char dynamic[];
  auto& shared = *reinterpret_cast<DecodeShared<kHead>*>(dynamic + Shape::kShared);
  const std::uint32_t ring = SharedAddress(dynamic);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const std::uint32_t p_address = SharedAddress(&shared.p[lane & 15][0]) + ((lane >> 4) << 4);
  const int rank = blockIdx.x & ((1 << shift) - 1), tile_index = blockIdx.x >> shift;
  const int tiles = SplitTiles(args), tile = tile_index % tiles, head_index = tile_index / tiles;
  const int b = head_index / args.kv_heads, kv_head = head_index - b * args.kv_heads;
  const int rows = min(kSplitRows, args.group - tile * kSplitRows);

  const std::uint32_t came = SharedAddress(&shared.came);

  if (threadIdx.x == 0) {
    BarrierInit(came, 1);
    BarrierInitFence();
  }
  __syncwarp();
  ClusterArriveRelaxed();
  LaunchDependents();
  Inputs inputs;
  inputs.Locate(prepare, args.group, b, kv_head, tile, rows);
  WaitForDependencies();
  inputs.Load();
  const int past = prepare.from_start ? 0 : prepare.seqlens_k[b];  // slot of the new token
  const std::int64_t position = prepare.position_ids == nullptr ? past : prepare.position_ids[b];
  const Sequence sequence = SequenceOf(args, b);
  const RowTile range = SplitTileOf(args, sequence, tile);
  const BlockRange blocks = BlocksOf(range.low, range.high);
  DecodeParts<kHead> parts;
  parts.shared = ring + Shape::kParts;
  parts.barrier = came;
  parts.rows = rows;
  parts.count = blocks.last - blocks.first;
  parts.shift = shift;
  parts.in_shared = parts.count * parts.BytesOfBlock() <= Shape::kPartBytes;
  parts.max_blocks = args.max_blocks;
  const std::int64_t first_row = std::int64_t{head_index} * args.group + tile * kSplitRows;
  parts.acc = args.partial_acc + first_row * args.max_blocks * kHead;
  parts.ml = args.partial_ml + first_row * args.max_blocks;
  const int first = parts.FirstOf(rank), last = parts.FirstOf(rank + 1);
  // A slot that is not seen is not written into a tile either.
  const int fresh_key = past >= range.low && past < range.high ? past : -1;

  // Tile number t = 0, 1, 2, ...: the keys, then the values of each key block in turn.
  const int ring_tiles = 2 * (last - first);
  int next_tile = 0, next_slot = 0;
  const auto load_next = [&] {
    if (next_tile < ring_tiles) {
      const HeadTensor& tensor = next_tile % 2 == 0 ? args.key : args.value;
      const T* head = static_cast<const T*>(tensor.data) + b * tensor.batch_stride +
                      kv_head * tensor.head_stride;
      LoadBlock<T, kHead, kDecodeThreads, true>(threadIdx.x, ring + next_slot * Tile<kHead>::kBytes,
                                                head, tensor.token_stride,
                                                (blocks.first + first + next_tile / 2) * kBlockKeys,
                                                range.low, range.high, kHead, fresh_key);
      ++next_tile;
      next_slot = next_slot + 1 == Shape::kSlots ? 0 : next_slot + 1;
    }
    CopyAsyncCommit();
  };
#pragma unroll 1
  for (int i = 0; i < Shape::kSlots; ++i) load_next();

  const bool appends =
      tile == 0 && rank == (1 << shift) - 1 && past >= 0 && past < prepare.present_capacity;
  inputs.Finish(
      prepare, position, rows,
      appends ? std::int64_t{head_index} * prepare.present_capacity + past : std::int64_t{-1},
      dynamic + Shape::kQueries, shared.fresh);
  __syncthreads();
  std::uint32_t q[kHead / 16][4];
#pragma unroll
  for (int k = 0; k < kHead / 16; ++k) {
    LoadMatrix4(q[k], QueryAddress<kHead, kSplitRows>(ring + Shape::kQueries, 0, k));
  }

  ClusterWait();  // the others have barriers

  int slot = 0;
  const auto take_slot = [&] {
    const std::uint32_t taken = ring + slot * Tile<kHead>::kBytes;
    slot = slot + 1 == Shape::kSlots ? 0 : slot + 1;
    return taken;
  };
#pragma unroll 1
  for (int i = first; i < last; ++i) {
    const std::uint32_t keys = take_slot(), values = take_slot();
    const int first_key = (blocks.first + i) * kBlockKeys;
    if (i == first) {
      CopyAsyncWait<Shape::kSlots - 1>();
    } else {
      CopyAsyncWait<Shape::kSlots - 2>();
    }
    // fresh_key is negative where there is none, which no block has.
    if (fresh_key >= first_key && fresh_key < first_key + kBlockKeys &&
        threadIdx.x < 2 * Tile<kHead>::kChunks) {
      const int chunk = threadIdx.x % Tile<kHead>::kChunks;
      const bool is_value = threadIdx.x >= Tile<kHead>::kChunks;
      *reinterpret_cast<uint4*>(dynamic + ((is_value ? values : keys) - ring) +
                                Tile<kHead>::Offset(fresh_key - first_key, chunk)) =
          *reinterpret_cast<const uint4*>(&shared.fresh[is_value ? 1 : 0][8 * chunk]);
    }
    __syncthreads();  // keys are here; the values of the last block are used up
    if (i != first) load_next();
    float s[2][4] = {};
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k) {
      std::uint32_t key[4];
      LoadMatrix4(key, KeyAddress<kHead>(keys, 16 * warp, k));
      MmaStep<T>(s[0], q[k], key[0], key[1]);
      MmaStep<T>(s[1], q[k], key[2], key[3]);
    }
    const bool masked = first_key < range.low || first_key + kBlockKeys > range.high;
    float maximum[2];
    DecodeScores<kGeneral>(args, range, first_key + 16 * warp, masked, s, maximum);
    if (lane % 4 == 0) {
      shared.maximum[warp][g] = maximum[0];
      shared.maximum[warp][g + 8] = maximum[1];
    }
    __syncthreads();  // every warp has its scores and has used the keys
    load_next();

    float mb[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float m = shared.maximum[0][g + 8 * h];
#pragma unroll
      for (int w = 1; w < kDecodeWarps; ++w) m = MaxKeepNan(m, shared.maximum[w][g + 8 * h]);
      mb[h] = rintf(m);
    }
    // Every row of the tile sees a key of the block.
    Probabilities(mb, kGeneral ? 1.0f : args.plain_scale, {true, true}, s);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<std::uint32_t*>(
            &shared.p[g + 8 * h][16 * warp + 8 * j + 2 * (lane % 4)]) =
            PackPair<T>(s[j][2 * h], s[j][2 * h + 1]);
      }
    }
    CopyAsyncWait<Shape::kSlots - 1>();
    __syncthreads();  // the values and all probabilities are here
    float block[kHead / 64][4] = {}, sums[4] = {};
    MultiplyDecodeValues<T, kHead>(values, p_address, block, sums);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = g + 8 * h;
      if (row >= rows) continue;
      if (warp == 0) parts.SendMl(i, row, make_float2(mb[h], sums[2 * h]));
#pragma unroll
      for (int n = 0; n < kHead / 64; ++n) {
        parts.SendAcc(i, row, warp * (kHead / 8) + 8 * n + 2 * (lane % 4),
                      make_float2(block[n][2 * h], block[n][2 * h + 1]));
      }
    }
  }
  parts.Receive();
  MergeDecodeTile<T, kHead>(args, parts, rank, b, kv_head * args.group + tile * kSplitRows);
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_DECODE_KERNEL_CUH_
