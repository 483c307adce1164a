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

  // As many stages as fit, two barriers a stage counted.
  constexpr int kMaxStages = 24;
  params.stage_bytes = static_cast<int>(
      CeilDiv(Shape::kTokenBytes + Shape::kTiles * Shape::kRecords * params.layout.record_bytes(),
              1024) *
      1024);
  params.stages =
      std::min(kMaxStages, (device.max_shared_memory_per_block - Shape::kStagingBytes) /
                               (params.stage_bytes + 16));
  if (params.stages < 2) {
    return Status::Unsupported(
        "MatMulNBits: the tile needs more shared memory than the device has");
  }
  const int shared = params.stages * (params.stage_bytes + 16) + Shape::kStagingBytes;
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
                     {kTileK, Shape::kTokens, whole ? Shape::kAtoms : 1, 1}},
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
          Shape::kTokens,
          Shape::kTiles * kRecordRows,
          &LaunchNBitsSm90<T, kBits, Shape>};
}

// Shapes: records a block, rows of a, records along K a stage. A name is rows x columns a block.
template <typename T>
std::span<const NBitsKernel> Sm90NBitsKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsKernel<T, 4, NBitsShape<4, 8, 2>>("nbits4_8x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 8, 2>>("nbits4_8x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 16, 2>>("nbits4_16x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 16, 2>>("nbits4_16x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 32, 2>>("nbits4_32x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 32, 2>>("nbits4_32x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 64>>("nbits4_64x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 64>>("nbits4_64x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 128>>("nbits4_128x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 128>>("nbits4_128x128"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 256>>("nbits4_256x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 8, 2>>("nbits8_8x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 8, 2>>("nbits8_8x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 32, 2>>("nbits8_32x64"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 64>>("nbits8_64x64"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 128>>("nbits8_128x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 128>>("nbits8_128x128"),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
