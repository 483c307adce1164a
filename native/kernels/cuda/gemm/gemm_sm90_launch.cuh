// Host side of gemm_sm90.cuh: tensor maps, cluster launch.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/common/pace.h"
#include "kernels/cuda/common/tensor_map.h"
#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/gemm/gemm_sm90.cuh"

namespace batch_invariant::cuda {

template <typename T, typename Shape>
Status LaunchGemmSm90(const GemmArgs& g, const DeviceInfo& device, Stream stream) {
  auto* kernel = g.silu_gated ? &GemmSm90<T, Shape, true> : &GemmSm90<T, Shape, false>;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, Shape::kSharedBytes, "GemmSm90"));

  constexpr int kSliceA = Shape::kRowsA / Shape::kClusterN;
  constexpr int kSliceB = Shape::kN / Shape::kClusterM;
  CUtensorMap map_a, map_b;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeTensorMap({g.type,
                                                 g.a.data,
                                                 {g.k, g.m, g.a_batch_stride != 0 ? g.batch : 1, 1},
                                                 {g.a.row_stride, g.a_batch_stride, 0},
                                                 {kTileK, kSliceA, 1, 1}},
                                                &map_a));
  if (g.packed_b != nullptr) {
    const std::int64_t tiles_k = PackedTilesK(g.k);
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeTensorMap({g.type,
                       g.packed_b,
                       {kPackedK, kPackedColumns, tiles_k, PackedTilesN(g.n)},
                       {kPackedK, kPackedTile, tiles_k * kPackedTile},
                       {kPackedK, kPackedColumns, 1, kSliceB / kPackedColumns}},
                      &map_b));
  } else {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeTensorMap({g.type,
                       g.b.data,
                       {g.k, g.n, g.b_batch_stride != 0 ? g.batch : 1, 1},
                       {g.b.column_stride, g.b_batch_stride, 0},
                       {kTileK, kSliceB, 1, 1}},
                      &map_b));
  }

  const Epilogue<T> epilogue = MakeEpilogue<T>(g);
  const int box = g.silu_gated ? kBoxColumns<Shape, Shape::kN / 2> : kBoxColumns<Shape, Shape::kN>;
  CUtensorMap map_y = {};
  if (box > 0 && epilogue.wide) {
    BATCH_INVARIANT_RETURN_IF_ERROR(MakeTensorMap({g.type,
                                                   g.y,
                                                   {epilogue.n, g.m, g.batch, 1},
                                                   {g.y_row_stride, g.y_batch_stride, 0},
                                                   {box, 64, 1, 1}},
                                                  &map_y));
  }

  constexpr int kClusterBlocks = Shape::kClusterM * Shape::kClusterN;
  const std::int64_t clusters_m = CeilDiv(g.m, Shape::kRowsA * Shape::kClusterM);
  const std::int64_t clusters_n = CeilDiv(g.n, Shape::kN * Shape::kClusterN);
  const std::int64_t tiles = clusters_m * clusters_n * g.batch;
  if (tiles > 0x3fffffff) {
    return Status::Unsupported("MatMul: more than 2^30 output tiles; split the batch");
  }
  constexpr int kGroup = 8;
  Sm90Params params;
  params.order = {static_cast<int>(clusters_m), static_cast<int>(clusters_n),
                  static_cast<int>(g.batch), kGroup};
  params.steps = static_cast<int>(CeilDiv(g.k, kTileK * Shape::kAtoms));
  params.a_batched = g.a_batch_stride != 0;
  params.b_batched = g.b_batch_stride != 0;
  params.b_packed = g.packed_b != nullptr;
  params.b_ready = g.packed_b != nullptr && g.packed_b_is_ready;
  params.pace = PaceCycles(Shape::kAtoms * Shape::kAtomBytesB);

  cudaLaunchAttribute attributes[2] = {OverlapAttribute()};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = kClusterBlocks;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(
      std::min<std::int64_t>(tiles, device.multiprocessors / kClusterBlocks) * kClusterBlocks));
  config.blockDim = dim3(Shape::kThreads);
  config.dynamicSmemBytes = Shape::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = kClusterBlocks > 1 ? 2 : 1;
  return ToStatus(cudaLaunchKernelEx(&config, kernel, map_a, map_b, epilogue, params, map_y),
                  "GemmSm90");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_
