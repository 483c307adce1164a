// MatMulNBits, fp16 and bf16, compute capability 9.0: y = epilogue(a w^T).
//
// Layouts: a [m, k], rows 16-byte aligned; weights in records (packed_layout.h); y rows contiguous.
// Accumulation: contract gemm.nbits.tc16. Weights are dequantised in registers into the A operand
//   (their rows are the rows of the tile), activations are the B operand: one fp32 accumulator per
//   output, from +0, K ascending in tensor-core steps of 16, mma.sync or wgmma.
// May vary freely: tile shape, stages, instruction, the order of tiles.
//
// One producer thread keeps a ring of stages of 128 along K full: a box of activations by tensor
// copy, one contiguous pair of records for each 32 weight rows by bulk copy. Blocks are persistent.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/wgmma.cuh"
#include "kernels/cuda/gemm/epilogue.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"
#include "kernels/cuda/matmul_nbits/dequantize.cuh"
#include "kernels/cuda/matmul_nbits/packed_layout.h"

namespace batch_invariant::cuda {

// kTiles records (16 weight rows each, one a consumer warp) by kTokens rows of a.
template <bool kWgmma_, int kTiles_, int kTokens_>
struct NBitsShape {
  static constexpr bool kWgmma = kWgmma_;
  static constexpr int kTiles = kTiles_, kTokens = kTokens_;
  static constexpr int kProducerWarps = kWgmma ? 4 : 1;
  static constexpr int kThreads = 32 * (kTiles + kProducerWarps);
  static constexpr int kTokenBytes = 2 * kTokens * 128;  // two atoms of 64 along K
  static constexpr bool kMoveRegisters = kWgmma && kTiles == 8;
  static_assert(kTiles % (kWgmma ? 4 : 2) == 0);
};

struct NBitsParams {
  const unsigned char* packed;
  PackedLayout layout;
  float default_zero;  // with the offset of ZeroOffset
  int stages;
  int stage_bytes;
  int tiles_m, tiles_n;
  int whole;  // 0 or 1: K is whole tiles of 64, so that one copy brings the rows of a of a stage
};

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

// Rows of a vary fastest: the blocks running at one time share weights.
__device__ __forceinline__ void LocateNBitsTile(const NBitsParams& p, int tile, int* m, int* n) {
  *m = tile % p.tiles_m;
  *n = tile / p.tiles_m;
}

template <typename Shape>
__device__ __forceinline__ void NBitsProduce(const NBitsRing& ring, const CUtensorMap* map_a,
                                             const NBitsParams& p) {
  const std::uint64_t keep = PolicyEvictLast();
  const std::uint64_t once = p.tiles_m == 1 ? PolicyEvictFirst() : PolicyEvictLast();
  const int pair_bytes = 2 * p.layout.record_bytes();
  NBitsPosition at;
  for (int tile = blockIdx.x; tile < p.tiles_m * p.tiles_n; tile += gridDim.x) {
    int m, n;
    LocateNBitsTile(p, tile, &m, &n);
    const int pairs = min(Shape::kTiles, p.layout.records_n - n * Shape::kTiles) / 2;
    const std::int64_t row_bytes = std::int64_t{p.layout.records_k} * pair_bytes;
    const unsigned char* source = p.packed + n * (Shape::kTiles / 2) * row_bytes;
    for (int step = 0; step < p.layout.records_k; ++step) {
      BarrierWait(ring.Empty(at.stage), at.phase ^ 1);
      const std::uint32_t full = ring.Full(at.stage), stage = ring.Stage(at.stage);
      BarrierExpectBytes(full, Shape::kTokenBytes + pairs * pair_bytes);
      for (int pair = 0; pair < pairs; ++pair) {
        BulkCopy(stage + Shape::kTokenBytes + pair * pair_bytes, source + pair * row_bytes,
                 pair_bytes, full, once);
      }
      if (p.whole) {
        TensorCopy(stage, map_a, full, {0, m * Shape::kTokens, 2 * step, 0}, keep);
      } else {
#pragma unroll
        for (int atom = 0; atom < 2; ++atom) {
          TensorCopy(stage + atom * Shape::kTokens * 128, map_a, full,
                     {step * kRecordK + atom * kTileK, m * Shape::kTokens, 0, 0}, keep);
        }
      }
      source += pair_bytes;
      at.Advance(ring.stages);
    }
  }
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

// One record as a consumer warp sees it.
template <typename T, int kBits, bool kZeros>
struct RecordReader {
  static constexpr int kWords = Dequantizer<T, kBits>::kWords;
  std::uint32_t lane_codes;  // offsets inside the record
  std::uint32_t lane_scales;
  std::uint32_t zeros;  // offset of zeros from scales
  std::uint32_t default_zeros;
  int part_shift;

  __device__ __forceinline__ RecordReader(const NBitsParams& p, int lane)
      : lane_codes(16 * lane),
        lane_scales(p.layout.code_bytes() + lane / 4 * 4),
        zeros(p.layout.scale_bytes()),
        default_zeros(DefaultZeros<T>(p.default_zero)),
        part_shift(p.layout.part_shift) {}

  // Codes of the four steps of one atom.
  __device__ __forceinline__ void Codes(std::uint32_t record, int atom,
                                        std::uint32_t (&q)[4 * kWords]) const {
#pragma unroll
    for (int group = 0; group < kWords; ++group) {
      LoadShared128(q + 4 * group, record + lane_codes + (atom * kWords + group) * 512);
    }
  }
  // Scale and zero pairs of step 0..7 of the record.
  __device__ __forceinline__ void Scales(std::uint32_t record, int step, std::uint32_t* scale,
                                         std::uint32_t* zero) const {
    const std::uint32_t address = record + lane_scales + ((16 * step) >> part_shift) * 32;
    *scale = LoadShared32(address);
    *zero = kZeros ? LoadShared32(address + zeros) : default_zeros;
  }
};

// acc[2 * i + half] of 8 rows of a: weight row 8 * half + g, rows 2t, 2t + 1 of a. Turned around by
// 8 x 8 transposes, so that a lane stores two neighbouring columns of one row of y.
template <typename T>
__device__ __forceinline__ void StoreTransposed(const Epilogue<T>& e, int row0, int column0,
                                                int lane, const float (&acc)[4]) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // c is read within bounds; what lies outside is not stored.
    const int column = min(column0 + 8 * half + g, e.n - 1);
    const int row = row0 + 2 * t;
    std::uint32_t pair = PackPair<T>(e.Finish(min(row, e.m - 1), column, acc[2 * half]),
                                     e.Finish(min(row + 1, e.m - 1), column, acc[2 * half + 1]));
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;\n" : "+r"(pair));
    const int y_row = row0 + g, y_column = column0 + 8 * half + 2 * t;
    if (y_row >= e.m || y_column >= e.n) continue;
    T* y = e.y + y_row * e.y_row_stride + y_column;
    if (e.paired && y_column + 1 < e.n) {
      *reinterpret_cast<std::uint32_t*>(y) = pair;
    } else {
      const T* values = reinterpret_cast<const T*>(&pair);
      y[0] = values[0];
      if (y_column + 1 < e.n) y[1] = values[1];
    }
  }
}

template <typename T, int kBits, bool kZeros, typename Shape>
__device__ __forceinline__ void NBitsConsumeMma(const NBitsRing& ring, const Epilogue<T>& epilogue,
                                                const NBitsParams& p) {
  constexpr int kBlocks = Shape::kTokens / 8;  // blocks of 8 rows of a
  using Reader = RecordReader<T, kBits, kZeros>;
  const int warp = threadIdx.x / 32 - Shape::kProducerWarps, lane = threadIdx.x % 32;
  const Reader reader(p, lane);
  const int matrix = lane / 8, line = lane % 8;
  const std::uint32_t record_offset = Shape::kTokenBytes + warp * p.layout.record_bytes();

  // A granule is two steps (32 of K). What it needs is loaded one granule ahead, and its weights
  // are dequantised one step ahead, so that neither latency adds to that of the chain of products.
  std::uint32_t b[2][kBlocks][4], scale[2][2], zero[2][2];
  std::uint32_t q[2][4 * Reader::kWords];  // by atom
  std::uint32_t a[2][4];
  const auto load = [&](std::uint32_t stage, int granule) {
    const int atom = granule / 2, buffer = granule % 2;
    if (granule % 2 == 0) reader.Codes(stage + record_offset, atom, q[atom]);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      reader.Scales(stage + record_offset, 2 * granule + s, &scale[buffer][s], &zero[buffer][s]);
    }
    const std::uint32_t tokens = stage + atom * Shape::kTokens * 128;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      LoadMatrix4(b[buffer][i], tokens + SwizzledOffset(8 * i + line, granule % 2 * 4 + matrix));
    }
  };
  const auto dequantize = [&](int step) {
    const int buffer = step / 2 % 2;
    Dequantizer<T, kBits> dequantizer;
    dequantizer.Set(scale[buffer][step % 2], zero[buffer][step % 2]);
    dequantizer.Step(q[step / 4] + step % 4 * Reader::kWords, a[step % 2]);
  };

  NBitsPosition at;
  for (int tile = blockIdx.x; tile < p.tiles_m * p.tiles_n; tile += gridDim.x) {
    float acc[kBlocks][4] = {};
    BarrierWait(ring.Full(at.stage), at.phase);
    load(ring.Stage(at.stage), 0);
    dequantize(0);
    for (int record = 0; record < p.layout.records_k; ++record) {
      const int done = at.stage;
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        if (step == 6) {
          at.Advance(ring.stages);
          if (record + 1 < p.layout.records_k) {
            BarrierWait(ring.Full(at.stage), at.phase);
            load(ring.Stage(at.stage), 0);
          }
        } else if (step % 2 == 0) {
          load(ring.Stage(done), step / 2 + 1);
        }
        // After the last record this repeats old codes; the result is not used.
        dequantize((step + 1) % 8);
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          const std::uint32_t(&tokens)[4] = b[step / 2 % 2][i];
          MmaStep<T>(acc[i], a[step % 2], tokens[step % 2 * 2], tokens[step % 2 * 2 + 1]);
        }
      }
      if (lane == 0) BarrierArrive(ring.Empty(done));
    }
    int m, n;
    LocateNBitsTile(p, tile, &m, &n);
    const int column0 = (n * Shape::kTiles + warp) * kRecordRows;
    if (column0 >= epilogue.n) continue;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      StoreTransposed<T>(epilogue, m * Shape::kTokens + 8 * i, column0, lane, acc[i]);
    }
  }
}

template <typename T, int kBits, bool kZeros, typename Shape>
__device__ __forceinline__ void NBitsConsumeWgmma(const NBitsRing& ring,
                                                  const Epilogue<T>& epilogue,
                                                  const NBitsParams& p) {
  constexpr int kBlocks = Shape::kTokens / 8;
  using Reader = RecordReader<T, kBits, kZeros>;
  const int warp = threadIdx.x / 32 - Shape::kProducerWarps, lane = threadIdx.x % 32;
  const Reader reader(p, lane);
  const std::uint32_t record_offset = Shape::kTokenBytes + warp * p.layout.record_bytes();

  // By atom (64 of K): codes and scales load while the atom before is dequantised, and that goes
  // into one fragment buffer while the other one is being multiplied.
  std::uint32_t q[2][4 * Reader::kWords], scale[2][4], zero[2][4];
  std::uint32_t a[2][4][4];
  const auto load = [&](std::uint32_t stage, int atom) {
    reader.Codes(stage + record_offset, atom, q[atom]);
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      reader.Scales(stage + record_offset, 4 * atom + s, &scale[atom][s], &zero[atom][s]);
    }
  };

  NBitsPosition at;
  for (int tile = blockIdx.x; tile < p.tiles_m * p.tiles_n; tile += gridDim.x) {
    float acc[4 * kBlocks] = {};
    int previous = -1;
    BarrierWait(ring.Full(at.stage), at.phase);
    load(ring.Stage(at.stage), 0);
    for (int record = 0; record < p.layout.records_k; ++record) {
      const int current = at.stage;
      const std::uint32_t stage = ring.Stage(current);
#pragma unroll
      for (int atom = 0; atom < 2; ++atom) {
        if (atom == 0) {
          load(stage, 1);
        } else {
          at.Advance(ring.stages);
          if (record + 1 < p.layout.records_k) {
            BarrierWait(ring.Full(at.stage), at.phase);
            load(ring.Stage(at.stage), 0);
          }
        }
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          Dequantizer<T, kBits> dequantizer;
          dequantizer.Set(scale[atom][s], zero[atom][s]);
          dequantizer.Step(q[atom] + s * Reader::kWords, a[atom][s]);
        }
        const std::uint64_t b = SwizzledDescriptor(stage + atom * Shape::kTokens * 128);
        PinRegisters(acc);
        WgmmaFence();
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          Wgmma<T, Shape::kTokens>::Register(acc, a[atom][s], b + 2 * s);
        }
        WgmmaCommit();
        PinRegisters(acc);
        WgmmaWait<1>();
        if (atom == 0 && previous >= 0 && lane == 0) BarrierArrive(ring.Empty(previous));
      }
      previous = current;
    }
    WgmmaWait<0>();
    PinRegisters(acc);
    if (previous >= 0 && lane == 0) BarrierArrive(ring.Empty(previous));

    int m, n;
    LocateNBitsTile(p, tile, &m, &n);
    const int column0 = (n * Shape::kTiles + warp) * kRecordRows;
    if (column0 >= epilogue.n) continue;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int row0 = m * Shape::kTokens + 8 * i;
      if (row0 >= epilogue.m) break;
      const float block[4] = {acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]};
      StoreTransposed<T>(epilogue, row0, column0, lane, block);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <typename T, int kBits, bool kZeros, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    NBitsSm90(const __grid_constant__ CUtensorMap map_a, const Epilogue<T> epilogue,
              const NBitsParams params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared[];
  NBitsRing ring;
  ring.base = (SharedAddress(shared) + 1023) & ~1023u;
  ring.stages = params.stages;
  ring.stage_bytes = params.stage_bytes;
  ring.barriers = ring.base + params.stages * params.stage_bytes;

  if (threadIdx.x < 32 * Shape::kProducerWarps) {
    if (threadIdx.x < 32) {
      if (ElectLane()) {
        PrefetchTensorMap(&map_a);
        for (int stage = 0; stage < params.stages; ++stage) {
          BarrierInit(ring.Full(stage), 1);
          BarrierInit(ring.Empty(stage), Shape::kTiles);
        }
        BarrierInitFence();
      }
      __syncwarp();
    }
    // The producer does not wait for the consumers: they only have to see the barriers.
    BlockArrive<Shape::kThreads>();
    if constexpr (Shape::kMoveRegisters) RegistersLower<40>();
    if (threadIdx.x < 32 && ElectLane()) NBitsProduce<Shape>(ring, &map_a, params);
  } else {
    BlockSync<Shape::kThreads>();
    if constexpr (Shape::kWgmma) {
      if constexpr (Shape::kMoveRegisters) RegistersRaise<232>();
      NBitsConsumeWgmma<T, kBits, kZeros, Shape>(ring, epilogue, params);
    } else {
      NBitsConsumeMma<T, kBits, kZeros, Shape>(ring, epilogue, params);
    }
  }
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_CUH_
