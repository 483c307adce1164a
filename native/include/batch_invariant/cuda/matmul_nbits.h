// MatMulNBits (com.microsoft, since 1) on CUDA: y = a w^T + bias, weights of 2, 4 or 8 bits in
// blocks along K.
//
//   w[n, k] = (q[n, k] - zero[n, group(k)]) * scale[n, group(k)],  group(k) = k / block_size or
//   g_idx[k]
//
// Contracts (the bytes of a row of y depend on that row of a, the weights and the bias alone):
//   gemm.nbits.tc16  fp16 and bf16: w rounded once to the element type, then gemm.tc16 (gemm.h)
//   over
//              each of runs(K, N) equal parts of K, from +0 each; then the sums of the parts,
//              ascending, added in fp32. Narrow weights have eight parts: with one, a chain of
//              products takes longer than reading the weights, and there are too few chains to
//              keep a GPU busy. With g_idx there is one.
//   gemm.nbits.f32   fp32: w rounded once to fp32, then gemm.f32; the bytes of the CPU contract.
// q - zero is exact for integer zero points. For zero points of the element type both the
// difference and the product are computed in fp32 and rounded there, then to the element type. The
// bias is added to the fp32 sum before its one rounding.
//
// Every accuracy_level is served by the contract of the activations' type, which is more accurate
// than any level asks for.
#ifndef BATCH_INVARIANT_CUDA_MATMUL_NBITS_H_
#define BATCH_INVARIANT_CUDA_MATMUL_NBITS_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

enum class ZeroPoints {
  kDefault,  // none given: 2^(bits - 1)
  kPacked,   // uint8 [n, ceil(blocks * bits / 8)], low bits first
  kElement,  // the activations' type, [n, blocks]
};

// What the weights alone decide. The number of rows is no part of it.
struct MatMulNBitsPlan {
  ElementType type = ElementType::kFloat16;
  std::int64_t k = 0;
  std::int64_t n = 0;
  int bits = 4;
  std::int64_t block_size = 32;
  ZeroPoints zero_points = ZeroPoints::kDefault;
  // 2: n counts the rows of a gate and an up matrix that alternate (PackGatedMatMulNBits). The
  // contract is that of one of them: what it makes depend on N is to be read off n / matrices.
  int matrices = 1;
  bool has_group_index = false;  // g_idx: w is kept, in the element type

  std::int64_t blocks() const { return (k + block_size - 1) / block_size; }
  // Parts of K with an accumulator each: a matter of the contract, so of the weights' shape alone.
  int runs() const {
    const bool narrow = n / matrices <= (k >= 8192 ? 8192 : 6144);
    const bool split = narrow && k >= 2048 && k % 1024 == 0 && !has_group_index;
    return type != ElementType::kFloat32 && split ? 8 : 1;
  }
  const char* contract() const;
};

// The plan of two such matrices whose rows alternate.
inline MatMulNBitsPlan GatedPlan(MatMulNBitsPlan one) {
  one.n *= 2;
  one.matrices = 2;
  return one;
}

// Checks the attributes of a node. kInvalidArgument: outside the op's definition (bits 2, 4 or 8;
// block_size a power of two from 16).
Status MakeMatMulNBitsPlan(ElementType type, std::int64_t k, std::int64_t n, std::int64_t bits,
                           std::int64_t block_size, ZeroPoints zero_points, MatMulNBitsPlan* plan,
                           bool has_group_index = false);

// Rewrites constant weights for the kernels: one buffer that holds everything. All pointers are
// device memory; `packed` (PackedMatMulNBitsBytes) is 16-byte aligned.
//   b            uint8 [n, blocks, block_size * bits / 8], low bits first
//   scales       [n, blocks], the activations' type
//   zero_points  by plan.zero_points; null for kDefault
//   group_index  [k], each from 0 to blocks - 1, which the caller has checked; null without g_idx
std::size_t PackedMatMulNBitsBytes(const MatMulNBitsPlan& plan);
Status PackMatMulNBits(const MatMulNBitsPlan& plan, const void* b, const void* scales,
                       const void* zero_points, void* packed, Stream stream,
                       const std::int32_t* group_index = nullptr);

// The same for silu_gated. `plan` is that of one matrix without g_idx, its n a multiple of 8;
// `packed` is that of GatedPlan(plan).
struct NBitsTensors {
  const void* b = nullptr;
  const void* scales = nullptr;
  const void* zero_points = nullptr;
};
Status PackGatedMatMulNBits(const MatMulNBitsPlan& plan, const NBitsTensors& gate,
                            const NBitsTensors& up, void* packed, Stream stream);

struct MatMulNBitsArgs {
  std::int64_t m = 0;
  const void* a = nullptr;  // [m, k], contiguous rows
  std::int64_t a_row_stride = 0;
  const void* packed = nullptr;
  bool packed_is_ready = false;  // as GemmArgs::packed_b_is_ready
  const void* bias = nullptr;    // [n] or null
  // As GemmArgs::silu_gated: the plan is a GatedPlan, y is [m, n / 2]. No bias.
  bool silu_gated = false;
  void* y = nullptr;  // [m, n], contiguous rows; may not overlap an operand
  std::int64_t y_row_stride = 0;
};

// Enqueues y on `stream`. Allocates nothing, waits for nothing, can be captured in a graph.
// kInvalidArgument: a negative size or a missing operand. kUnsupported: a size above 2^31 - 1, or a
// device below compute capability 8.0. kDeviceError: the launch failed.
Status MatMulNBits(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, Stream stream);

// As GatedGemmWorkspaceBytes and GatedGemm.
Status GatedMatMulNBitsWorkspaceBytes(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                                      std::size_t* bytes);
Status GatedMatMulNBits(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, void* workspace,
                        Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_MATMUL_NBITS_H_
