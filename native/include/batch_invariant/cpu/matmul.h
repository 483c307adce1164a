// MatMul and Gemm, fp32: contract gemm.f32 (contract.h), formula of ONNX MatMul-13 and Gemm-13.
#ifndef BATCH_INVARIANT_CPU_MATMUL_H_
#define BATCH_INVARIANT_CPU_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

// A matrix in memory: element (row, column) is data[row * row_stride + column * column_stride].
// Strides are in elements; a transposed matrix swaps them, a broadcast dimension has stride 0.
struct MatrixView {
  const float* data = nullptr;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

// Bytes of PackMatMul's result for a right side of [k, n]; the same for every instruction set.
// The buffer should be 64-byte aligned; that changes the speed, not the result.
size_t PackedMatMulBytes(int64_t k, int64_t n);

// Copies a constant right side b [k, n] into `packed`: panels of 16 columns, k ascending inside a
// panel, the last panel filled up with zeros. The layout does not depend on the instruction set.
Status PackMatMul(const Context& context, int64_t k, int64_t n, const MatrixView& b, float* packed);

// y[i, j] = alpha * sum_k a[i, k] * b[k, j] + beta * c[i, j], for each of `batch` products.
//
// k = 0 gives alpha * +0 (+ beta * c). c counts as absent when beta is 0. A result that is NaN is
// written as the quiet NaN 0x7fc00000, whatever produced it.
struct MatMulArgs {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;

  MatrixView a;  // [m, k]

  // Exactly one of the two (neither is read when k is 0).
  MatrixView b;                     // [k, n], computed
  const float* packed_b = nullptr;  // from PackMatMul

  MatrixView c;  // [m, n], broadcast by strides of 0; data null: none
  float alpha = 1.0f;
  float beta = 1.0f;

  float* y = nullptr;  // [m, n], rows y_row_stride elements apart; may not overlap an operand
  int64_t y_row_stride = 0;

  // Product p reads a.data + a_offsets[p] and b.data + b_offsets[p] (or packed_b + b_offsets[p])
  // and writes y + p * y_batch_stride. Null offsets: the same operand for every product. c is
  // shared. ONNX broadcasting of leading dimensions is a list of offsets.
  int64_t batch = 1;
  const int64_t* a_offsets = nullptr;  // [batch], elements
  const int64_t* b_offsets = nullptr;  // [batch], elements
  int64_t y_batch_stride = 0;
};

// kInvalidArgument: a negative size or a missing operand. kOutOfMemory: scratch ran out.
// Scratch: at most 1 MiB for each thread and 5 MiB for all of them.
Status MatMul(const Context& context, const MatMulArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_MATMUL_H_
