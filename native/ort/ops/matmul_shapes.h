// The shapes of MatMul (vectors promoted to matrices, leading dimensions broadcast) and of Gemm.
#ifndef BATCH_INVARIANT_ORT_OPS_MATMUL_SHAPES_H_
#define BATCH_INVARIANT_ORT_OPS_MATMUL_SHAPES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "batch_invariant/status.h"
#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

struct MatMulShapes {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  // Elements from one row to the next in memory, before any transposition.
  int64_t a_pitch = 0;
  int64_t b_pitch = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  std::vector<int64_t> y_shape;
  // True when all products are one: the right side is a single matrix and the rows of the left
  // sides follow each other. m then counts the rows of all of them, and the offsets are empty.
  bool is_single = true;
  // For each product, the element where its operand begins.
  std::vector<int64_t> a_offsets;
  std::vector<int64_t> b_offsets;

  int64_t batch() const { return is_single ? 1 : static_cast<int64_t>(a_offsets.size()); }
};

// Which dimensions of an operand change places before the product. `batch`: the first one goes
// behind the leading ones, as transBatchA and transBatchB of FusedMatMul say; then `last`: the last
// two.
struct Transposition {
  bool last = false;
  bool batch = false;
};

// kInvalidArgument: a scalar operand, inner dimensions that differ, leading ones that do not
// broadcast.
Status MakeMatMulShapes(std::span<const int64_t> a, std::span<const int64_t> b, Transposition of_a,
                        Transposition of_b, MatMulShapes* shapes);

struct GemmShapes {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t c_row_stride = 0;  // 0 where C is broadcast
  int64_t c_column_stride = 0;
};

// kInvalidArgument: an operand that is no matrix, inner dimensions that differ, a C that does not
// broadcast to [m, n]. C may be absent.
Status MakeGemmShapes(std::span<const int64_t> a, std::span<const int64_t> b, const Tensor& c,
                      bool transpose_a, bool transpose_b, GemmShapes* shapes);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_MATMUL_SHAPES_H_
