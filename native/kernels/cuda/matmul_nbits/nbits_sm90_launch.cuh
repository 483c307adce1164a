// Launches of nbits_sm90.cuh and nbits_runs_sm90.cuh.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_LAUNCH_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_LAUNCH_CUH_

#include <algorithm>

#include "kernels/cuda/common/pace.h"
#include "kernels/cuda/common/tensor_map.h"
#include "kernels/cuda/matmul_nbits/nbits_args.h"
#include "kernels/cuda/matmul_nbits/nbits_runs_sm90.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90.cuh"

namespace batch_invariant::cuda {

// What both kinds of kernels share. `fixed` bytes of shared memory do not belong to the ring.
template <int kBits, typename Shape, typename Order>
Status MakeNBitsParams(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, const Order& order,
                       const DeviceInfo& device, int records_per_stage, int fixed,
                       NBitsParams<Order>* params) {
  params->packed = static_cast<const unsigned char*>(args.packed);
  params->layout = LayoutOf(plan);
  params->default_zero = ZeroOffset(plan.type, kBits) + static_cast<float>(1 << (plan.bits - 1));
  params->order = order;
  params->run_records = static_cast<int>(CeilDiv(params->layout.records_k, plan.runs()));
  params->whole = plan.k % kTileK == 0;
  params->ready = args.packed_is_ready;
  params->pace = PaceCycles(records_per_stage * params->layout.record_bytes());
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

// `tiles`: how many there are, or can be.
template <typename T, typename Kernel, typename Order, typename... Maps>
Status LaunchNBits(Kernel* kernel, const Epilogue<T>& epilogue, const DeviceInfo& device,
                   std::int64_t tiles, int threads, int fixed, const TensorMapShape& tokens,
                   const NBitsParams<Order>& params, Stream stream, const Maps&... maps) {
  if (tiles > 0x3fffffff) return Status::Unsupported("MatMulNBits: more than 2^30 output tiles");
  BATCH_INVARIANT_RETURN_IF_ERROR(
      AllowSharedMemory(kernel, device.max_shared_memory_per_block, "NBitsSm90"));
  CUtensorMap map_a;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeTensorMap(tokens, &map_a));
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(tiles, device.multiprocessors));
  return LaunchOverlapped(
      kernel, blocks, threads, params.stages * (params.stage_bytes + 16) + fixed + kCameBytes,
      CanOverlap(device), stream, "NBitsSm90", map_a, epilogue, params, maps...);
}

// The map of a for K in one run: stages of kAtoms tiles of 64 in one copy, where K is whole tiles.
template <typename Shape>
TensorMapShape TokensInOneRun(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                              bool whole) {
  return {plan.type,
          args.a,
          {whole ? kTileK : plan.k, args.m, whole ? plan.k / kTileK : 1, 1},
          {args.a_row_stride, kTileK, 0},
          {kTileK, Shape::kTokens, whole ? Shape::kAtoms : 1, 1}};
}
// And for several runs, of whole records each (MatMulNBitsPlan::runs).
template <typename Shape>
TensorMapShape TokensInRuns(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args) {
  const std::int64_t run = plan.k / Shape::kRuns;
  return {plan.type,
          args.a,
          {kTileK, args.m, run / kTileK, Shape::kRuns},
          {args.a_row_stride, kTileK, run},
          {kTileK, Shape::kTokens, 2, Shape::kRuns}};
}

template <typename T, int kBits, typename Shape, typename Order>
Status LaunchNBitsSm90(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, const Order& order,
                       std::int64_t tiles, const DeviceInfo& device, Stream stream) {
  NBitsParams<Order> params;
  BATCH_INVARIANT_RETURN_IF_ERROR((MakeNBitsParams<kBits, Shape>(
      plan, args, order, device, Shape::kTiles * Shape::kRecords, 0, &params)));
  constexpr bool kApart = Shape::kGatesApart && !Order::kOnDevice;
  auto* plain = params.layout.has_zeros ? &NBitsSm90<T, kBits, true, false, Shape, Order>
                                        : &NBitsSm90<T, kBits, false, false, Shape, Order>;
  auto* gated = params.layout.has_zeros ? &NBitsSm90<T, kBits, true, kApart, Shape, Order>
                                        : &NBitsSm90<T, kBits, false, kApart, Shape, Order>;
  auto* kernel = args.silu_gated ? gated : plain;
  const Epilogue<T> epilogue = MakeEpilogue<T>(AsGemm(plan, args));
  CUtensorMap map_y = {};
  if (Shape::kBulk && epilogue.wide) {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeTensorMap({plan.type,
                       args.y,
                       {epilogue.n, args.m, 1, 1},
                       {args.y_row_stride, 0, 0},
                       {args.silu_gated ? 32 : 64, Shape::kTokens, 1, 1}},
                      &map_y));
  }
  return LaunchNBits<T>(kernel, epilogue, device, tiles, Shape::kThreads, 0,
                        TokensInOneRun<Shape>(plan, args, params.whole), params, stream, map_y);
}

template <typename T, int kBits, typename Shape, typename Order>
Status LaunchNBitsRunsSm90(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           const Order& order, std::int64_t tiles, const DeviceInfo& device,
                           Stream stream) {
  NBitsParams<Order> params;
  BATCH_INVARIANT_RETURN_IF_ERROR((MakeNBitsParams<kBits, Shape>(
      plan, args, order, device, Shape::kWarps * Shape::kRecords, Shape::kSumBytes, &params)));
  auto* kernel = params.layout.has_zeros ? &NBitsRunsSm90<T, kBits, true, Shape, Order>
                                         : &NBitsRunsSm90<T, kBits, false, Shape, Order>;
  const TensorMapShape tokens = Shape::kRuns == 1 ? TokensInOneRun<Shape>(plan, args, params.whole)
                                                  : TokensInRuns<Shape>(plan, args);
  return LaunchNBits<T>(kernel, MakeEpilogue<T>(AsGemm(plan, args)), device, tiles, Shape::kThreads,
                        Shape::kSumBytes, tokens, params, stream);
}

// Tiles that are known here.
template <typename Shape>
TileOrder OrderOf(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args) {
  constexpr int kGroupRows = 2048;  // of a
  return {static_cast<int>(CeilDiv(args.m, Shape::kTokens)),
          static_cast<int>(CeilDiv(LayoutOf(plan).records_n, Shape::kTiles)), 1,
          kGroupRows / Shape::kTokens};
}

template <typename T, int kBits, typename Shape>
Status LaunchNBitsTiles(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                        const DeviceInfo& device, Stream stream) {
  const TileOrder order = OrderOf<Shape>(plan, args);
  return LaunchNBitsSm90<T, kBits, Shape>(
      plan, args, order, std::int64_t{order.tiles_m} * order.tiles_n, device, stream);
}

template <typename T, int kBits, typename Shape>
Status LaunchNBitsRunTiles(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           const DeviceInfo& device, Stream stream) {
  const TileOrder order = OrderOf<Shape>(plan, args);
  return LaunchNBitsRunsSm90<T, kBits, Shape>(
      plan, args, order, std::int64_t{order.tiles_m} * order.tiles_n, device, stream);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_LAUNCH_CUH_
