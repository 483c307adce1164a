// MatMulNBits by the tile kernels of GEMM: weights are dequantised while a tile is filled.
#include "kernels/cuda/gemm/gemm_f32.cuh"
#include "kernels/cuda/gemm/gemm_tile.cuh"
#include "kernels/cuda/matmul_nbits/nbits_args.h"
#include "kernels/cuda/matmul_nbits/nbits_tile.h"
#include "kernels/cuda/matmul_nbits/read_packed.cuh"

namespace batch_invariant::cuda {
namespace {

template <typename T, typename Shape>
Status Launch(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, Stream stream) {
  const GemmArgs g = AsGemm(plan, args);
  const FillElements<T> a{OperandA<T>(g)};
  const FillPacked<T> w{PackedWeightsOf<T>(plan, args.packed)};
  const Epilogue<T> e = MakeEpilogue<T>(g);
  if (plan.runs() == 1) return LaunchGemmTile<T, Shape>(a, w, e, g.k, 1, stream);
  return LaunchGemmTileRuns<T, Shape, true>(a, w, e, g.k, g.k / plan.runs(), 1, stream);
}

template <int kM, int kN>
Status LaunchF32(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, Stream stream) {
  const GemmArgs g = AsGemm(plan, args);
  return LaunchGemmF32<kM, kN>(ReadF32{OperandA<float>(g)},
                               ReadPackedF32{PackedWeightsOf<float>(plan, args.packed)},
                               MakeEpilogue<float>(g), g.k, 1, stream);
}

}  // namespace

template <typename T>
Status NBitsTile<T>::Small(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           const DeviceInfo&, Stream stream) {
  if constexpr (sizeof(T) == 4) {
    return LaunchF32<16, 32>(plan, args, stream);
  } else {
    return Launch<T, TileShape<16, 64, 16, 16, 4>>(plan, args, stream);
  }
}

template <typename T>
Status NBitsTile<T>::Large(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           const DeviceInfo&, Stream stream) {
  if constexpr (sizeof(T) == 4) {
    return LaunchF32<64, 64>(plan, args, stream);
  } else {
    return Launch<T, TileShape<64, 64, 32, 32, 3>>(plan, args, stream);
  }
}

template struct NBitsTile<float>;
template struct NBitsTile<__half>;
template struct NBitsTile<__nv_bfloat16>;

}  // namespace batch_invariant::cuda
