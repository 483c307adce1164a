// MatMul and Gemm on CUDA: y[i, j] = alpha * sum_k a[i, k] b[k, j] + beta * c[i, j], for each of
// `batch` products (ONNX MatMul-13, Gemm-13).
//
// Contracts (the bytes of y[i, :] depend on a[i, :], b, c[i, :], alpha and beta alone):
//   gemm.tc16  fp16 and bf16: one fp32 accumulator per output, from +0, K ascending in tensor-core
//              steps of 16 (the last one filled up with zeros), never split; an accumulator of -0
//              counts as +0. Then as below, and one rounding to the element type.
//   gemm.f32   fp32: acc = +0; for k ascending: acc = fma(a[k], b[k], acc): the bytes of the CPU
//              contract of the same name.
// Both end with: acc itself when alpha is 1 and there is no c; otherwise fma(beta, c, alpha * acc),
// alpha * acc rounded first. An fp32 NaN is written as 0x7fc00000.
//
// The row count chooses among kernels that share a contract; it changes no byte.
#ifndef BATCH_INVARIANT_CUDA_GEMM_H_
#define BATCH_INVARIANT_CUDA_GEMM_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// A matrix in device memory: element (row, column) is data[row * row_stride + column *
// column_stride], strides in elements. A transposed matrix swaps them; a broadcast one has zeros.
struct MatrixView {
  const void* data = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;
};

struct GemmArgs {
  ElementType type = ElementType::kFloat32;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;

  MatrixView a;  // [m, k]

  // Exactly one of the two (neither is read when k is 0).
  MatrixView b;                    // [k, n], computed or a weight as it is
  const void* packed_b = nullptr;  // from PackGemmWeights, shared by all products
  // packed_b already holds its final bytes when the call is made: nothing enqueued before writes
  // them. It is then read while the kernels ahead still run.
  bool packed_b_is_ready = false;

  MatrixView c;  // [m, n]; data null: none; counts as absent when beta is 0
  float alpha = 1.0f;
  float beta = 1.0f;

  // The columns of b are a gate and an up matrix in turn, eight of each (PackGatedGemmWeights), and y
  // is [m, n / 2]: silu(a gate) * (a up), both products rounded to the element type and the rest as
  // GatedArgs has it with round_between. n is a multiple of 16; no c, alpha 1, one product.
  bool silu_gated = false;

  void* y = nullptr;  // [m, n], rows y_row_stride elements apart; may not overlap an operand
  std::int64_t y_row_stride = 0;

  // Product p reads a and b moved by p times their batch stride (0: shared) and writes y moved
  // likewise. c is shared.
  std::int64_t batch = 1;
  std::int64_t a_batch_stride = 0;
  std::int64_t b_batch_stride = 0;
  std::int64_t y_batch_stride = 0;
};

// The contract id of an element type.
const char* GemmContract(ElementType type);

// Enqueues y on `stream`. Allocates nothing, waits for nothing, can be captured in a graph.
// Any size, stride and alignment of the element type works; the fast kernels want a with
// contiguous rows, 16-byte aligned data and strides that are multiples of 16 bytes.
// kInvalidArgument: a negative size or a missing operand. kUnsupported: a size above 2^31 - 1, or
// a device below compute capability 8.0. kDeviceError: the launch failed.
Status Gemm(const GemmArgs& args, Stream stream);

// The sm_90 kernels want K contiguous. A b with contiguous, 16-byte aligned rows of K (a transposed
// weight) is taken as it is; for any other constant weight a packed copy is several times faster:
// tiles in the order in which a block streams them, filled up with zeros. The values are copied,
// never changed. `packed` holds PackedGemmWeightBytes and is 16-byte aligned.
std::size_t PackedGemmWeightBytes(ElementType type, std::int64_t k, std::int64_t n);
Status PackGemmWeights(ElementType type, std::int64_t k, std::int64_t n, const MatrixView& b,
                       void* packed, Stream stream);

// Weights for silu_gated: gate and up are [k, n] each, n a multiple of 8; `packed` is that of a
// matrix [k, 2 n].
Status PackGatedGemmWeights(ElementType type, std::int64_t k, std::int64_t n,
                            const MatrixView& gate, const MatrixView& up, void* packed,
                            Stream stream);

// Scratch that Gemm needs with silu_gated where no kernel for the device gates by itself, in bytes;
// otherwise 0.
Status GatedGemmWorkspaceBytes(const GemmArgs& args, std::size_t* bytes);
// Gemm with silu_gated.
Status GatedGemm(const GemmArgs& args, void* workspace, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_GEMM_H_
