// What MatMul needs of each instruction set. matmul.cc cuts a product into blocks and calls these.
#ifndef BATCH_INVARIANT_KERNELS_CPU_MATMUL_MATMUL_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_MATMUL_MATMUL_KERNELS_H_

#include <stdint.h>

#include <span>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu {

inline constexpr int64_t kPanelColumns = 16;
inline constexpr int64_t kASlack = 16;

// Rows [0, rows), columns [0, columns) and terms [0, depth) of one product. The accumulators of a
// block that is not the first along K start from y, those of one that is not the last end there.
struct MatMulBlock {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;

  const float* a = nullptr;  // (i, k) at a[i * a_row_stride + k], or from pack_a
  int64_t a_row_stride = 0;
  bool a_packed = false;

  // (k, 16 p + j) at b[p * b_panel_stride + k * b_row_stride + j]. Panels have a row stride of 16
  // and sixteen columns each; otherwise `columns` is a multiple of 16.
  const float* b = nullptr;
  int64_t b_panel_stride = 0;
  int64_t b_row_stride = kPanelColumns;
  bool b_is_near = false;  // in a cache, so that nothing need be fetched ahead

  float* y = nullptr;
  int64_t y_row_stride = 0;

  bool first = true;
  bool last = true;
  // After the last term: y = alpha * acc + beta * c when `scaled`, otherwise acc.
  bool scaled = false;
  float alpha = 1.0f;
  float beta = 0.0f;
  const float* c = nullptr;
  int64_t c_row_stride = 0;
  int64_t c_column_stride = 0;
};

struct MatMulKernels {
  InstructionSet instruction_set;
  int tile_rows;        // a block of at most this many rows reads each element of b once
  int64_t block_depth;  // terms for which the panels in use stay in the first-level cache
  int (*panels_at_once)(int64_t rows);  // of a block with so many rows

  // rows * depth floats, in tiles of rows; it may write kASlack more.
  void (*pack_a)(int64_t rows, int64_t depth, const float* a, int64_t row_stride,
                 int64_t column_stride, float* packed);

  // Panels of [depth, 16], the last one filled up with zeros.
  void (*pack_b)(int64_t depth, int64_t columns, const float* b, int64_t row_stride,
                 int64_t column_stride, float* packed);

  void (*block)(const MatMulBlock& block);
};

std::span<const MatMulKernels* const> MatMulKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_MATMUL_MATMUL_KERNELS_H_
