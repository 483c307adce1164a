// Grouped products by the tile kernels of GEMM: y[r] = epilogue(a[row_index[r]] w[expert of r]^T).
//
// Layouts: a rows contiguous; weights packed as for Gemm or MatMulNBits, expert after expert; y
//   [sorted rows, n].
// Accumulation: that of ComputeGemmTile and ComputeGemmF32, contracts gemm.tc16, gemm.nbits.tc16,
//   gemm.f32 and gemm.nbits.f32.
// May vary freely: tile shape, which rows share a tile, the order of tiles. Blocks of tiles that
//   there are not return at once.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/gemm/gemm_f32.cuh"
#include "kernels/cuda/gemm/gemm_tile.cuh"
#include "kernels/cuda/matmul_nbits/read_packed.cuh"
#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

// The rows of one tile of a, by way of the index.
template <typename T>
struct TileRows {
  const T* data;
  const std::int32_t* row_index;
  int first;
  int rows;
  int k;

  __device__ __forceinline__ const T* At(int row, int kk) const {
    const std::int64_t from = row_index == nullptr ? first + row : row_index[first + row];
    return data + from * k + kk;
  }
  __device__ __forceinline__ void Enter(const RowTile& tile) {
    first = tile.first;
    rows = tile.count;
  }
};

// Rows 16-byte aligned, or any.
template <typename T, bool kVectors>
struct FillTileRows {
  static constexpr bool kKMajor = true;
  TileRows<T> x;

  template <int kRows, int kThreads>
  __device__ __forceinline__ void Fill(unsigned char* tile, int, int row0, int k0) const {
    const std::uint32_t address = SharedAddress(tile);
#pragma unroll
    for (int i = threadIdx.x; i < kRows * 8; i += kThreads) {
      const int row = i / 8, chunk = i % 8;
      const int k = k0 + 8 * chunk;
      const bool inside = row0 + row < x.rows && k < x.k;
      const T* source = inside ? x.At(row0 + row, k) : x.data;
      const int count = inside ? min(8, x.k - k) : 0;
      if constexpr (kVectors) {
        CopyAsync16(address + SwizzledOffset(row, chunk), source, 2 * count);
      } else {
        alignas(16) T values[8];
#pragma unroll
        for (int e = 0; e < 8; ++e) values[e] = e < count ? source[e] : T(0.0f);
        *reinterpret_cast<uint4*>(tile + SwizzledOffset(row, chunk)) =
            *reinterpret_cast<const uint4*>(values);
      }
    }
  }
};

struct ReadTileRowsF32 {
  TileRows<float> x;
  __device__ __forceinline__ float Read(int, int row, int k) const {
    return row < x.rows && k < x.k ? *x.At(row, k) : 0.0f;
  }
  __device__ __forceinline__ bool KContiguous() const { return true; }
};

// Where an expert's weights begin.
template <typename T>
__device__ __forceinline__ void EnterExpert(FillKVectors<T>& fill, std::int64_t bytes, int expert) {
  fill.x.data += expert * (bytes / static_cast<std::int64_t>(sizeof(T)));
}
template <typename T>
__device__ __forceinline__ void EnterExpert(FillPacked<T>& fill, std::int64_t bytes, int expert) {
  fill.w.packed += expert * bytes;
}
__device__ __forceinline__ void EnterExpert(ReadF32& read, std::int64_t bytes, int expert) {
  read.x.data += expert * (bytes / static_cast<std::int64_t>(sizeof(float)));
}
__device__ __forceinline__ void EnterExpert(ReadPackedF32& read, std::int64_t bytes, int expert) {
  read.w.packed += expert * bytes;
}

struct GroupedTiles {
  const RowTile* tiles;
  const std::int32_t* tile_count;
  int max_tiles;
  std::int64_t expert_bytes;

  // The tile and column of this block; false: there is none. Tiles of one expert follow one
  // another, so that its columns are read once.
  template <typename Rows, typename Weights, typename T>
  __device__ __forceinline__ bool Enter(Rows& rows, Weights& weights, Epilogue<T>& epilogue,
                                        int* column) const {
    const int index = blockIdx.x % max_tiles;
    if (index >= *tile_count) return false;
    *column = blockIdx.x / max_tiles;
    const RowTile tile = tiles[index];
    rows.Enter(tile);
    EnterExpert(weights, expert_bytes, tile.expert);
    epilogue.y += tile.first * epilogue.y_row_stride;
    epilogue.m = tile.count;
    if (epilogue.c != nullptr) epilogue.c += std::int64_t{tile.expert} * epilogue.n;
    return true;
  }
};

// Two blocks a multiprocessor: left to aim for more, the compiler spills.
template <typename T, typename Shape, bool kRuns, typename FillA, typename FillB>
__global__ void __launch_bounds__(Shape::kThreads, 2)
    GroupedTile(GroupedTiles tiles, FillA fill_a, FillB fill_b, Epilogue<T> epilogue, int k,
                int run_k) {
  extern __shared__ __align__(1024) unsigned char shared[];
  int column;
  if (!tiles.Enter(fill_a.x, fill_b, epilogue, &column)) return;
  ComputeGemmTile<T, Shape, kRuns>(shared, fill_a, fill_b, epilogue, k, run_k, 0, 0,
                                   column * Shape::kN);
}

template <int kM, int kN, typename ReadB>
__global__ void __launch_bounds__(256) GroupedF32(GroupedTiles tiles, ReadTileRowsF32 read_a,
                                                  ReadB read_b, Epilogue<float> epilogue, int k) {
  int column;
  if (!tiles.Enter(read_a.x, read_b, epilogue, &column)) return;
  ComputeGemmF32<kM, kN>(read_a, read_b, epilogue, k, 0, 0, column * kN);
}

inline std::int64_t ExpertBytes(const GroupedArgs& args) {
  return static_cast<std::int64_t>(args.weights.plan != nullptr
                                       ? PackedMatMulNBitsBytes(*args.weights.plan)
                                       : PackedGemmWeightBytes(args.type, args.k, args.n));
}

// What Gemm would be called with for the first expert.
inline GemmArgs FirstExpert(const GroupedArgs& args) {
  GemmArgs g;
  g.type = args.type;
  g.n = args.n;
  g.k = args.k;
  g.packed_b = args.weights.packed;
  g.c = {args.weights.bias, 0, 1};
  g.y = args.y;
  g.y_row_stride = args.n;
  return g;
}

inline Status CountBlocks(const GroupedArgs& args, int columns, unsigned* blocks) {
  const std::int64_t count = args.max_tiles * CeilDiv(args.n, columns);
  if (count > 0x7fffffff) {
    return Status::Unsupported("mixture of experts: more than 2^31 - 1 output tiles");
  }
  *blocks = static_cast<unsigned>(count);
  return Status::Ok();
}

template <typename T>
TileRows<T> RowsOf(const GroupedArgs& args) {
  return {static_cast<const T*>(args.a), args.row_index, 0, 0, static_cast<int>(args.k)};
}

inline GroupedTiles TilesOf(const GroupedArgs& args) {
  return {args.tiles, args.tile_count, static_cast<int>(args.max_tiles), ExpertBytes(args)};
}

// A tile may begin at any sorted row, so pairs and vectors of y are as aligned as its rows.
template <typename T>
Epilogue<T> GroupedEpilogue(const GroupedArgs& args) {
  return MakeEpilogue<T>(FirstExpert(args));
}

template <typename T, typename Shape, bool kRuns, bool kVectors, typename FillB>
Status LaunchGroupedTile(const GroupedArgs& args, const FillB& fill_b, std::int64_t run_k,
                         Stream stream) {
  unsigned blocks = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(CountBlocks(args, Shape::kN, &blocks));
  auto* kernel = &GroupedTile<T, Shape, kRuns, FillTileRows<T, kVectors>, FillB>;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, Shape::kSharedBytes, "GroupedTile"));
  kernel<<<blocks, Shape::kThreads, Shape::kSharedBytes, stream>>>(
      TilesOf(args), FillTileRows<T, kVectors>{RowsOf<T>(args)}, fill_b, GroupedEpilogue<T>(args),
      static_cast<int>(args.k), static_cast<int>(run_k));
  return LaunchStatus("GroupedTile");
}

template <typename T>
bool HasVectorRows(const GroupedArgs& args) {
  return args.k % 8 == 0 && reinterpret_cast<std::uintptr_t>(args.a) % 16 == 0;
}

template <int kM, int kN, typename ReadB>
Status LaunchGroupedF32(const GroupedArgs& args, const ReadB& read_b, Stream stream) {
  unsigned blocks = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(CountBlocks(args, kN, &blocks));
  GroupedF32<kM, kN>
      <<<blocks, 256, 0, stream>>>(TilesOf(args), ReadTileRowsF32{RowsOf<float>(args)}, read_b,
                                   GroupedEpilogue<float>(args), static_cast<int>(args.k));
  return LaunchStatus("GroupedF32");
}

// Weights in the element type.
template <typename T, typename Shape>
Status GroupedGemm(const GroupedArgs& args, Stream stream) {
  const FillKVectors<T> b{OperandB<T>(FirstExpert(args))};
  return HasVectorRows<T>(args)
             ? LaunchGroupedTile<T, Shape, false, true>(args, b, args.k, stream)
             : LaunchGroupedTile<T, Shape, false, false>(args, b, args.k, stream);
}
template <int kM, int kN>
Status GroupedGemmF32(const GroupedArgs& args, Stream stream) {
  return LaunchGroupedF32<kM, kN>(args, ReadF32{OperandB<float>(FirstExpert(args))}, stream);
}

// Weights of few bits.
template <typename T, typename Shape>
Status GroupedNBits(const GroupedArgs& args, Stream stream) {
  const FillPacked<T> w{PackedWeightsOf<T>(*args.weights.plan, args.weights.packed)};
  const int runs = args.weights.plan->runs();
  const bool vectors = HasVectorRows<T>(args);
  if (runs == 1) {
    return vectors ? LaunchGroupedTile<T, Shape, false, true>(args, w, args.k, stream)
                   : LaunchGroupedTile<T, Shape, false, false>(args, w, args.k, stream);
  }
  // K is a multiple of 1024 then; only an unaligned a has no vectors.
  return vectors ? LaunchGroupedTile<T, Shape, true, true>(args, w, args.k / runs, stream)
                 : LaunchGroupedTile<T, Shape, true, false>(args, w, args.k / runs, stream);
}
template <int kM, int kN>
Status GroupedNBitsF32(const GroupedArgs& args, Stream stream) {
  return LaunchGroupedF32<kM, kN>(
      args, ReadPackedF32{PackedWeightsOf<float>(*args.weights.plan, args.weights.packed)}, stream);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_CUH_
