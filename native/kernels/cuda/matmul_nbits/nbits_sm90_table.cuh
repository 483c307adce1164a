// Launch of nbits_sm90.cuh and its shapes, once; each element type instantiates them in a file of
// its own.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/common/pace.h"
#include "kernels/cuda/common/tensor_map.h"
#include "kernels/cuda/matmul_nbits/nbits_args.h"
#include "kernels/cuda/matmul_nbits/nbits_runs_sm90.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90_table.h"

namespace batch_invariant::cuda {

// What both kinds of kernels share. `fixed` bytes of shared memory do not belong to the ring.
template <typename T, int kBits, typename Shape>
Status MakeNBitsParams(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                       const DeviceInfo& device, int records_per_stage, int fixed,
                       NBitsParams* params) {
  params->packed = static_cast<const unsigned char*>(args.packed);
  params->layout = LayoutOf(plan);
  params->default_zero = ZeroOffset(plan.type, kBits) + static_cast<float>(1 << (plan.bits - 1));
  constexpr int kGroupRows = 2048;  // of a
  params->order = {static_cast<int>(CeilDiv(args.m, Shape::kTokens)),
                   static_cast<int>(CeilDiv(params->layout.records_n, Shape::kTiles)), 1,
                   kGroupRows / Shape::kTokens};
  params->run_records = static_cast<int>(CeilDiv(params->layout.records_k, plan.runs()));
  params->whole = plan.k % kTileK == 0;
  params->ready = args.packed_is_ready;
  params->pace = PaceCycles(records_per_stage * params->layout.record_bytes());
  if (std::int64_t{params->order.tiles_m} * params->order.tiles_n > 0x3fffffff) {
    return Status::Unsupported("MatMulNBits: more than 2^30 output tiles");
  }
  // As many stages as fit, two barriers a stage counted.
  constexpr int kMaxStages = 24;
  params->stage_bytes = static_cast<int>(
      CeilDiv(Shape::kTokenBytes + records_per_stage * params->layout.record_bytes(), 1024) * 1024);
  params->stages = std::min(kMaxStages, (device.max_shared_memory_per_block - fixed - kCameBytes) /
                                            (params->stage_bytes + 16));
  if (params->stages < 2) {
    return Status::Unsupported(
        "MatMulNBits: the tile needs more shared memory than the device has");
  }
  return Status::Ok();
}

template <typename T, typename Kernel>
Status LaunchNBits(Kernel* kernel, const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                   const DeviceInfo& device, int threads, int fixed, const TensorMapShape& tokens,
                   const NBitsParams& params, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(
      AllowSharedMemory(kernel, device.max_shared_memory_per_block, "NBitsSm90"));
  CUtensorMap map_a;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeTensorMap(tokens, &map_a));
  const int tiles = params.order.tiles_m * params.order.tiles_n;
  const auto blocks = static_cast<unsigned>(std::min(tiles, device.multiprocessors));
  return LaunchOverlapped(kernel, blocks, threads,
                          params.stages * (params.stage_bytes + 16) + fixed + kCameBytes,
                          CanOverlap(device), stream, "NBitsSm90", map_a,
                          MakeEpilogue<T>(AsGemm(plan, args)), params);
}

template <typename T, int kBits, typename Shape>
Status LaunchNBitsSm90(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                       const DeviceInfo& device, Stream stream) {
  NBitsParams params;
  BATCH_INVARIANT_RETURN_IF_ERROR((MakeNBitsParams<T, kBits, Shape>(
      plan, args, device, Shape::kTiles * Shape::kRecords, Shape::kStagingBytes, &params)));
  auto* kernel = params.layout.has_zeros ? &NBitsSm90<T, kBits, true, Shape>
                                         : &NBitsSm90<T, kBits, false, Shape>;
  const bool whole = params.whole;
  return LaunchNBits<T>(kernel, plan, args, device, Shape::kThreads, Shape::kStagingBytes,
                        {plan.type,
                         args.a,
                         {whole ? kTileK : plan.k, args.m, whole ? plan.k / kTileK : 1, 1},
                         {args.a_row_stride, kTileK, 0},
                         {kTileK, Shape::kTokens, whole ? Shape::kAtoms : 1, 1}},
                        params, stream);
}

template <typename T, int kBits, typename Shape>
Status LaunchNBitsRunsSm90(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           const DeviceInfo& device, Stream stream) {
  NBitsParams params;
  BATCH_INVARIANT_RETURN_IF_ERROR((MakeNBitsParams<T, kBits, Shape>(
      plan, args, device, Shape::kWarps, Shape::kSumBytes, &params)));
  auto* kernel = params.layout.has_zeros ? &NBitsRunsSm90<T, kBits, true, Shape>
                                         : &NBitsRunsSm90<T, kBits, false, Shape>;
  const std::int64_t run = plan.k / Shape::kRuns;  // whole records: MatMulNBitsPlan::runs
  params.run_records = static_cast<int>(run / kRecordK);
  return LaunchNBits<T>(kernel, plan, args, device, Shape::kThreads, Shape::kSumBytes,
                        {plan.type,
                         args.a,
                         {kTileK, args.m, run / kTileK, Shape::kRuns},
                         {args.a_row_stride, kTileK, run},
                         {kTileK, Shape::kTokens, 2, Shape::kRuns}},
                        params, stream);
}

template <typename T, int kBits, typename Shape>
constexpr NBitsKernel MakeNBitsKernel(const char* name) {
  return {
      name,           std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
      kBits,          true,
      Shape::kTokens, Shape::kTiles * kRecordRows,
      Shape::kRuns,   &LaunchNBitsSm90<T, kBits, Shape>};
}

// Shapes: records a block, rows of a, records along K a stage, runs. A name is rows x columns a
// block.
template <typename T>
std::span<const NBitsKernel> Sm90NBitsKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsKernel<T, 4, NBitsShape<4, 8, 2, 1>>("nbits4_8x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 8, 2, 1>>("nbits4_8x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 16, 2, 1>>("nbits4_16x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 16, 2, 1>>("nbits4_16x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 32, 2, 1>>("nbits4_32x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 32, 2, 1>>("nbits4_32x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 64, 1, 0>>("nbits4_64x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 64, 1, 0>>("nbits4_64x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 128, 1, 0>>("nbits4_128x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 128, 1, 0>>("nbits4_128x128"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 160, 1, 0>>("nbits4_160x128"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 256, 1, 1>>("nbits4_256x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 8, 2, 1>>("nbits8_8x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 8, 2, 1>>("nbits8_8x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 32, 2, 1>>("nbits8_32x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 32, 2, 1>>("nbits8_32x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 64, 1, 0>>("nbits8_64x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 64, 1, 0>>("nbits8_64x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 128, 1, 0>>("nbits8_128x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 128, 1, 0>>("nbits8_128x128"),
  };
  return kKernels;
}

template <typename T, int kBits, typename Shape>
constexpr NBitsKernel MakeNBitsRunsKernel(const char* name) {
  return {
      name,           std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
      kBits,          true,
      Shape::kTokens, Shape::kTiles * kRecordRows,
      Shape::kRuns,   &LaunchNBitsRunsSm90<T, kBits, Shape>};
}

template <typename T>
std::span<const NBitsKernel> Sm90NBitsRunKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<8>>("nbits4_runs_8x32"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<16>>("nbits4_runs_16x32"),
      MakeNBitsRunsKernel<T, 8, NBitsRunShape<8>>("nbits8_runs_8x32"),
      MakeNBitsRunsKernel<T, 8, NBitsRunShape<16>>("nbits8_runs_16x32"),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
