// GEMM, fp16 and bf16, compute capability 9.0: y = epilogue(a b), operands with K contiguous.
//
// Layouts: a [m, k] and b as [n, k], rows 16-byte aligned; y rows contiguous.
// Accumulation: contract gemm.tc16. One fp32 accumulator per output, from +0, K ascending in
//   wgmma steps of 16; the last tile of K is filled up with zeros.
// May vary freely: tile shape, cluster shape, stages, the order of tiles.
//
// One producer thread keeps a ring of K tiles full with bulk tensor copies; consumer warps
// multiply. Blocks of a cluster share operands: each fetches its share of a tile and multicasts it.
// Blocks are persistent, so the ring runs on across output tiles. Few rows of a are multiplied the
// other way round, columns of b times rows of a: a product of the tensor cores has 64 rows, but as
// few as 8 columns, and reads all of both from shared memory. Large tiles leave through shared
// memory by bulk tensor stores, which go on while the next tile is multiplied.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/common/pace.cuh"
#include "kernels/cuda/common/wgmma.cuh"
#include "kernels/cuda/gemm/box.cuh"
#include "kernels/cuda/gemm/epilogue.cuh"
#include "kernels/cuda/gemm/packed_layout.h"
#include "kernels/cuda/gemm/store_transposed.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"
#include "kernels/cuda/gemm/tile_order.cuh"

namespace batch_invariant::cuda {

// kRowsA x kN outputs a block; kAtoms x 64 of K a stage; kClusterM x kClusterN blocks a cluster.
// One consumer warpgroup for 64 of kM rows; kRowsA below kM: rows past it are multiplied with
// whatever follows in shared memory and never stored. A warpgroup has room for kStagedColumns of
// its outputs on their way out; 0: they are stored from registers. kTransposed: what is said of kM
// holds of the kN columns, one warpgroup for up to 64 of them. kTurns: two consumer warpgroups that
// multiply whole tiles by turns, so that one's stores hide behind the other's products.
template <int kM_, int kN_, int kAtoms_, int kStages_, int kClusterM_ = 1, int kClusterN_ = 1,
          int kRowsA_ = kM_, int kStagedColumns_ = 0, bool kTransposed_ = false,
          bool kTurns_ = false>
struct Sm90Shape {
  static constexpr int kM = kM_, kN = kN_, kAtoms = kAtoms_, kStages = kStages_;
  static constexpr int kClusterM = kClusterM_, kClusterN = kClusterN_, kRowsA = kRowsA_;
  static constexpr int kStagedColumns = kStagedColumns_;
  static constexpr bool kTransposed = kTransposed_, kTurns = kTurns_;

  static constexpr int kGroups = kTurns ? 2 : kM / 64;   // consumer warpgroups
  static constexpr int kParts = kTurns ? kM / 64 : 1;    // of 64 rows, a warpgroup and tile
  static constexpr int kReaders = kTurns ? 4 : kM / 16;  // warps that read a stage
  static constexpr int kConsumerWarps = 4 * kGroups;
  static constexpr int kProducerWarps = 4;
  static constexpr int kThreads = 32 * (kConsumerWarps + kProducerWarps);
  static constexpr bool kMoveRegisters = kConsumerWarps == 8;
  static constexpr int kAtomBytesA = kRowsA * 128, kAtomBytesB = kN * 128;
  static constexpr int kStageBytes = kAtoms * (kAtomBytesA + kAtomBytesB);
  static constexpr int kStagingBytes = kStagedColumns * 64 * 2;  // of a warpgroup
  // What the last stage's products read past its columns.
  static constexpr int kPastBytes = kTransposed ? (kM - kN) * 128 : 0;
  // Base alignment of the 128-byte swizzle, and the two barriers of each stage.
  static constexpr int kSharedBytes =
      1024 + kStages * kStageBytes + kGroups * kStagingBytes + kStages * 16 + kPastBytes;
  static_assert(kSharedBytes + 16 <= 227 * 1024);
  static_assert(kRowsA % (8 * kClusterN) == 0 && kN % (8 * kClusterM) == 0);
  static_assert(kRowsA == kM || kTransposed ||
                (kStageBytes >= kM * 128 && kStages > 1 && kStagedColumns == 0));
  static_assert(!kTransposed || (kM == 64 && kN <= 64 && kN % 16 == 0 && kClusterM == 1 &&
                                 kClusterN == 1 && kStagedColumns == 0));
};

// Width of the boxes in which a tile kColumns of y wide leaves; 0: from registers.
template <typename Shape, int kColumns>
inline constexpr int kBoxColumns = Shape::kStagedColumns == 0 || kColumns % 32 != 0 ? 0
                                   : kColumns % 64 == 0                             ? 64
                                                                                    : 32;

// Place in the ring of stages; `phase` is the parity of the barriers' current use.
template <int kStages>
struct RingPosition {
  int stage = 0;
  std::uint32_t phase = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  __device__ __forceinline__ void Advance(int stages) {
    stage += stages % kStages;
    phase ^= stages / kStages & 1;
    if (stage >= kStages) {
      stage -= kStages;
      phase ^= 1;
    }
  }
};

struct Sm90Params {
  TileOrder order;  // of clusters
  int steps;        // stages of K
  int a_batched;    // 0 or 1: whether the batch index moves the operand
  int b_batched;
  int b_packed;  // 0 or 1: layout of packed_layout.h
  int b_ready;   // 0 or 1: b may be read before the kernels ahead have finished
  int pace;      // cycles a stage of those early weights
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename Shape>
struct Sm90Ring {
  std::uint32_t stages;    // shared address of stage 0
  std::uint32_t staging;   // of warpgroup 0
  std::uint32_t barriers;  // full[0..kStages), then empty[0..kStages)

  __device__ __forceinline__ std::uint32_t Full(int stage) const { return barriers + 8 * stage; }
  __device__ __forceinline__ std::uint32_t Empty(int stage) const {
    return barriers + 8 * (Shape::kStages + stage);
  }
  __device__ __forceinline__ std::uint32_t Stage(int stage) const {
    return stages + stage * Shape::kStageBytes;
  }
  // Offsets in a stage.
  static __device__ __forceinline__ std::uint32_t A(int atom) { return atom * Shape::kAtomBytesA; }
  static __device__ __forceinline__ std::uint32_t B(int atom) {
    return Shape::kAtoms * Shape::kAtomBytesA + atom * Shape::kAtomBytesB;
  }

  // One consumer warp is done with a stage: tells every block that writes into it.
  __device__ __forceinline__ void Release(int stage, int lane, int rank) const {
    if constexpr (Shape::kClusterM * Shape::kClusterN == 1) {
      if (lane == 0) BarrierArrive(Empty(stage));
    } else {
      constexpr int kM = Shape::kClusterM, kN = Shape::kClusterN;
      const int rank_m = rank % kM, rank_n = rank / kM;
      if (lane < kN) {
        BarrierArriveCluster(Empty(stage), rank_m + kM * lane);
      } else if (lane < kN + kM - 1) {
        const int other = lane - kN + (lane - kN >= rank_m ? 1 : 0);
        BarrierArriveCluster(Empty(stage), other + kM * rank_n);
      }
    }
  }
};

// Two threads: one copies weights, and later rows of a too; the other (`first_rows`) waits for a
// and copies those rows whose weights are in the ring by then, or on their way.
template <typename Shape>
__device__ __forceinline__ void Sm90Produce(const Sm90Ring<Shape>& ring, const CUtensorMap* map_a,
                                            const CUtensorMap* map_b, const Sm90Params& params,
                                            int rank, int cluster, int clusters, bool first_rows,
                                            std::uint32_t came) {
  constexpr int kClusterM = Shape::kClusterM, kClusterN = Shape::kClusterN;
  constexpr int kSliceA = Shape::kRowsA / kClusterN, kSliceB = Shape::kN / kClusterM;
  const int rank_m = rank % kClusterM, rank_n = rank / kClusterM;
  std::uint16_t mask_a = 0, mask_b = 0;
#pragma unroll
  for (int j = 0; j < kClusterN; ++j) mask_a |= 1 << (rank_m + kClusterM * j);
#pragma unroll
  for (int i = 0; i < kClusterM; ++i) mask_b |= 1 << (i + kClusterM * rank_n);
  // Activations are read by every block, weights (for few rows) by one.
  const std::uint64_t policy_a = PolicyEvictLast();
  const std::uint64_t policy_b = params.order.tiles_m == 1 ? PolicyEvictFirst() : PolicyEvictLast();

  int row_a, row_b, batch_a, batch_b;
  const auto enter = [&](int tile) {
    int batch, m, n;
    params.order.Locate(tile, &batch, &m, &n);
    row_a = (m * kClusterM + rank_m) * Shape::kRowsA + rank_n * kSliceA;
    row_b = (n * kClusterN + rank_n) * Shape::kN + rank_m * kSliceB;
    batch_a = batch * params.a_batched;
    batch_b = batch * params.b_batched;
  };
  const auto copy_b = [&](int stage, int step) {
#pragma unroll
    for (int atom = 0; atom < Shape::kAtoms; ++atom) {
      const int tile_k = step * Shape::kAtoms + atom;
      const std::uint32_t b = ring.Stage(stage) + ring.B(atom) + rank_m * kSliceB * 128;
      const BoxPlace place = params.b_packed ? BoxPlace{0, 0, tile_k, row_b / kPackedColumns}
                                             : BoxPlace{tile_k * kTileK, row_b, batch_b, 0};
      if constexpr (kClusterM == 1) {
        TensorCopy(b, map_b, ring.Full(stage), place, policy_b);
      } else {
        TensorCopyMulticast(b, map_b, ring.Full(stage), place, mask_b, policy_b);
      }
    }
  };
  const auto copy_a = [&](int stage, int step) {
#pragma unroll
    for (int atom = 0; atom < Shape::kAtoms; ++atom) {
      const std::uint32_t a = ring.Stage(stage) + ring.A(atom) + rank_n * kSliceA * 128;
      const BoxPlace place{(step * Shape::kAtoms + atom) * kTileK, row_a, batch_a, 0};
      if constexpr (kClusterN == 1) {
        TensorCopy(a, map_a, ring.Full(stage), place, policy_a);
      } else {
        TensorCopyMulticast(a, map_a, ring.Full(stage), place, mask_a, policy_a);
      }
    }
  };

  enter(cluster);
  const int early = params.b_ready ? min(params.steps, Shape::kStages) : 0;
  if (first_rows) {
    WaitForDependencies();
    BarrierArrive(came);
    for (int step = 0; step < early; ++step) copy_a(step, step);
    return;
  }
  const Pace pace(params.pace, came);
  for (int step = 0; step < early; ++step) {
    pace.Wait(step);
    BarrierExpectBytes(ring.Full(step), Shape::kStageBytes);
    copy_b(step, step);
  }
  WaitForDependencies();

  RingPosition<Shape::kStages> at;
  for (int step = 0; step < early; ++step) at.Advance();
  for (int tile = cluster, first = early; tile < params.order.count();
       tile += clusters, first = 0) {
    enter(tile);
    for (int step = first; step < params.steps; ++step) {
      BarrierWait(ring.Empty(at.stage), at.phase ^ 1);
      BarrierExpectBytes(ring.Full(at.stage), Shape::kStageBytes);
      copy_b(at.stage, step);
      copy_a(at.stage, step);
      at.Advance();
    }
  }
}

// The sums of rows g and g + 8 of kCount blocks of 8 columns, in the accumulator layout of mma.cuh,
// become values of y.
template <typename T, int kCount>
__device__ __forceinline__ void FinishBlocks(const Epilogue<T>& e, int row, int column, int lane,
                                             float (&acc)[4 * kCount]) {
  // Scaling and c are kept out of the common path: this code is unrolled over all accumulators.
  if (e.Plain()) {
#pragma unroll
    for (int i = 0; i < 4 * kCount; ++i) acc[i] = e.Sum(acc[i]);
  } else {
#pragma unroll
    for (int i = 0; i < 4 * kCount; ++i) {
      // What lies outside is not stored; c is read within bounds.
      const int r = min(row + lane / 4 + i / 2 % 2 * 8, e.m - 1);
      const int c = min(column + i / 4 * 8 + 2 * (lane % 4) + i % 2, e.n - 1);
      acc[i] = e.Scale(r, c, e.Sum(acc[i]));
    }
  }
}

// The values of kCount blocks that are a gate and an up matrix in turn.
template <typename T, int kCount>
__device__ __forceinline__ void GateBlocks(const Epilogue<T>& e, const float (&acc)[4 * kCount],
                                           float (&gated)[2 * kCount]) {
#pragma unroll
  for (int i = 0; i < 2 * kCount; ++i) {
    gated[i] = e.Gate(acc[i / 4 * 8 + i % 4], acc[i / 4 * 8 + 4 + i % 4]);
  }
}

// The values stored as 16 bytes a lane where alignment allows.
template <typename T, int kCount>
__device__ __forceinline__ void StoreBlocks(const Epilogue<T>& e, int batch, int row, int column,
                                            int lane, const float (&acc)[4 * kCount]) {
  const int g = lane / 4, t = lane % 4;
  T* y = e.y + batch * e.y_batch_stride + row * e.y_row_stride + column;
  if (e.wide && column + 8 * kCount <= e.n) {
    constexpr int kQuads = kCount / 4;
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = 16 * quad + 4 * i + 2 * half;
          w[i] = PackPair<T>(acc[at], acc[at + 1]);
        }
        // Transpose 4 words by 4 lanes: lane t ends with the 8 columns of block t.
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const std::uint32_t got = __shfl_xor_sync(~0u, t & 1 ? w[i] : w[i + 1], 1);
          (t & 1 ? w[i] : w[i + 1]) = got;
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint32_t got = __shfl_xor_sync(~0u, t & 2 ? w[i] : w[i + 2], 2);
          (t & 2 ? w[i] : w[i + 2]) = got;
        }
        if (row + g + 8 * half < e.m) {
          StoreGlobal128(y + (g + 8 * half) * e.y_row_stride + 32 * quad + 8 * t, w);
        }
      }
    }
#pragma unroll
    for (int i = 4 * kQuads; i < kCount; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + g + 8 * half < e.m) {
          *reinterpret_cast<std::uint32_t*>(y + (g + 8 * half) * e.y_row_stride + 8 * i + 2 * t) =
              PackPair<T>(acc[4 * i + 2 * half], acc[4 * i + 2 * half + 1]);
        }
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4 * kCount; ++i) {
      const int r = g + i / 2 % 2 * 8, c = i / 4 * 8 + 2 * t + i % 2;
      if (row + r < e.m && column + c < e.n) {
        y[r * e.y_row_stride + c] = FromFloat<T>(acc[i]);
      }
    }
  }
}

// The 64 rows of a warpgroup by bulk tensor stores: as many columns at a time as `staging` holds,
// once the stores before have read it. Values in the same layout, 64 rows by kColumns, from `place`
// on: a column, a row and a batch.
template <typename Shape, typename T, int kColumns>
__device__ __forceinline__ void StoreBoxes(const Epilogue<T>& e, const CUtensorMap* map_y,
                                           const BoxPlace& place, int group, std::uint32_t staging,
                                           const float (&value)[kColumns / 2]) {
  constexpr int kBox = kBoxColumns<Shape, kColumns>, kBoxBytes = kBox * 64 * 2;
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  // Matrix lane / 8 of four: rows 8 * (matrix % 2) of this warp's, the 16-byte chunk matrix / 2 of
  // two.
  const std::uint32_t write = staging + BoxOffset<kBox>(warp * 16 + lane % 16, lane / 16);
#pragma unroll
  for (int first = 0; first < kColumns; first += Shape::kStagedColumns) {
    constexpr int kStep = Shape::kStagedColumns;
    const int end = first + kStep < kColumns ? first + kStep : kColumns;
    if (warp == 0 && ElectLane()) BulkStoreWaitRead();
    WarpgroupSync(group);
#pragma unroll
    for (int column = first; column < end; column += 16) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        words[i] = PackPair<T>(value[column / 2 + 2 * i], value[column / 2 + 2 * i + 1]);
      }
      const int box = (column - first) / kBox, pair = column % kBox / 16;
      StoreMatrix4((write + box * kBoxBytes) ^ (pair * 32), words);
    }
    FenceProxyAsync();
    WarpgroupSync(group);
    if (!e.wide) {
#pragma unroll 1
      for (int column = first; column < end; column += kBox) {
        StoreBoxElements<kBox>(e, place.z, place.y, place.x + column, 64,
                               staging + (column - first) / kBox * kBoxBytes);
      }
    } else if (warp == 0 && ElectLane()) {
#pragma unroll
      for (int column = first; column < end; column += kBox) {
        const int x = place.x + column;
        if (x >= e.n) break;
        TensorStore(map_y, {x, place.y, place.z, 0}, staging + (column - first) / kBox * kBoxBytes);
      }
      BulkStoreCommit();
    }
    __syncwarp();
  }
}

// A warpgroup's 64 rows from `row` on and the kN columns of b from `column` on.
template <typename T, typename Shape, bool kGated>
__device__ __forceinline__ void Sm90Store(const Sm90Ring<Shape>& ring, const Epilogue<T>& e,
                                          const CUtensorMap* map_y, int group, int batch, int row,
                                          int column, float (&acc)[Shape::kN / 2]) {
  constexpr int kBlocks = Shape::kN / 8;
  constexpr int kColumns = kGated ? Shape::kN / 2 : Shape::kN;  // of y
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int warp_row = row + warp * 16, y_column = kGated ? column / 2 : column;
  if (row >= e.m || y_column >= e.n || warp * 16 >= Shape::kRowsA) return;
  const auto store = [&](const float(&value)[kColumns / 2]) {
    if constexpr (kBoxColumns<Shape, kColumns> != 0) {
      StoreBoxes<Shape, T, kColumns>(e, map_y, {y_column, row, batch, 0}, group,
                                     ring.staging + group * Shape::kStagingBytes, value);
    } else if (warp_row < e.m) {
      StoreBlocks<T, kColumns / 8>(e, batch, warp_row, y_column, lane, value);
    }
  };
  if constexpr (kGated) {
    float gated[kColumns / 2];
    GateBlocks<T, kBlocks>(e, acc, gated);
    store(gated);
  } else {
    FinishBlocks<T, kBlocks>(e, warp_row, column, lane, acc);
    store(acc);
  }
}

// The sums of one tile over K, from the ring's position on, in kParts arrays; what they are of is
// the caller's: multiply(descriptor of the stage, acc) issues its products, issued() is called once
// the last ones are.
template <typename Shape, int kParts, int kSums, typename Multiply, typename Issued>
__device__ __forceinline__ void Sm90Accumulate(const Sm90Ring<Shape>& ring,
                                               const Sm90Params& params, int rank,
                                               RingPosition<Shape::kStages>& at,
                                               float (&acc)[kParts][kSums],
                                               const Multiply& multiply, const Issued& issued) {
  const int lane = threadIdx.x % 32;
  const auto pin = [&] {
#pragma unroll
    for (int part = 0; part < kParts; ++part) PinRegisters(acc[part]);
  };
  int previous = -1;
  for (int step = 0; step < params.steps; ++step) {
    // The shuffle tells the compiler that a warp has one address. It then computes descriptors in
    // uniform registers, where the products take them from; else four moves and their latency stand
    // between one product and the next.
    const std::uint64_t stage = SwizzledDescriptor(__shfl_sync(~0u, ring.Stage(at.stage), 0));
    BarrierWait(ring.Full(at.stage), at.phase);
    pin();
    WgmmaFence();
    multiply(stage, acc);
    WgmmaCommit();
    pin();
    WgmmaWait<1>();
    if (previous >= 0) ring.Release(previous, lane, rank);
    previous = at.stage;
    at.Advance();
  }
  issued();
  WgmmaWait<0>();
  pin();
  if (previous >= 0) ring.Release(previous, lane, rank);
}

// kGated: GemmArgs::silu_gated; a kernel of its own, since it is much code between the products and
// the plain stores.
template <typename T, typename Shape, bool kGated>
__device__ __forceinline__ void Sm90Consume(const Sm90Ring<Shape>& ring,
                                            const Epilogue<T>& epilogue, const CUtensorMap* map_y,
                                            const Sm90Params& params, int rank, int cluster,
                                            int clusters) {
  constexpr bool kTurns = Shape::kTurns;
  constexpr int kParts = Shape::kParts;
  const int group =
      Shape::kGroups == 1 ? 0 : __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128 - 1, 0);
  const int row_in_tile = kTurns ? 0 : group * 64;
  const int first = kTurns ? cluster + group * clusters : cluster;
  const int stride = kTurns ? 2 * clusters : clusters;
  RingPosition<Shape::kStages> at;
  if (kTurns && group == 1) {
    at.Advance(params.steps);
    TurnArrive(0);
  }
  for (int tile = first; tile < params.order.count(); tile += stride) {
    float acc[kParts][Shape::kN / 2] = {};
    // The barriers tell a stage's uses apart only by parity: the other warpgroup's are over once it
    // has handed over.
    if constexpr (kTurns) TurnSync(group);
    Sm90Accumulate(
        ring, params, rank, at, acc,
        [&](std::uint64_t stage, float(&sums)[kParts][Shape::kN / 2]) {
#pragma unroll
          for (int atom = 0; atom < Shape::kAtoms; ++atom) {
#pragma unroll
            for (int sub = 0; sub < kTileK / 16; ++sub) {
#pragma unroll
              for (int part = 0; part < kParts; ++part) {
                Wgmma<T, Shape::kN>::Shared(
                    sums[part],
                    AdvanceDescriptor(stage,
                                      ring.A(atom) + (row_in_tile + 64 * part) * 128 + 32 * sub),
                    AdvanceDescriptor(stage, ring.B(atom) + 32 * sub));
              }
            }
          }
        },
        [&] {
          if constexpr (kTurns) {
            if (tile + clusters < params.order.count()) TurnArrive(1 - group);
            at.Advance(params.steps);
          }
        });

    int batch, m, n;
    params.order.Locate(tile, &batch, &m, &n);
    const int row = (m * Shape::kClusterM + rank % Shape::kClusterM) * Shape::kRowsA + row_in_tile;
    const int column = (n * Shape::kClusterN + rank / Shape::kClusterM) * Shape::kN;
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      Sm90Store<T, Shape, kGated>(ring, epilogue, map_y, group, batch, row + part * 64, column,
                                  acc[part]);
    }
  }
  if constexpr (Shape::kStagedColumns > 0) {
    if (threadIdx.x / 32 % 4 == 0 && ElectLane()) BulkStoreWait();
  }
}

// The same with Shape::kTransposed.
template <typename T, typename Shape>
__device__ __forceinline__ void Sm90ConsumeTransposed(const Sm90Ring<Shape>& ring,
                                                      const Epilogue<T>& epilogue,
                                                      const Sm90Params& params, int cluster,
                                                      int clusters) {
  constexpr int kRows = Shape::kRowsA;
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  RingPosition<Shape::kStages> at;
  for (int tile = cluster; tile < params.order.count(); tile += clusters) {
    float acc[1][kRows / 2] = {};
    Sm90Accumulate(
        ring, params, 0, at, acc,
        [&](std::uint64_t stage, float(&sums)[1][kRows / 2]) {
#pragma unroll
          for (int atom = 0; atom < Shape::kAtoms; ++atom) {
#pragma unroll
            for (int sub = 0; sub < kTileK / 16; ++sub) {
              Wgmma<T, kRows>::Shared(sums[0], AdvanceDescriptor(stage, ring.B(atom) + 32 * sub),
                                      AdvanceDescriptor(stage, ring.A(atom) + 32 * sub));
            }
          }
        },
        [] {});

    if (warp * 16 >= Shape::kN) continue;
    int batch, m, n;
    params.order.Locate(tile, &batch, &m, &n);
    Epilogue<T> own = epilogue;
    own.y += batch * epilogue.y_batch_stride;
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      const float block[4] = {acc[0][4 * i], acc[0][4 * i + 1], acc[0][4 * i + 2],
                              acc[0][4 * i + 3]};
      StoreTransposed<T>(own, m * kRows + 8 * i, n * Shape::kN + warp * 16, lane, block);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <typename T, typename Shape, bool kGated>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    GemmSm90(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
             const Epilogue<T> epilogue, const Sm90Params params,
             const __grid_constant__ CUtensorMap map_y) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  LaunchDependents();
  extern __shared__ unsigned char shared[];
  constexpr int kClusterBlocks = Shape::kClusterM * Shape::kClusterN;
  Sm90Ring<Shape> ring;
  ring.stages = (SharedAddress(shared) + 1023) & ~1023u;
  ring.staging = ring.stages + Shape::kStages * Shape::kStageBytes;
  ring.barriers = ring.staging + Shape::kGroups * Shape::kStagingBytes;
  const int rank = kClusterBlocks == 1 ? 0 : ClusterBlockRank();
  const int cluster = blockIdx.x / kClusterBlocks, clusters = gridDim.x / kClusterBlocks;
  __shared__ std::uint64_t came_barrier;  // a is there
  const std::uint32_t came = SharedAddress(&came_barrier);

  if (threadIdx.x < 32) {
    if (ElectLane()) {
      BarrierInit(came, 1);
      PrefetchTensorMap(&map_a);
      PrefetchTensorMap(&map_b);
      for (int stage = 0; stage < Shape::kStages; ++stage) {
        BarrierInit(ring.Full(stage), 1);
        BarrierInit(ring.Empty(stage), (Shape::kClusterM + Shape::kClusterN - 1) * Shape::kReaders);
      }
      BarrierInitFence();
    }
    __syncwarp();
  }
  if constexpr (kClusterBlocks > 1) ClusterSync();

  if (threadIdx.x < 32 * Shape::kProducerWarps) {
    const int warp = threadIdx.x / 32;
    // The producer does not wait for the others: they only have to see the barriers.
    if (warp == 1) {
      BlockSync<Shape::kThreads>();
    } else {
      BlockArrive<Shape::kThreads>();
    }
    if constexpr (Shape::kMoveRegisters) RegistersLower<40>();
    if (warp < 2 && ElectLane()) {
      Sm90Produce<Shape>(ring, &map_a, &map_b, params, rank, cluster, clusters, warp == 1, came);
    }
    __syncwarp();
  } else {
    BlockSync<Shape::kThreads>();
    if constexpr (Shape::kMoveRegisters) RegistersRaise<232>();
    if constexpr (Shape::kTransposed) {
      Sm90ConsumeTransposed<T, Shape>(ring, epilogue, params, cluster, clusters);
    } else {
      Sm90Consume<T, Shape, kGated>(ring, epilogue, &map_y, params, rank, cluster, clusters);
    }
    __syncwarp();
  }
  // Peers may still write into, or arrive in, this block's shared memory.
  if constexpr (kClusterBlocks > 1) ClusterSync();
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_CUH_
