// MatMulNBits, fp16 and bf16, compute capability 9.0: y = epilogue(a w^T).
//
// Layouts: a [m, k], rows 16-byte aligned; weights in records (packed_layout.h); y rows contiguous.
// Accumulation: contract gemm.nbits.tc16. Weights are dequantised in registers into the A operand
//   (their rows are the rows of the tile), activations are the B operand: one fp32 accumulator per
//   output and run of K, from +0, K ascending in tensor-core steps of 16.
// May vary freely: tile shape, stages, the order of tiles.
//
// One producer thread keeps a ring of stages of 128 or 256 along K full: a box of activations by
// tensor copy, contiguous pairs of records for each 32 weight rows by bulk copy. Blocks are
// persistent; tiles of many rows leave by bulk tensor stores, which go on while the next tile is
// multiplied.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/common/pace.cuh"
#include "kernels/cuda/common/wgmma.cuh"
#include "kernels/cuda/gemm/box.cuh"
#include "kernels/cuda/gemm/epilogue.cuh"
#include "kernels/cuda/gemm/store_transposed.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"
#include "kernels/cuda/gemm/tile_order.cuh"
#include "kernels/cuda/matmul_nbits/dequantize.cuh"
#include "kernels/cuda/matmul_nbits/packed_layout.h"

namespace batch_invariant::cuda {

// kTiles records (16 weight rows each, one a consumer warp) by kTokens rows of a; kRecords along K
// a stage. kRuns: 1, K in one run, or 0, any number.
template <int kTiles_, int kTokens_, int kRecords_, int kRuns_>
struct NBitsShape {
  static constexpr int kTiles = kTiles_, kTokens = kTokens_, kRecords = kRecords_;
  static constexpr int kRuns = kRuns_;
  static constexpr int kProducerWarps = 4;
  static constexpr int kThreads = 32 * (kTiles + kProducerWarps);
  static constexpr int kAtoms = 2 * kRecords;  // of 64 along K
  static constexpr int kTokenBytes = kAtoms * kTokens * 128;
  static constexpr int kGroups = kTiles / 4;  // consumer warpgroups
  static constexpr bool kMoveRegisters = kGroups == 2;
  // Steps of 16 that are dequantised and multiplied together: fewer where two sets of many sums
  // leave few registers.
  static constexpr int kSteps = kRuns == 0 && kTokens > 128 ? 2 : 4;
  // Tiles of many rows leave by bulk tensor stores, a warpgroup's 64 columns each, out of the last
  // stage of K, whose rows of a have room for all of them.
  static constexpr bool kBulk = kTokens >= 64;
  static constexpr int kBoxBytes = kTokens * 128;
  static_assert(kGroups <= kAtoms);
  // Whether gating is a kernel of its own: with many rows it is much code between the products and
  // the plain stores.
  static constexpr bool kGatesApart = kBulk;
  static_assert(kTiles % 4 == 0 && (kRuns == 1 || kRecords == 1));
};

// Order: TileOrder, or where the tiles are known on the device alone (moe/grouped_order.cuh), with
// the same functions.
template <typename Order>
struct NBitsParams {
  const unsigned char* packed;
  PackedLayout layout;
  float default_zero;  // with the offset of ZeroOffset
  int stages;
  int stage_bytes;
  Order order;
  int run_records;  // records along K that share an accumulator
  int ready;        // 0 or 1: the weights may be read before the kernels ahead have finished
  int pace;         // cycles a stage of those early weights
  int whole;  // 0 or 1: K is whole tiles of 64, so that one copy brings the rows of a of a stage
};

inline constexpr int kCameBytes = 16;  // of shared memory, for NBitsCame

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct NBitsRing {
  std::uint32_t base;      // shared address of stage 0
  std::uint32_t barriers;  // full[0..stages), then empty[0..stages)
  int stages;
  int stage_bytes;

  __device__ __forceinline__ std::uint32_t Stage(int stage) const {
    return base + stage * stage_bytes;
  }
  __device__ __forceinline__ std::uint32_t Full(int stage) const { return barriers + 8 * stage; }
  __device__ __forceinline__ std::uint32_t Empty(int stage) const {
    return barriers + 8 * (stages + stage);
  }
};

struct NBitsPosition {
  int stage = 0;
  std::uint32_t phase = 0;
  __device__ __forceinline__ void Advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// The barrier that says that a is there: behind those of the ring and kFixed more bytes.
template <int kFixed>
__device__ __forceinline__ std::uint32_t NBitsCame(const NBitsRing& ring) {
  return ring.base + ring.stages * (ring.stage_bytes + 16) + kFixed;
}

// The first producer warp, which has initialised the barriers, does not wait for the others: they
// only have to see them.
template <int kThreads>
__device__ __forceinline__ void NBitsArrive(int warp) {
  if (warp == 1) {
    BlockSync<kThreads>();
  } else {
    BlockArrive<kThreads>();
  }
}

// Keeps the ring full, stage by stage. Two threads: one copies weights, and later rows of a too;
// the other (`first_rows`) waits for a and copies those rows whose weights are in the ring by then,
// or on their way.
template <typename Order, typename Enter, typename CopyWeights, typename CopyTokens>
__device__ __forceinline__ void NBitsProduceTiles(const NBitsRing& ring,
                                                  const NBitsParams<Order>& p, int steps,
                                                  bool first_rows, std::uint32_t came,
                                                  const Enter& enter,
                                                  const CopyWeights& copy_weights,
                                                  const CopyTokens& copy_tokens) {
  if constexpr (!Order::kOnDevice) enter(blockIdx.x);
  const int early = p.ready ? min(steps, ring.stages) : 0;
  if (first_rows) {
    WaitForDependencies();
    BarrierArrive(came);
    for (int step = 0; step < early; ++step) copy_tokens(step, step);
    return;
  }
  const Pace pace(p.pace, came);
  for (int step = 0; step < early; ++step) {
    pace.Wait(step);
    copy_weights(step, step);
  }
  WaitForDependencies();

  NBitsPosition at;
  for (int step = 0; step < early; ++step) at.Advance(ring.stages);
  for (int tile = blockIdx.x, first = early; tile < p.order.count(); tile += gridDim.x, first = 0) {
    enter(tile);
    for (int step = first; step < steps; ++step) {
      BarrierWait(ring.Empty(at.stage), at.phase ^ 1);
      copy_weights(at.stage, step);
      copy_tokens(at.stage, step);
      at.Advance(ring.stages);
    }
  }
}

template <typename Shape, typename Order>
__device__ __forceinline__ void NBitsProduce(const NBitsRing& ring, const CUtensorMap* map_a,
                                             const NBitsParams<Order>& p, bool first_rows,
                                             std::uint32_t came) {
  const std::uint64_t keep = PolicyEvictLast();
  const std::uint64_t once = p.order.ReadsOnce() ? PolicyEvictFirst() : PolicyEvictLast();
  const int pair_bytes = 2 * p.layout.record_bytes();
  const std::int64_t row_bytes = std::int64_t{p.layout.records_k} * pair_bytes;
  const int steps = (p.layout.records_k + Shape::kRecords - 1) / Shape::kRecords;
  int batch, m, n, pairs;
  const auto enter = [&](int tile) {
    p.order.Locate(tile, &batch, &m, &n);
    pairs = min(Shape::kTiles, p.layout.records_n - n * Shape::kTiles) / 2;
  };
  const auto copy_weights = [&](int stage, int step) {
    const std::uint32_t full = ring.Full(stage);
    const std::uint32_t to = ring.Stage(stage) + Shape::kTokenBytes;
    const int record = step * Shape::kRecords;
    const int bytes = min(Shape::kRecords, p.layout.records_k - record) * pair_bytes;
    const unsigned char* from = p.order.Weights(p.packed, m) + n * (Shape::kTiles / 2) * row_bytes +
                                std::int64_t{record} * pair_bytes;
    BarrierExpectBytes(full, Shape::kTokenBytes + pairs * bytes);
    for (int pair = 0; pair < pairs; ++pair) {
      BulkCopy(to + pair * Shape::kRecords * pair_bytes, from + pair * row_bytes, bytes, full,
               once);
    }
  };
  const auto copy_tokens = [&](int stage, int step) {
    const std::uint32_t full = ring.Full(stage), to = ring.Stage(stage);
    const int record = step * Shape::kRecords;
    if (p.whole) {
      TensorCopy(to, map_a, full, {0, p.order.template FirstRow<Shape::kTokens>(m), 2 * record, 0},
                 keep);
    } else {
#pragma unroll
      for (int atom = 0; atom < Shape::kAtoms; ++atom) {
        TensorCopy(
            to + atom * Shape::kTokens * 128, map_a, full,
            {record * kRecordK + atom * kTileK, p.order.template FirstRow<Shape::kTokens>(m), 0, 0},
            keep);
      }
    }
  };
  NBitsProduceTiles(ring, p, steps, first_rows, came, enter, copy_weights, copy_tokens);
}

__device__ __forceinline__ std::uint32_t LoadShared32(std::uint32_t address) {
  std::uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];\n" : "=r"(word) : "r"(address) : "memory");
  return word;
}
__device__ __forceinline__ void LoadShared128(std::uint32_t* words, std::uint32_t address) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// One record as a consumer warp sees it. kPartShift: log2 of the K that one scale covers inside a
// record, where it is known (at least that of two steps); 0: read from the layout.
template <typename T, int kBits, bool kZeros, int kPartShift>
struct RecordReader {
  static constexpr int kWords = Dequantizer<T, kBits>::kWords;
  static constexpr int kStepsAScale =
      kPartShift == 0 ? 1 : ((1 << kPartShift) < kTileK ? (1 << kPartShift) : kTileK) / 16;
  static constexpr int kScales = 4 / kStepsAScale;  // an atom
  std::uint32_t lane_codes;                         // offsets inside the record
  std::uint32_t lane_scales;
  std::uint32_t zeros;  // offset of zeros from scales
  std::uint32_t default_zeros;
  int part_shift;

  template <typename Order>
  __device__ __forceinline__ RecordReader(const NBitsParams<Order>& p, int lane)
      : lane_codes(16 * lane),
        lane_scales(p.layout.code_bytes() + lane / 4 * 4),
        zeros(p.layout.scale_bytes()),
        default_zeros(DefaultZeros<T>(p.default_zero)),
        part_shift(kPartShift == 0 ? p.layout.part_shift : kPartShift) {}

  // What the four steps of atom 0 or 1 of the record need.
  __device__ __forceinline__ void Load(std::uint32_t record, int atom,
                                       std::uint32_t (&q)[4 * kWords],
                                       std::uint32_t (&scale)[kScales],
                                       std::uint32_t (&zero)[kScales]) const {
#pragma unroll
    for (int group = 0; group < kWords; ++group) {
      LoadShared128(q + 4 * group, record + lane_codes + (atom * kWords + group) * 512);
    }
#pragma unroll
    for (int i = 0; i < kScales; ++i) {
      const int k = atom * kTileK + i * kStepsAScale * 16;
      const std::uint32_t address = record + lane_scales + (k >> part_shift) * 32;
      scale[i] = LoadShared32(address);
      zero[i] = kZeros ? LoadShared32(address + zeros) : default_zeros;
    }
  }
};

// The values of kTokens rows by the 64 columns of a warpgroup, from `row` and `column` of y on,
// through `box` to a bulk tensor store. kGated: sums, of which the first eight weight rows of a
// warp are of the gate matrix and the others of the up matrix; 32 columns of y. kNeighbours: what
// lies behind row e.m of y is other tiles'.
template <typename T, bool kGated, bool kNeighbours, int kCount>
__device__ __forceinline__ void StoreBox(const Epilogue<T>& e, const CUtensorMap* map_y, int row,
                                         int column, int group, std::uint32_t box,
                                         const float (&acc)[kCount]) {
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  // Matrix lane / 8 of four: columns 8 * (matrix % 2) of this warp's, rows
  // 8 * (matrix / 2); or, gated, rows 8 * matrix of one chunk of columns.
  const std::uint32_t write =
      box + (kGated ? BoxOffset<32>(lane, warp)
                    : BoxOffset<64>(lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2));
#pragma unroll
  for (int block = 0; block < kCount / (kGated ? 16 : 8); ++block) {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kGated) {
        const int first = 16 * block + 4 * i;
        words[i] =
            PackPair<T>(e.Gate(acc[first], acc[first + 2]), e.Gate(acc[first + 1], acc[first + 3]));
      } else {
        words[i] = PackPair<T>(acc[8 * block + 2 * i], acc[8 * block + 2 * i + 1]);
      }
    }
    StoreMatrix4Transposed(write + block * 2048, words);
  }
  FenceProxyAsync();
  WarpgroupSync(group);
  if (!e.wide || (kNeighbours && row + 2 * kCount > e.m)) {
    StoreBoxElements<kGated ? 32 : 64>(e, 0, row, column, 2 * kCount, box);
  } else if (warp == 0 && lane == 0 && column < e.n) {
    TensorStore(map_y, {column, row, 0, 0}, box);
    BulkStoreCommit();
  }
}

// The sums of one tile, from the ring's position on. `previous`: the stage that this warp has read
// and not given back, or -1.
template <typename T, int kBits, bool kZeros, int kPartShift, typename Shape, typename Order>
__device__ __forceinline__ void NBitsMultiply(const NBitsRing& ring, const NBitsParams<Order>& p,
                                              NBitsPosition& at, int& previous,
                                              float (&acc)[Shape::kTokens / 2]) {
  using Reader = RecordReader<T, kBits, kZeros, kPartShift>;
  const int warp = threadIdx.x / 32 - Shape::kProducerWarps, lane = threadIdx.x % 32;
  const Reader reader(p, lane);
  const int record_bytes = p.layout.record_bytes();
  const std::uint32_t warp_records =
      Shape::kTokenBytes + (warp / 2 * Shape::kRecords * 2 + warp % 2) * record_bytes;
  const std::uint64_t ring_tokens = SwizzledDescriptor(ring.base);

  // Codes and scales of an atom (64 of K) load while the atom before is dequantised, and that goes,
  // kSteps at a time, into one fragment buffer while the other one is being multiplied.
  constexpr int kSteps =
      kBits == 8 && kZeros && Shape::kRuns == 0 && Shape::kTokens > 64 ? 2 : Shape::kSteps;
  std::uint32_t q[2][4 * Reader::kWords], scale[2][Reader::kScales], zero[2][Reader::kScales];
  std::uint32_t a[2][kSteps][4];
  const auto load = [&](int stage, int atom) {
    const std::uint32_t record = ring.Stage(stage) + warp_records + atom / 2 * 2 * record_bytes;
    reader.Load(record, atom % 2, q[atom % 2], scale[atom % 2], zero[atom % 2]);
  };

#pragma unroll
  for (float& x : acc) x = 0.0f;
  const auto give_back = [&] {
    if (previous >= 0 && lane == 0) BarrierArrive(ring.Empty(previous));
  };
  float total[Shape::kRuns == 1 ? 1 : Shape::kTokens / 2] = {};  // of the runs before
  BarrierWait(ring.Full(at.stage), at.phase);
  load(at.stage, 0);
  int record = 0;
  const auto multiply_until = [&](int end) {
    for (; record < end; record += Shape::kRecords) {
      // Known to be uniform, it makes the compiler keep descriptors in uniform registers.
      const int current = __shfl_sync(~0u, at.stage, 0);
      const std::uint64_t tokens = AdvanceDescriptor(ring_tokens, current * ring.stage_bytes);
#pragma unroll
      for (int atom = 0; atom < Shape::kAtoms; ++atom) {
        const bool more = atom % 2 == 0 || record + atom / 2 + 1 < p.layout.records_k;
        if (atom + 1 < Shape::kAtoms) {
          if (more) load(current, atom + 1);
        } else {
          at.Advance(ring.stages);
          if (more) {
            BarrierWait(ring.Full(at.stage), at.phase);
            load(at.stage, 0);
          }
        }
        Dequantizer<T, kBits> dequantizer;
#pragma unroll
        for (int first = 0; first < 4; first += kSteps) {
          std::uint32_t(&fragments)[kSteps][4] = a[(atom * 4 + first) / kSteps % 2];
#pragma unroll
          for (int s = first; s < first + kSteps; ++s) {
            const int i = s / Reader::kStepsAScale;
            if (s % Reader::kStepsAScale == 0) {
              dequantizer.Set(scale[atom % 2][i], zero[atom % 2][i]);
            }
            dequantizer.Step(q[atom % 2] + s * Reader::kWords, fragments[s - first]);
          }
          PinRegisters(acc);
          WgmmaFence();
#pragma unroll
          for (int s = first; s < first + kSteps; ++s) {
            Wgmma<T, Shape::kTokens>::Register(
                acc, fragments[s - first],
                AdvanceDescriptor(tokens, atom * Shape::kTokens * 128 + s * 32));
          }
          WgmmaCommit();
          PinRegisters(acc);
          WgmmaWait<1>();
          if constexpr (Shape::kBulk) {
            // The tile before leaves out of its last stage: that one is given back later, unless
            // the next record waits for it.
            if (first == 0 && atom == 0 && record > 0) give_back();
            if (first == 0 && atom == (ring.stages > 2 ? 1 : 0) && record == 0) {
              if (lane == 0) BulkStoreWaitRead();
              give_back();
            }
          } else {
            if (first == 0 && atom == 0) give_back();
          }
        }
        if (atom + 1 < Shape::kAtoms && !more) {  // the last stage of an odd number of records
          at.Advance(ring.stages);
          break;
        }
      }
      previous = current;
    }
    WgmmaWait<0>();
    PinRegisters(acc);
    if constexpr (!Shape::kBulk) {
      give_back();
      previous = -1;
    }
  };
  if constexpr (Shape::kRuns == 1) {
    multiply_until(p.layout.records_k);
  } else {
    while (record < p.layout.records_k) {
      multiply_until(min(record + p.run_records, p.layout.records_k));
#pragma unroll
      for (int i = 0; i < Shape::kTokens / 2; ++i) {
        total[i] = __fadd_rn(total[i], acc[i]);
        acc[i] = 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < Shape::kTokens / 2; ++i) acc[i] = total[i];
  }
}

template <typename T, int kBits, bool kZeros, bool kGated, typename Shape, typename Order>
__device__ __forceinline__ void NBitsConsume(const NBitsRing& ring, const Epilogue<T>& all,
                                             const CUtensorMap* map_y,
                                             const NBitsParams<Order>& p) {
  const int warp = threadIdx.x / 32 - Shape::kProducerWarps, lane = threadIdx.x % 32;
  NBitsPosition at;
  int previous = -1;
  for (int tile = blockIdx.x; tile < p.order.count(); tile += gridDim.x) {
    float acc[Shape::kTokens / 2];
    switch (p.layout.part_shift) {
      case 5:
        NBitsMultiply<T, kBits, kZeros, 5, Shape>(ring, p, at, previous, acc);
        break;
      case 7:
        NBitsMultiply<T, kBits, kZeros, 7, Shape>(ring, p, at, previous, acc);
        break;
      default:
        NBitsMultiply<T, kBits, kZeros, 0, Shape>(ring, p, at, previous, acc);
    }

    int batch, m, n;
    p.order.Locate(tile, &batch, &m, &n);
    const int row0 = p.order.template FirstRow<Shape::kTokens>(m);
    const int column0 = (n * Shape::kTiles + warp) * kRecordRows;
    const auto& epilogue = p.order.EpilogueOf(all, m);
    if constexpr (Shape::kBulk) {
      // The other warpgroups have read the stage that this one overwrites, and their own boxes of
      // the tile before are gone.
      ConsumerSync<128 * Shape::kGroups>();
      const int group = warp / 4, column = (n * Shape::kGroups + group) * 64;
      const std::uint32_t box = ring.Stage(previous) + group * Shape::kBoxBytes;
      if constexpr (!kGated) {
        if (epilogue.Plain()) {
#pragma unroll
          for (float& x : acc) x = epilogue.Sum(x);
        } else {
#pragma unroll
          for (int i = 0; i < Shape::kTokens / 2; ++i) {
            // c is read within bounds; what lies outside is not stored.
            const int y_row = min(row0 + i / 4 * 8 + lane % 4 * 2 + i % 2, epilogue.m - 1);
            const int y_column = min(column0 + lane / 4 + i / 2 % 2 * 8, epilogue.n - 1);
            acc[i] = epilogue.Scale(y_row, y_column, epilogue.Sum(acc[i]));
          }
        }
      }
      StoreBox<T, kGated, Order::kOnDevice>(epilogue, map_y, row0, kGated ? column / 2 : column,
                                            group, box, acc);
    } else if ((epilogue.gated ? column0 / 2 : column0) < epilogue.n) {
#pragma unroll
      for (int i = 0; i < Shape::kTokens / 8; ++i) {
        if (row0 + 8 * i >= epilogue.m) break;
        const float block[4] = {acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]};
        StoreTransposed<T>(epilogue, row0 + 8 * i, column0, lane, block);
      }
    }
  }
  if (Shape::kBulk && lane == 0) BulkStoreWait();
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// kGated: GemmArgs::silu_gated, in kernels that gate apart; the others look at the epilogue.
template <typename T, int kBits, bool kZeros, bool kGated, typename Shape, typename Order>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    NBitsSm90(const __grid_constant__ CUtensorMap map_a, const Epilogue<T> epilogue,
              const NBitsParams<Order> params, const __grid_constant__ CUtensorMap map_y) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  LaunchDependents();
  if constexpr (Order::kOnDevice) WaitForDependencies();
  extern __shared__ __align__(1024) unsigned char shared[];  // for the swizzle
  NBitsRing ring;
  ring.base = SharedAddress(shared);
  ring.stages = params.stages;
  ring.stage_bytes = params.stage_bytes;
  ring.barriers = ring.base + params.stages * params.stage_bytes;
  const std::uint32_t came = NBitsCame<0>(ring);

  if (threadIdx.x < 32 * Shape::kProducerWarps) {
    if (threadIdx.x < 32) {
      if (ElectLane()) {
        BarrierInit(came, 1);
        PrefetchTensorMap(&map_a);
        for (int stage = 0; stage < params.stages; ++stage) {
          BarrierInit(ring.Full(stage), 1);
          BarrierInit(ring.Empty(stage), Shape::kTiles);
        }
        BarrierInitFence();
      }
      __syncwarp();
    }
    const int warp = threadIdx.x / 32;
    NBitsArrive<Shape::kThreads>(warp);
    if constexpr (Shape::kMoveRegisters) RegistersLower<40>();
    if (warp < 2 && ElectLane()) NBitsProduce<Shape>(ring, &map_a, params, warp == 1, came);
  } else {
    BlockSync<Shape::kThreads>();
    if constexpr (Shape::kMoveRegisters) RegistersRaise<232>();
    NBitsConsume<T, kBits, kZeros, kGated, Shape>(ring, epilogue, &map_y, params);
  }
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_
