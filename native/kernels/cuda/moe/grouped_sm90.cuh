// Grouped products with weights of few bits by the sm_90 kernels of MatMulNBits, over tiles that
// are found on the device; each element type instantiates them in a file of its own.
//
// Rows of a lie as they are sorted, since a tile of them is one box of a tensor copy; what a box
// has beyond the tile's rows is multiplied and not stored.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_CUH_

#include <type_traits>

#include "kernels/cuda/matmul_nbits/nbits_sm90_launch.cuh"
#include "kernels/cuda/moe/grouped_order.cuh"
#include "kernels/cuda/moe/grouped_sm90.h"

namespace batch_invariant::cuda {

inline MatMulNBitsArgs AllRows(const GroupedArgs& args) {
  MatMulNBitsArgs all;
  all.m = args.sorted_rows;
  all.a = args.a;
  all.a_row_stride = args.k;
  all.packed = args.weights.packed;
  all.bias = args.weights.bias;
  all.y = args.y;
  all.y_row_stride = args.n;
  return all;
}

template <typename Shape>
GroupedOrder OrderOf(const GroupedArgs& args) {
  const MatMulNBitsPlan& plan = *args.weights.plan;
  constexpr int kFewRows = 8;
  return {args.tiles, args.tile_count, static_cast<std::int64_t>(PackedMatMulNBitsBytes(plan)),
          static_cast<int>(CeilDiv(LayoutOf(plan).records_n, Shape::kTiles)),
          Shape::kTokens <= kFewRows};
}

template <typename T, int kBits, typename Shape>
Status LaunchGroupedSm90(const GroupedArgs& args, const DeviceInfo& device, Stream stream) {
  const GroupedOrder order = OrderOf<Shape>(args);
  return LaunchNBitsSm90<T, kBits, Shape>(*args.weights.plan, AllRows(args), order,
                                          args.max_tiles * order.tiles_n, device, stream);
}

template <typename T, int kBits, typename Shape>
Status LaunchGroupedRunsSm90(const GroupedArgs& args, const DeviceInfo& device, Stream stream) {
  const GroupedOrder order = OrderOf<Shape>(args);
  return LaunchNBitsRunsSm90<T, kBits, Shape>(*args.weights.plan, AllRows(args), order,
                                              args.max_tiles * order.tiles_n, device, stream);
}

template <typename T, int kBits, typename Shape>
constexpr GroupedKernel MakeGroupedKernel(const char* name,
                                          Status (*launch)(const GroupedArgs&, const DeviceInfo&,
                                                           Stream)) {
  return {name,  std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
          true,  Shape::kTokens,
          kBits, Shape::kRuns,
          true,  launch};
}

template <typename T>
std::span<const GroupedKernel> Sm90GroupedKernels() {
  using Few = NBitsShape<4, 8, 2, 1>;
  using FewRuns = NBitsRunShape<8, 2>;
  using Many = NBitsShape<8, 64, 1, 0>;
  static constexpr GroupedKernel kKernels[] = {
      MakeGroupedKernel<T, 4, Few>("moe_nbits4_8x64", &LaunchGroupedSm90<T, 4, Few>),
      MakeGroupedKernel<T, 4, FewRuns>("moe_nbits4_runs_8x32",
                                       &LaunchGroupedRunsSm90<T, 4, FewRuns>),
      MakeGroupedKernel<T, 4, Many>("moe_nbits4_64x128", &LaunchGroupedSm90<T, 4, Many>),
      MakeGroupedKernel<T, 8, Few>("moe_nbits8_8x64", &LaunchGroupedSm90<T, 8, Few>),
      MakeGroupedKernel<T, 8, FewRuns>("moe_nbits8_runs_8x32",
                                       &LaunchGroupedRunsSm90<T, 8, FewRuns>),
      MakeGroupedKernel<T, 8, Many>("moe_nbits8_64x128", &LaunchGroupedSm90<T, 8, Many>),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_CUH_
