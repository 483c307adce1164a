// Launch of nbits_sm90.cuh and its shapes, once; each element type instantiates them in a file of
// its own.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/common/tensor_map.h"
#include "kernels/cuda/matmul_nbits/nbits_args.h"
#include "kernels/cuda/matmul_nbits/nbits_sm90.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90_table.h"

namespace batch_invariant::cuda {

template <typename T, int kBits, typename Shape>
Status LaunchNBitsSm90(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                       const DeviceInfo& device, Stream stream) {
  const GemmArgs g = AsGemm(plan, args);
  NBitsParams params;
  params.packed = static_cast<const unsigned char*>(args.packed);
  params.layout = LayoutOf(plan);
  params.default_zero = ZeroOffset(plan.type, kBits) + static_cast<float>(1 << (plan.bits - 1));
  params.tiles_m = static_cast<int>(CeilDiv(args.m, Shape::kTokens));
  params.tiles_n = static_cast<int>(CeilDiv(params.layout.records_n, Shape::kTiles));
  const std::int64_t tiles = std::int64_t{params.tiles_m} * params.tiles_n;
  if (tiles > 0x3fffffff) return Status::Unsupported("MatMulNBits: more than 2^30 output tiles");

  // As many stages as fit, the swizzle's alignment and two barriers a stage counted.
  constexpr int kMaxStages = 24;
  params.stage_bytes = static_cast<int>(
      CeilDiv(Shape::kTokenBytes + Shape::kTiles * params.layout.record_bytes(), 1024) * 1024);
  params.stages =
      std::min(kMaxStages, (device.max_shared_memory_per_block - 1024) / (params.stage_bytes + 16));
  if (params.stages < 2) {
    return Status::Unsupported(
        "MatMulNBits: the tile needs more shared memory than the device has");
  }
  const int shared = 1024 + params.stages * (params.stage_bytes + 16);
  auto* kernel = params.layout.has_zeros ? &NBitsSm90<T, kBits, true, Shape>
                                         : &NBitsSm90<T, kBits, false, Shape>;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      AllowSharedMemory(kernel, device.max_shared_memory_per_block, "NBitsSm90"));

  CUtensorMap map_a;
  const bool whole = plan.k % kTileK == 0;
  params.whole = whole;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeTensorMap({plan.type,
                     args.a,
                     {whole ? kTileK : plan.k, args.m, whole ? plan.k / kTileK : 1, 1},
                     {args.a_row_stride, kTileK, 0},
                     {kTileK, Shape::kTokens, whole ? 2 : 1, 1}},
                    &map_a));
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(tiles, device.multiprocessors));
  kernel<<<blocks, Shape::kThreads, shared, stream>>>(map_a, MakeEpilogue<T>(g), params);
  return LaunchStatus("NBitsSm90");
}

template <typename T, int kBits, typename Shape>
constexpr NBitsKernel MakeNBitsKernel(const char* name) {
  return {name,
          std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
          kBits,
          true,
          Shape::kWgmma,
          Shape::kTokens,
          Shape::kTiles * kRecordRows,
          &LaunchNBitsSm90<T, kBits, Shape>};
}

// Shapes: wgmma or mma.sync, records a block, rows of a block.
template <typename T>
std::span<const NBitsKernel> Sm90NBitsKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsKernel<T, 4, NBitsShape<false, 2, 8>>("nbits4_mma_8x32"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 4, 8>>("nbits4_mma_8x64"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 8, 8>>("nbits4_mma_8x128"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 2, 16>>("nbits4_mma_16x32"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 8, 16>>("nbits4_mma_16x128"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 2, 32>>("nbits4_mma_32x32"),
      MakeNBitsKernel<T, 4, NBitsShape<false, 4, 32>>("nbits4_mma_32x64"),
      MakeNBitsKernel<T, 4, NBitsShape<true, 4, 64>>("nbits4_wgmma_64x64"),
      MakeNBitsKernel<T, 4, NBitsShape<true, 8, 64>>("nbits4_wgmma_64x128"),
      MakeNBitsKernel<T, 4, NBitsShape<true, 4, 128>>("nbits4_wgmma_128x64"),
      MakeNBitsKernel<T, 4, NBitsShape<true, 8, 128>>("nbits4_wgmma_128x128"),
      MakeNBitsKernel<T, 4, NBitsShape<true, 8, 256>>("nbits4_wgmma_256x128"),
      MakeNBitsKernel<T, 8, NBitsShape<false, 2, 8>>("nbits8_mma_8x32"),
      MakeNBitsKernel<T, 8, NBitsShape<false, 8, 8>>("nbits8_mma_8x128"),
      MakeNBitsKernel<T, 8, NBitsShape<false, 4, 16>>("nbits8_mma_16x64"),
      MakeNBitsKernel<T, 8, NBitsShape<false, 2, 32>>("nbits8_mma_32x32"),
      MakeNBitsKernel<T, 8, NBitsShape<true, 4, 64>>("nbits8_wgmma_64x64"),
      MakeNBitsKernel<T, 8, NBitsShape<true, 8, 128>>("nbits8_wgmma_128x128"),
      MakeNBitsKernel<T, 8, NBitsShape<true, 4, 128>>("nbits8_wgmma_128x64"),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
