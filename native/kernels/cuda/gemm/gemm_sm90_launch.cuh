// Host side of gemm_sm90.cuh: tensor maps, cluster launch.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/common/tensor_map.h"
#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/gemm/gemm_sm90.cuh"

namespace batch_invariant::cuda {

template <typename T, typename Shape>
Status LaunchGemmSm90(const GemmArgs& g, const DeviceInfo& device, Stream stream) {
  auto* kernel = &GemmSm90<T, Shape>;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, Shape::kSharedBytes, "GemmSm90"));

  CUtensorMap map_a, map_b;
  const std::int64_t batch_a = g.a_batch_stride != 0 ? g.batch : 1;
  const std::int64_t batch_b = g.b_batch_stride != 0 ? g.batch : 1;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeTensorMap({g.type, g.a.data, g.k, g.m, batch_a, g.a.row_stride, g.a_batch_stride, kTileK,
                     Shape::kRowsA / Shape::kClusterN},
                    &map_a));
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeTensorMap({g.type, g.b.data, g.k, g.n, batch_b, g.b.column_stride, g.b_batch_stride,
                     kTileK, Shape::kN / Shape::kClusterM},
                    &map_b));

  constexpr int kClusterBlocks = Shape::kClusterM * Shape::kClusterN;
  const std::int64_t clusters_m = CeilDiv(g.m, Shape::kM * Shape::kClusterM);
  const std::int64_t clusters_n = CeilDiv(g.n, Shape::kN * Shape::kClusterN);
  const std::int64_t tiles = clusters_m * clusters_n * g.batch;
  if (tiles > 0x3fffffff) {
    return Status::Unsupported("MatMul: more than 2^30 output tiles; split the batch");
  }
  Sm90Params params;
  params.order = {static_cast<int>(clusters_m), static_cast<int>(clusters_n),
                  static_cast<int>(g.batch)};
  params.steps = static_cast<int>(CeilDiv(g.k, kTileK * Shape::kAtoms));
  params.a_batched = g.a_batch_stride != 0;
  params.b_batched = g.b_batch_stride != 0;

  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = kClusterBlocks;
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(
      std::min<std::int64_t>(tiles, device.multiprocessors / kClusterBlocks) * kClusterBlocks));
  config.blockDim = dim3(Shape::kThreads);
  config.dynamicSmemBytes = Shape::kSharedBytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = kClusterBlocks > 1 ? 1 : 0;
  return ToStatus(cudaLaunchKernelEx(&config, kernel, map_a, map_b, MakeEpilogue<T>(g), params),
                  "GemmSm90");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_LAUNCH_CUH_
