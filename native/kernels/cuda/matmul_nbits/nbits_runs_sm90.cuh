// MatMulNBits, fp16 and bf16, compute capability 9.0, few rows of a: y = epilogue(a w^T).
//
// Layouts: a [m, k], rows 16-byte aligned; weights in records (packed_layout.h); y rows contiguous.
// Accumulation: contract gemm.nbits.tc16. Weights are dequantised in registers into the A operand,
//   activations are the B operand of mma.sync: one fp32 accumulator per output and run, from +0, K
//   ascending in steps of 16; the sums of the runs are added ascending.
// May vary freely: rows of a tile, stages, the order of tiles.
//
// A block has a warp for each 16 of its weight rows and run of K: 14 to 24 chains of products that
// hide one another's latency. Eight runs: 32 or 48 weight rows; one run: 224 or 256. A stage of the
// ring holds 128 or 256 along K of every run.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_RUNS_SM90_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_RUNS_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90.cuh"

namespace batch_invariant::cuda {

// kTiles records (16 weight rows each) by kTokens rows of a; kRecords along K of each run a stage.
template <int kTokens_, int kTiles_, int kRuns_ = 8, int kRecords_ = 1>
struct NBitsRunShape {
  static constexpr int kTokens = kTokens_, kTiles = kTiles_, kRuns = kRuns_, kRecords = kRecords_;
  static constexpr int kWarps = kRuns * kTiles;
  static constexpr int kBlocks = kTokens / 8;  // of columns of a product
  static constexpr int kThreads = 32 * (kWarps + 2);
  static constexpr int kAtoms = 2 * kRecords;  // of 64 along K
  static constexpr int kRunTokenBytes = kAtoms * kTokens * 128;
  static constexpr int kTokenBytes = kRuns * kRunTokenBytes;
  // The sums of all warps, on their way to those of the first run.
  static constexpr int kSumBytes = kRuns == 1 ? 0 : kWarps * kBlocks * 32 * 16;
  static_assert(kRuns == 1 ? kTiles % 2 == 0 : kRecords == 1);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename Shape, typename Order>
__device__ __forceinline__ void NBitsRunsProduce(const NBitsRing& ring, const CUtensorMap* map_a,
                                                 const NBitsParams<Order>& p, bool first_rows,
                                                 std::uint32_t came) {
  const std::uint64_t keep = PolicyEvictLast();
  const std::uint64_t once = p.order.ReadsOnce() ? PolicyEvictFirst() : PolicyEvictLast();
  const int record_bytes = p.layout.record_bytes();
  int batch, m, n;
  const auto enter = [&](int tile) { p.order.Locate(tile, &batch, &m, &n); };
  const auto copy_weights = [&](int stage, int step) {
    const std::uint32_t full = ring.Full(stage);
    const std::uint32_t to = ring.Stage(stage) + Shape::kTokenBytes;
    const unsigned char* packed = p.order.Weights(p.packed, m);
    // Even and odd records lie in pairs. Blocks of two have whole pairs.
    const int first = n * Shape::kTiles;
    const int tiles = Shape::kTiles == 2 ? 2 : min(Shape::kTiles, p.layout.records_n - first);
    BarrierExpectBytes(full, Shape::kTokenBytes + Shape::kRuns * tiles * record_bytes);
#pragma unroll
    for (int run = 0; run < Shape::kRuns; ++run) {
      const std::int64_t along = run * p.run_records + step;
      for (int tile = 0, count; tile < tiles; tile += count) {
        const int record = first + tile, odd = Shape::kTiles == 2 ? 0 : record & 1;
        count = odd == 0 && tile + 1 < tiles ? 2 : 1;
        BulkCopy(to + (run * Shape::kTiles + tile) * record_bytes,
                 packed + ((std::int64_t{record / 2} * p.layout.records_k + along) * 2 + odd) *
                              record_bytes,
                 count * record_bytes, full, once);
      }
    }
  };
  const auto copy_tokens = [&](int stage, int step) {
    TensorCopy(ring.Stage(stage), map_a, ring.Full(stage),
               {0, p.order.template FirstRow<Shape::kTokens>(m), 2 * step, 0}, keep);
  };
  NBitsProduceTiles(ring, p, p.run_records, first_rows, came, enter, copy_weights, copy_tokens);
}

// What the kernel's instance says of the layout as constants, so that places inside a record become
// offsets of loads.
template <int kBits, bool kZeros, int kPartShift, typename Order>
__device__ __forceinline__ NBitsParams<Order> WithKnownLayout(NBitsParams<Order> p) {
  p.layout.bits = kBits;
  p.layout.has_zeros = kZeros;
  p.layout.element = 2;
  if constexpr (kPartShift != 0) {
    p.layout.part_shift = kPartShift;
    p.layout.parts = kRecordK >> kPartShift;
  }
  return p;
}

// The sums of one tile and this warp's run, from the ring's position on.
template <typename T, int kBits, bool kZeros, int kPartShift, typename Shape, typename Order>
__device__ __forceinline__ void NBitsRunMultiply(NBitsRing ring, const NBitsParams<Order>& params,
                                                 NBitsPosition& at,
                                                 float (&acc)[Shape::kBlocks][4]) {
  constexpr int kBlocks = Shape::kBlocks, kRecords = Shape::kRecords;
  using Reader = RecordReader<T, kBits, kZeros, kPartShift>;
  const NBitsParams<Order> p = WithKnownLayout<kBits, kZeros, kPartShift>(params);
  const int warp = threadIdx.x / 32 - 2;
  int lane = threadIdx.x % 32;
  Reader reader(p, lane);
  const int record_bytes = p.layout.record_bytes(), records = p.run_records;
  const std::uint32_t codes =
      Shape::kTokenBytes + (warp / 2 * kRecords * 2 + warp % 2) * record_bytes;
  const std::uint32_t tokens = warp / Shape::kTiles * Shape::kRunTokenBytes;
  std::uint32_t lane_tokens[2] = {
      tokens + static_cast<std::uint32_t>(SwizzledOffset(lane % 8, lane / 8)),
      tokens + static_cast<std::uint32_t>(SwizzledOffset(lane % 8, lane / 8 + 4))};
  reader.lane_codes += codes;
  reader.lane_scales += codes;
  // Otherwise the compiler computes them anew for every record, from special registers on.
  asm volatile(""
               : "+r"(reader.lane_codes), "+r"(reader.lane_scales), "+r"(lane_tokens[0]),
                 "+r"(lane_tokens[1]), "+r"(lane), "+r"(ring.base), "+r"(ring.barriers));

  // While a record is multiplied, codes and rows of a of the next one arrive in the registers that
  // it has read, and its first step is dequantised. Past the last record something is read as well,
  // and the result not used.
  std::uint32_t q[2][4 * Reader::kWords], scale[2][Reader::kScales], zero[2][Reader::kScales];
  std::uint32_t a[2][4], b[kBlocks][4][4];  // a: by step
  Dequantizer<T, kBits> dequantizer;
  std::uint32_t stage;
  // `in`: which record of the stage.
  const auto load_codes = [&](int in, int atom) {
    reader.Load(stage + in * 2 * record_bytes, atom, q[atom], scale[atom], zero[atom]);
  };
  const auto load_tokens = [&](int in, int pair) {
    const std::uint32_t first =
        stage + lane_tokens[pair % 2] + (2 * in + pair / 2) * Shape::kTokens * 128;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) LoadMatrix4(b[i][pair], first + i * 1024);
  };
  const auto dequantize = [&](int step) {
    const int atom = step / 4, s = step % 4;
    if (s % Reader::kStepsAScale == 0) {
      dequantizer.Set(scale[atom][s / Reader::kStepsAScale], zero[atom][s / Reader::kStepsAScale]);
    }
    dequantizer.Step(q[atom] + s * Reader::kWords, a[step % 2]);
  };

#pragma unroll
  for (auto& block : acc) {
#pragma unroll
    for (float& x : block) x = 0.0f;
  }
  BarrierWait(ring.Full(at.stage), at.phase);
  stage = ring.Stage(at.stage);
#pragma unroll
  for (int atom = 0; atom < 2; ++atom) load_codes(0, atom);
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) load_tokens(0, pair);
  dequantize(0);
  for (int record = 0; record < records; record += kRecords) {
#pragma unroll
    for (int in = 0; in < kRecords; ++in) {
      const bool more = record + in + 1 < records;
      if (in + 1 == kRecords || !more) {
        // The stage has been read, its last record while the one before was multiplied.
        __syncwarp();
        if (lane == 0) BarrierArrive(ring.Empty(at.stage));
        at.Advance(ring.stages);
        if (more) {
          BarrierWait(ring.Full(at.stage), at.phase);
          stage = ring.Stage(at.stage);
        }
      }
      const int next = (in + 1) % kRecords;
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        if (step % 4 == 3) load_codes(next, step / 4);
        dequantize((step + 1) % 8);
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          const std::uint32_t(&rows)[4] = b[i][step / 2];
          MmaStep<T>(acc[i], a[step % 2], rows[step % 2 * 2], rows[step % 2 * 2 + 1]);
        }
        if (step % 2 == 1) load_tokens(next, step / 2);
      }
      if (!more) break;
    }
  }
}

template <typename T, int kBits, bool kZeros, typename Shape, typename Order>
__device__ __forceinline__ void NBitsRunsConsume(const NBitsRing& ring, float4* sums,
                                                 const Epilogue<T>& all,
                                                 const NBitsParams<Order>& p) {
  constexpr int kBlocks = Shape::kBlocks;
  const int warp = threadIdx.x / 32 - 2, lane = threadIdx.x % 32;
  NBitsPosition at;
  for (int tile = blockIdx.x; tile < p.order.count(); tile += gridDim.x) {
    float acc[kBlocks][4];
    switch (p.layout.part_shift) {
      case 5:
        NBitsRunMultiply<T, kBits, kZeros, 5, Shape>(ring, p, at, acc);
        break;
      case 7:
        NBitsRunMultiply<T, kBits, kZeros, 7, Shape>(ring, p, at, acc);
        break;
      default:
        NBitsRunMultiply<T, kBits, kZeros, 0, Shape>(ring, p, at, acc);
    }
    int batch, m, n;
    p.order.Locate(tile, &batch, &m, &n);
    const int row0 = p.order.template FirstRow<Shape::kTokens>(m);
    const int column0 = (n * Shape::kTiles + warp % Shape::kTiles) * kRecordRows;
    const auto& epilogue = p.order.EpilogueOf(all, m);
    const auto store = [&](int block, const float(&values)[4]) {
      if ((epilogue.gated ? column0 / 2 : column0) < epilogue.n) {
        StoreTransposed<T>(epilogue, row0 + 8 * block, column0, lane, values);
      }
    };
    if constexpr (Shape::kRuns == 1) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) store(i, acc[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        sums[(warp * kBlocks + i) * 32 + lane] =
            make_float4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
      }
      ConsumerSync<32 * Shape::kWarps>();
      if (warp < Shape::kTiles) {
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          float total[4] = {};
#pragma unroll
          for (int run = 0; run < Shape::kRuns; ++run) {
            const float4 sum = sums[((run * Shape::kTiles + warp) * kBlocks + i) * 32 + lane];
            total[0] = __fadd_rn(total[0], sum.x);
            total[1] = __fadd_rn(total[1], sum.y);
            total[2] = __fadd_rn(total[2], sum.z);
            total[3] = __fadd_rn(total[3], sum.w);
          }
          store(i, total);
        }
      }
      ConsumerSync<32 * Shape::kWarps>();
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <typename T, int kBits, bool kZeros, typename Shape, typename Order>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    NBitsRunsSm90(const __grid_constant__ CUtensorMap map_a, const Epilogue<T> epilogue,
                  const NBitsParams<Order> params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  LaunchDependents();
  if constexpr (Order::kOnDevice) WaitForDependencies();
  extern __shared__ __align__(1024) unsigned char shared[];  // for the swizzle
  NBitsRing ring;
  ring.base = SharedAddress(shared);
  ring.stages = params.stages;
  ring.stage_bytes = params.stage_bytes;
  ring.barriers = ring.base + params.stages * params.stage_bytes;
  auto* sums = reinterpret_cast<float4*>(shared + params.stages * (params.stage_bytes + 16));

  const std::uint32_t came = NBitsCame<Shape::kSumBytes>(ring);
  const int warp = threadIdx.x / 32;
  if (warp < 2) {
    if (warp == 0 && ElectLane()) {
      BarrierInit(came, 1);
      PrefetchTensorMap(&map_a);
      for (int stage = 0; stage < params.stages; ++stage) {
        BarrierInit(ring.Full(stage), 1);
        BarrierInit(ring.Empty(stage), Shape::kWarps);
      }
      BarrierInitFence();
    }
    __syncwarp();
    NBitsArrive<Shape::kThreads>(warp);
    if (ElectLane()) {
      if constexpr (Shape::kRuns == 1) {
        NBitsProduce<Shape>(ring, &map_a, params, warp == 1, came);
      } else {
        NBitsRunsProduce<Shape>(ring, &map_a, params, warp == 1, came);
      }
    }
  } else {
    BlockSync<Shape::kThreads>();
    NBitsRunsConsume<T, kBits, kZeros, Shape>(ring, sums, epilogue, params);
  }
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_RUNS_SM90_CUH_
