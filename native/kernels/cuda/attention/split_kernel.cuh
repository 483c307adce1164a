// Attention for few query rows a KV head (decode, speculative verification): the key blocks of all
// sequences and heads are spread evenly over a fixed number of thread blocks.
//
// Contract: attention.tc16 (batch_invariant/cuda/attention.h). An item is one key block of one tile
// of 16 rows; thread block i of n works on items [total * i / n, total * (i + 1) / n) in order.
// Where it meets a tile's first block it merges from there on and writes the output if it reaches
// the last one; otherwise it leaves the state of that prefix, and every other block leaves (mb, lb,
// ab). The thread block that brings a tile's last part merges it all, or the merge kernel does.
// Where the cuts fall and who merges depend on the whole batch and on chance; what is added to what,
// and in which order, does not. 4 warps: each takes 32 keys of the scores and a quarter of the
// value columns. Keys and values come through a ring of kSlots tiles.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SPLIT_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SPLIT_KERNEL_CUH_

#include "kernels/cuda/attention/scores.cuh"

namespace batch_invariant::cuda {

inline constexpr int kSplitRows = 16;
inline constexpr int kSplitThreads = 128;
inline constexpr int kSplitWarps = kSplitThreads / 32;
inline constexpr int kMaxSplitBatch = 512;

struct SplitShared {
  float maximum[kSplitWarps][kSplitRows];
  std::uint32_t touched[kSplitWarps][2];                    // ballots of rows g and g + 8
  std::uint16_t keep[kSplitThreads];                        // KeepBits of each thread, 16 of them
  int items_before[kMaxSplitBatch + 1];                     // items of the sequences before b
  bool brought_last;
  alignas(16) std::uint16_t p[kSplitRows][kBlockKeys + 8];  // padded: ldmatrix without conflicts
};

template <int kHead, int kSlots>
constexpr int SplitSharedBytes() {
  return kSlots * Tile<kHead>::kBytes + 2 * Tile<kHead, kSplitRows>::kBytes +
         static_cast<int>(sizeof(SplitShared));
}

__device__ __forceinline__ int SplitTiles(const CoreArgs& args) {
  return (args.tokens * args.group + kSplitRows - 1) / kSplitRows;
}

__device__ __forceinline__ RowTile SplitTileOf(const CoreArgs& args, const Sequence& s, int tile) {
  return TileOf(args, s, tile * kSplitRows,
                min(kSplitRows, args.tokens * args.group - tile * kSplitRows));
}

// Key blocks of all row tiles of one KV head of a sequence.
__device__ __forceinline__ int ItemsOfHead(const CoreArgs& args, const Sequence& s) {
  int items = 0;
  for (int tile = 0; tile < SplitTiles(args); ++tile) {
    const RowTile t = SplitTileOf(args, s, tile);
    const BlockRange blocks = BlocksOf(t.low, t.high);
    items += blocks.last - blocks.first;
  }
  return items;
}

// A position in the list of items.
struct Cursor {
  int b = 0, kv_head = 0, tile = 0, block = 0;
  Sequence sequence;
  RowTile rows;
  BlockRange blocks = {0, 0};
  int parity = 0;  // alternates from one row tile to the next

  __device__ __forceinline__ void EnterTile(const CoreArgs& args) {
    rows = SplitTileOf(args, sequence, tile);
    blocks = BlocksOf(rows.low, rows.high);
    block = blocks.first;
  }

  __device__ __forceinline__ void Seek(const CoreArgs& args, const int* items_before, int item) {
    while (items_before[b + 1] <= item) ++b;
    sequence = SequenceOf(args, b);
    item -= items_before[b];
    const int of_head = (items_before[b + 1] - items_before[b]) / args.kv_heads;
    kv_head = item / of_head;
    item %= of_head;
    for (tile = 0;; ++tile) {
      EnterTile(args);
      const int count = blocks.last - blocks.first;
      if (item < count) break;
      item -= count;
    }
    block += item;
  }

  // To the next item, which must exist. True when it belongs to another row tile.
  __device__ __forceinline__ bool Advance(const CoreArgs& args) {
    if (++block < blocks.last) return false;
    parity ^= 1;
    do {
      if (++tile == SplitTiles(args)) {
        tile = 0;
        if (++kv_head == args.kv_heads) {
          kv_head = 0;
          sequence = SequenceOf(args, ++b);
        }
      }
      EnterTile(args);
    } while (blocks.first == blocks.last);
    return true;
  }
};

// Fills items_before; every thread returns the number of items.
__device__ __forceinline__ int CountItems(const CoreArgs& args, SplitShared& shared) {
  for (int b = threadIdx.x; b < args.batch; b += kSplitThreads) {
    shared.items_before[b + 1] = args.kv_heads * ItemsOfHead(args, SequenceOf(args, b));
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    int before = 0;
    for (int first = 0; first < args.batch; first += 32) {
      const int b = first + threadIdx.x;
      int sum = b < args.batch ? shared.items_before[b + 1] : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (static_cast<int>(threadIdx.x) >= step) sum += other;
      }
      if (b < args.batch) shared.items_before[b + 1] = before + sum;
      before += __shfl_sync(0xffffffffu, sum, 31);
    }
    if (threadIdx.x == 0) shared.items_before[0] = 0;
  }
  __syncthreads();
  return shared.items_before[args.batch];
}

// block = P V for this warp's columns of values.
template <typename T, int kHead>
__device__ __forceinline__ void MultiplySplitValues(std::uint32_t values, std::uint32_t p_address,
                                                    const SplitShared& shared, bool rowwise,
                                                    float (&block)[kHead / 32][4],
                                                    float (&sums)[4]) {
  constexpr int kPairs = kHead / 64;  // 16-column pairs of n-tiles of one warp
  const int lane = threadIdx.x % 32, column = threadIdx.x / 32 * (kHead / 4);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    std::uint32_t p[4];
    LoadMatrix4(p, p_address + 32 * k);
    MmaStep<T>(sums, p, kOnes<T>, kOnes<T>);
    if (!rowwise) {
#pragma unroll
      for (int n = 0; n < kPairs; ++n) {
        std::uint32_t v[4];
        LoadMatrix4Transposed(v, ValueAddress<kHead>(values, 16 * k, column + 16 * n));
        MmaStep<T>(block[2 * n], p, v[0], v[1]);
        MmaStep<T>(block[2 * n + 1], p, v[2], v[3]);
      }
    }
  }
  if (!rowwise) return;
#pragma unroll 1
  for (int row = 0; row < kSplitRows; ++row) {
    float own[kHead / 32][4] = {};
#pragma unroll 1
    for (int k = 0; k < 8; ++k) {
      std::uint32_t p[4];
      LoadMatrix4(p, p_address + 32 * k);
      const std::uint32_t words[2] = {shared.keep[k / 2 * 32 + row % 8 * 4 + lane % 4], 0};
#pragma unroll
      for (int n = 0; n < kPairs; ++n) {
        std::uint32_t v[4];
        LoadMatrix4Transposed(v, ValueAddress<kHead>(values, 16 * k, column + 16 * n));
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = KeepValues(v[i], words, 2 * (k % 2) + i % 2, row);
        MmaStep<T>(own[2 * n], p, v[0], v[1]);
        MmaStep<T>(own[2 * n + 1], p, v[2], v[3]);
      }
    }
    if (lane / 4 == row % 8) {
#pragma unroll
      for (int n = 0; n < kHead / 32; ++n) {
        if (row < 8) {
          block[n][0] = own[n][0];
          block[n][1] = own[n][1];
        } else {
          block[n][2] = own[n][2];
          block[n][3] = own[n][3];
        }
      }
    }
  }
}

// Rows of row tiles that see no key at all become 0.
template <typename T>
__device__ __forceinline__ void ClearEmptyTiles(const CoreArgs& args) {
  const int tiles = SplitTiles(args), rows_of_head = args.tokens * args.group;
  for (int i = blockIdx.x; i < args.batch * args.kv_heads * tiles; i += gridDim.x) {
    const int tile = i % tiles, head_index = i / tiles, b = head_index / args.kv_heads;
    const Sequence sequence = SequenceOf(args, b);
    const RowTile t = SplitTileOf(args, sequence, tile);
    if (t.high > t.low) continue;
    const int rows = min(kSplitRows, rows_of_head - tile * kSplitRows);
    const int pieces = args.head_size / 8;
    for (int j = threadIdx.x; j < rows * pieces; j += kSplitThreads) {
      const QueryRow row =
          RowOf(args, sequence, head_index % args.kv_heads, tile * kSplitRows + j / pieces);
      T* output = static_cast<T*>(args.output) + b * args.output_strides.batch_stride +
                  row.head * args.output_strides.head_stride +
                  row.token * args.output_strides.token_stride;
      reinterpret_cast<uint4*>(output)[j % pieces] = make_uint4(0, 0, 0, 0);
    }
  }
}

// Merges a tile from what all its thread blocks left: a thread takes four columns of a row at a
// time and runs the chain of step 5.
template <typename T>
__device__ __forceinline__ void MergeOwnTile(const CoreArgs& args, const Cursor& cursor) {
  constexpr int kAhead = 8;  // blocks whose loads are in flight
  const int rows_of_head = args.tokens * args.group;
  const int head_index = cursor.b * args.kv_heads + cursor.kv_head;
  const int blocks = cursor.blocks.last - cursor.blocks.first;
  const int done = __ldcg(args.prefix + head_index * SplitTiles(args) + cursor.tile);
  const int rows = min(kSplitRows, rows_of_head - cursor.tile * kSplitRows);
  const int pieces = args.head_size / 4;
  for (int i = threadIdx.x; i < rows * pieces; i += kSplitThreads) {
    const int r = cursor.tile * kSplitRows + i / pieces, column = i % pieces * 4;
    const std::int64_t place =
        (static_cast<std::int64_t>(head_index) * rows_of_head + r) * args.max_blocks;
    const float2* const states = args.partial_ml + place;
    const float* const parts = args.partial_acc + place * args.head_size + column;
    const auto part = [&](int block) {
      return __ldcg(reinterpret_cast<const float4*>(
          parts + static_cast<std::int64_t>(block) * args.head_size));
    };
    const float2 first = __ldcg(states + done - 1);
    RowState state = {first.x, first.y};
    float4 acc = part(done - 1);
    for (int block = done; block < blocks; block += kAhead) {
      float2 ml[kAhead];
      float4 ab[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int at = min(block + j, blocks - 1);
        ml[j] = __ldcg(states + at);
        ab[j] = part(at);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (block + j >= blocks || ml[j].y == -1.0f) continue;
        const MergeFactors f = Merge(state, ml[j].x, ml[j].y);
        acc.x = MergeElement(acc.x, ab[j].x, f);
        acc.y = MergeElement(acc.y, ab[j].y, f);
        acc.z = MergeElement(acc.z, ab[j].z, f);
        acc.w = MergeElement(acc.w, ab[j].w, f);
      }
    }
    const QueryRow row = RowOf(args, cursor.sequence, cursor.kv_head, r);
    const FinishFactors finish = Finish<T>(args, state, row.head);
    const bool sees_keys = row.high > row.low;
    uint2 out = make_uint2(
        PackPair<T>(FinishElement(acc.x, finish), FinishElement(acc.y, finish)),
        PackPair<T>(FinishElement(acc.z, finish), FinishElement(acc.w, finish)));
    if (!sees_keys) out = make_uint2(0, 0);
    T* output = static_cast<T*>(args.output) + cursor.b * args.output_strides.batch_stride +
                row.head * args.output_strides.head_stride +
                row.token * args.output_strides.token_stride;
    *reinterpret_cast<uint2*>(output + column) = out;
  }
}

template <typename T, int kHead, int kSlots>
__global__ void __launch_bounds__(kSplitThreads)
    SplitKernel(const __grid_constant__ CoreArgs args) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  constexpr int kQueryBytes = Tile<kHead, kSplitRows>::kBytes;
  constexpr int kTiles = kHead / 32;  // n-tiles of value columns of one warp
  SplitShared& shared =
      *reinterpret_cast<SplitShared*>(dynamic + kSlots * Tile<kHead>::kBytes + 2 * kQueryBytes);
  const std::uint32_t ring = SharedAddress(dynamic);
  const std::uint32_t queries = ring + kSlots * Tile<kHead>::kBytes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const std::uint32_t p_address = SharedAddress(&shared.p[lane & 15][0]) + ((lane >> 4) << 4);

  // Lengths and the past come from before the kernel that this one overlaps with; queries and new
  // keys do not.
  LaunchDependents();
  const int total = CountItems(args, shared);
  const auto cut = [&](unsigned i) {
    return static_cast<int>(static_cast<std::int64_t>(total) * i / gridDim.x);
  };
  const int first_item = cut(blockIdx.x), last_item = cut(blockIdx.x + 1);
  Cursor load, cursor;
  if (first_item < last_item) load.Seek(args, shared.items_before, first_item);
  cursor = load;
  const auto load_keys_or_values = [&](int tile, int slot_number) {
    const HeadTensor& tensor = tile % 2 == 0 ? args.key : args.value;
    const T* head = static_cast<const T*>(tensor.data) + load.b * tensor.batch_stride +
                    load.kv_head * tensor.head_stride;
    LoadBlock<T, kHead, kSplitThreads>(threadIdx.x, ring + slot_number * Tile<kHead>::kBytes, head,
                                       tensor.token_stride, load.block * kBlockKeys, load.rows.low,
                                       load.rows.high, args.head_size);
  };
  // The first keys and values, if they are of the past.
  constexpr int kEarly = kSlots - 1 < 2 ? kSlots - 1 : 2;
  const bool early = args.past_is_ready && first_item < last_item &&
                     (load.block + 1) * kBlockKeys <= load.sequence.past;
  if (early) {
#pragma unroll
    for (int tile = 0; tile < kEarly; ++tile) load_keys_or_values(tile, tile);
  }
  WaitForDependencies();
  if (args.arrived != nullptr) ClearEmptyTiles<T>(args);
  if (first_item == last_item) return;

  // Tile number t = 0, 1, 2, ...: the keys, then the values of each item in turn.
  const int tiles = 2 * (last_item - first_item);
  int next_tile = 0, next_slot = 0;
  bool load_queries = true;
  const auto load_next = [&] {
    if (next_tile < tiles) {
      if (next_tile % 2 == 0 && load_queries) {
        LoadQueries<T, kHead, kSplitThreads, kSplitRows>(queries + load.parity * kQueryBytes, args,
                                                         load.b, load.kv_head,
                                                         load.tile * kSplitRows);
      }
      if (!early || next_tile >= kEarly) load_keys_or_values(next_tile, next_slot);
      if (next_tile % 2 == 1 && next_tile + 1 < tiles) load_queries = load.Advance(args);
      ++next_tile;
      next_slot = next_slot + 1 == kSlots ? 0 : next_slot + 1;
    }
    CopyAsyncCommit();
  };
  for (int i = 0; i < kSlots - 1; ++i) load_next();

  QueryRow rows[2];
  RowState state[2];
  float acc[kTiles][4];
  bool merging = false;
  int tile_first = 0;  // first block of this tile that this thread block sees
  bool entered = true;
  int slot_index = 0;
  const auto take_slot = [&] {
    const std::uint32_t slot = ring + slot_index * Tile<kHead>::kBytes;
    slot_index = slot_index + 1 == kSlots ? 0 : slot_index + 1;
    return slot;
  };

#pragma unroll 1
  for (int item = first_item; item < last_item; ++item) {
    if (entered) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        rows[h] =
            RowOf(args, cursor.sequence, cursor.kv_head, cursor.tile * kSplitRows + g + 8 * h);
        state[h] = RowState{};
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[n][e] = 0.0f;
      }
      tile_first = cursor.block;
      merging = tile_first == cursor.blocks.first;
    }

    CopyAsyncWait<kSlots - 2>();
    __syncthreads();  // keys are here; the values of the last item are used up
    load_next();
    const std::uint32_t keys = take_slot(), values = take_slot();
    const std::uint32_t query_tile = queries + cursor.parity * kQueryBytes;
    float s[4][4] = {};
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k) {
      std::uint32_t q[4];
      LoadMatrix4(q, QueryAddress<kHead, kSplitRows>(query_tile, 0, k));
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        std::uint32_t key[4];
        LoadMatrix4(key, KeyAddress<kHead>(keys, 32 * warp + 16 * n, k));
        MmaStep<T>(s[2 * n], q, key[0], key[1]);
        MmaStep<T>(s[2 * n + 1], q, key[2], key[3]);
      }
    }
    const int first_key = cursor.block * kBlockKeys;
    const bool masked = args.bias != nullptr || first_key < cursor.rows.all_low ||
                        first_key + kBlockKeys > cursor.rows.all_high;
    KeepBits keep;
    ScoreFragments<T, 4>(args, cursor.b, rows, first_key + 32 * warp, masked, s, keep);
    float maximum[2];
    RowMaximum(s, ScoreFactor(args), maximum);
    if (lane % 4 == 0) {
      shared.maximum[warp][g] = maximum[0];
      shared.maximum[warp][g + 8] = maximum[1];
    }
    if (masked) {
      const std::uint32_t upper = __ballot_sync(0xffffffffu, (keep.word[0] & 0x3333u) != 0);
      const std::uint32_t lower = __ballot_sync(0xffffffffu, (keep.word[0] & 0xccccu) != 0);
      if (lane == 0) {
        shared.touched[warp][0] = upper;
        shared.touched[warp][1] = lower;
      }
      shared.keep[threadIdx.x] = static_cast<std::uint16_t>(keep.word[0]);
    }
    __syncthreads();  // every warp has its scores and has used the keys
    load_next();

    float mb[2];
    bool touched[2] = {true, true};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float m = shared.maximum[0][g + 8 * h];
#pragma unroll
      for (int w = 1; w < kSplitWarps; ++w) m = MaxKeepNan(m, shared.maximum[w][g + 8 * h]);
      mb[h] = rintf(m);
      if (masked) {
        std::uint32_t any = 0;
#pragma unroll
        for (int w = 0; w < kSplitWarps; ++w) any |= shared.touched[w][h];
        touched[h] = (any >> (4 * g) & 0xf) != 0;
      }
    }
    Probabilities(mb, ScoreFactor(args), touched, s);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<std::uint32_t*>(
            &shared.p[g + 8 * h][32 * warp + 8 * j + 2 * (lane % 4)]) =
            PackPair<T>(s[j][2 * h], s[j][2 * h + 1]);
      }
    }
    CopyAsyncWait<kSlots - 1>();
    __syncthreads();  // the values and all probabilities are here
    bool rowwise = false;
    if (masked && (args.bias != nullptr || cursor.rows.first_token != cursor.rows.last_token)) {
      rowwise = __syncthreads_or(
          ShareHasNotFinite<T, kHead, kSplitThreads>(threadIdx.x, dynamic + (values - ring)));
    }
    float block[kTiles][4] = {}, sums[4] = {};
    MultiplySplitValues<T, kHead>(values, p_address, shared, rowwise, block, sums);

    const int index = cursor.block - cursor.blocks.first;
    const bool tile_done = cursor.block + 1 == cursor.blocks.last;
    const bool leave = tile_done || item + 1 == last_item;
    const int rows_of_head = args.tokens * args.group;
    const std::int64_t first_row =
        static_cast<std::int64_t>(cursor.b * args.kv_heads + cursor.kv_head) * rows_of_head;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = cursor.tile * kSplitRows + g + 8 * h;
      MergeFactors factors = {0.0f, 0.0f};
      if (merging) {
        RowState merged = state[h];
        factors = Merge(merged, mb[h], sums[2 * h]);
        if (touched[h]) state[h] = merged;
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            const float value = MergeElement(acc[n][e], block[n][e], factors);
            if (touched[h]) acc[n][e] = value;
          }
        }
      }
      if (r >= rows_of_head || (merging && !leave)) continue;
      const int column = warp * (kHead / 4) + 2 * (lane % 4);
      if (merging && tile_done) {
        const FinishFactors finish = Finish<T>(args, state[h], rows[h].head);
        const bool sees_keys = rows[h].high > rows[h].low;
        T* output = static_cast<T*>(args.output) + cursor.b * args.output_strides.batch_stride +
                    rows[h].head * args.output_strides.head_stride +
                    rows[h].token * args.output_strides.token_stride;
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          if (column + 8 * n < args.head_size) {
            const std::uint32_t pair = PackPair<T>(FinishElement(acc[n][2 * h], finish),
                                                   FinishElement(acc[n][2 * h + 1], finish));
            *reinterpret_cast<std::uint32_t*>(output + column + 8 * n) = sees_keys ? pair : 0u;
          }
        }
        continue;
      }
      const std::int64_t place = (first_row + r) * args.max_blocks + index;
      if (warp == 0 && lane % 4 == 0) {
        args.partial_ml[place] = merging      ? make_float2(state[h].m, state[h].l)
                                 : touched[h] ? make_float2(mb[h], sums[2 * h])
                                              : make_float2(kMinusInf, -1.0f);
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        if (column + 8 * n < args.head_size) {
          *reinterpret_cast<float2*>(args.partial_acc + place * args.head_size + column + 8 * n) =
              merging ? make_float2(acc[n][2 * h], acc[n][2 * h + 1])
                      : make_float2(block[n][2 * h], block[n][2 * h + 1]);
        }
      }
    }
    if (merging && leave && threadIdx.x == 0) {
      args.prefix[(cursor.b * args.kv_heads + cursor.kv_head) * SplitTiles(args) + cursor.tile] =
          index + 1;
    }
    // What this thread block did not finish alone is finished by the one that comes last.
    if (args.arrived != nullptr && leave && !(merging && tile_done)) {
      __syncthreads();
      if (threadIdx.x == 0) {
        const int blocks = cursor.blocks.last - cursor.blocks.first;
        const int own = cursor.block - tile_first + 1;
        __threadfence();
        const int before = atomicAdd(
            args.arrived + (cursor.b * args.kv_heads + cursor.kv_head) * SplitTiles(args) +
                cursor.tile,
            own);
        shared.brought_last = before + own == blocks;
        __threadfence();
      }
      __syncthreads();
      if (shared.brought_last) MergeOwnTile<T>(args, cursor);
    }
    if (item + 1 < last_item) entered = cursor.Advance(args);
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SPLIT_KERNEL_CUH_
