// The packed layout of n-bit weights, and what MatMulNBits needs of each instruction set.
#ifndef BATCH_INVARIANT_KERNELS_CPU_MATMUL_NBITS_MATMUL_NBITS_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_MATMUL_NBITS_MATMUL_NBITS_KERNELS_H_

#include <stdint.h>

#include <span>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/cpu/matmul_nbits.h"

namespace batch_invariant::cpu {

// Panels of sixteen columns; in a panel one record for each block along K:
//   scales       fp32 [16]
//   zero points  uint8 [16] (kPacked), fp32 [16] (kFloat), or nothing (kDefault)
//   weights      groups of 32 / bits terms, 64 bytes each: a 32-bit word for each column, whose
//   byte
//                j holds, from its low bits up, the terms j, j + 4, j + 8, ... of the group
// Columns beyond n and terms beyond k are zeros. One shift and one mask give four terms of sixteen
// columns as bytes, in the order that a four-byte dot product takes, or one term as 32-bit
// integers.
struct NBitsLayout {
  int64_t k = 0;
  int64_t block_size = 0;
  int64_t blocks = 0;
  int bits = 0;
  ZeroPoints zero_points = ZeroPoints::kDefault;

  int64_t zero_points_offset = 0;  // bytes, inside a record
  int64_t weights_offset = 0;
  int64_t record_bytes = 0;
  int64_t panel_bytes = 0;
};

// One row of activations as int8 blocks.
struct NBitsQuantizedRows {
  const int8_t* values = nullptr;  // [rows, blocks * block_size], zeros beyond k
  const float* scales = nullptr;   // [rows, blocks]
  const float* sums = nullptr;     // [rows, blocks]: the sum of a block's values, exact
};

struct MatMulNBitsKernels {
  InstructionSet instruction_set;

  // Terms [first, first + depth) of one panel as fp32 [depth, 16]; `first` is a multiple of 16.
  void (*decode)(const NBitsLayout& layout, const uint8_t* panel, int64_t first, int64_t depth,
                 float* weights);

  // gemm.nbits.f32 of one row, from the panel at `panels` on. bias and y start at its first column.
  void (*row)(const NBitsLayout& layout, const uint8_t* panels, int64_t columns, const float* a,
              const float* bias, float* y);

  // One row to int8.
  void (*quantize)(const NBitsLayout& layout, const float* a, int8_t* values, float* scales,
                   float* sums);

  // gemm.nbits.s8 of some rows.
  void (*rows_s8)(const NBitsLayout& layout, const uint8_t* panels, int64_t columns, int64_t rows,
                  const NBitsQuantizedRows& a, const float* bias, float* y, int64_t y_row_stride);
};

std::span<const MatMulNBitsKernels* const> MatMulNBitsKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_MATMUL_NBITS_MATMUL_NBITS_KERNELS_H_
