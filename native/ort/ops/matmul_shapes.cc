#include "ort/ops/matmul_shapes.h"

#include <algorithm>

#include "ort/ops/op.h"

namespace batch_invariant::ort {
namespace {

struct Operand {
  std::vector<int64_t> leading;
  int64_t rows = 1;
  int64_t columns = 1;
  int64_t pitch = 1;   // elements from one row to the next
  int64_t stride = 1;  // elements from one matrix to the next
};

Operand ViewOperand(std::span<const int64_t> shape, bool is_left, bool transpose_batch) {
  Operand operand;
  if (shape.size() == 1) {
    (is_left ? operand.columns : operand.rows) = shape[0];
    operand.pitch = operand.columns;
    operand.stride = shape[0];
    return operand;
  }
  if (transpose_batch && shape.size() > 2) {
    operand.leading.assign(shape.begin() + 1, shape.end() - 1);
    operand.rows = shape.front();
    operand.columns = operand.stride = operand.pitch = shape.back();
    for (const int64_t d : operand.leading) operand.pitch *= d;
    return operand;
  }
  operand.leading.assign(shape.begin(), shape.end() - 2);
  operand.rows = shape[shape.size() - 2];
  operand.columns = operand.pitch = shape[shape.size() - 1];
  operand.stride = operand.rows * operand.columns;
  return operand;
}

std::vector<int64_t> Offsets(const Operand& operand, std::span<const int64_t> broadcast) {
  const size_t rank = broadcast.size();
  std::vector<int64_t> strides(rank, 0);
  int64_t stride = operand.stride;
  for (size_t i = 0; i < operand.leading.size(); ++i) {
    const int64_t dimension = operand.leading[operand.leading.size() - 1 - i];
    strides[rank - 1 - i] = dimension == 1 ? 0 : stride;
    stride *= dimension;
  }
  int64_t count = 1;
  for (const int64_t d : broadcast) count *= d;
  std::vector<int64_t> offsets(static_cast<size_t>(count));
  for (int64_t product = 0; product < count; ++product) {
    int64_t rest = product;
    int64_t offset = 0;
    for (size_t i = rank; i-- > 0;) {
      offset += rest % broadcast[i] * strides[i];
      rest /= broadcast[i];
    }
    offsets[static_cast<size_t>(product)] = offset;
  }
  return offsets;
}

}  // namespace

Status MakeMatMulShapes(std::span<const int64_t> a, std::span<const int64_t> b, Transposition of_a,
                        Transposition of_b, MatMulShapes* shapes) {
  if (a.empty() || b.empty()) {
    return Status::InvalidArgument("MatMul: an operand is a scalar, needed is a vector or more");
  }
  const Operand left = ViewOperand(a, true, of_a.batch);
  const Operand right = ViewOperand(b, false, of_b.batch);
  shapes->transpose_a = of_a.last && a.size() > 1;
  shapes->transpose_b = of_b.last && b.size() > 1;
  shapes->a_pitch = left.pitch;
  shapes->b_pitch = right.pitch;
  shapes->m = shapes->transpose_a ? left.columns : left.rows;
  shapes->k = shapes->transpose_a ? left.rows : left.columns;
  shapes->n = shapes->transpose_b ? right.rows : right.columns;
  if (shapes->k != (shapes->transpose_b ? right.columns : right.rows)) {
    return Status::InvalidArgument("MatMul: inner dimensions differ: " + ShapeText(a) + " times " +
                                   ShapeText(b));
  }
  std::vector<int64_t> broadcast(std::max(left.leading.size(), right.leading.size()), 1);
  for (const Operand* operand : {&left, &right}) {
    for (size_t i = 0; i < operand->leading.size(); ++i) {
      int64_t& dimension = broadcast[broadcast.size() - operand->leading.size() + i];
      const int64_t own = operand->leading[i];
      if (dimension == 1) {
        dimension = own;
      } else if (own != 1 && own != dimension) {
        return Status::InvalidArgument("MatMul: leading dimensions do not broadcast: " +
                                       ShapeText(a) + " times " + ShapeText(b));
      }
    }
  }
  shapes->y_shape = broadcast;
  if (a.size() > 1) shapes->y_shape.push_back(shapes->m);
  if (b.size() > 1) shapes->y_shape.push_back(shapes->n);
  const bool rows_follow = !shapes->transpose_a && left.pitch == left.columns;
  shapes->is_single = right.leading.empty() && (left.leading.empty() || rows_follow);
  if (shapes->is_single) {
    for (const int64_t d : left.leading) shapes->m *= d;
  } else {
    shapes->a_offsets = Offsets(left, broadcast);
    shapes->b_offsets = Offsets(right, broadcast);
  }
  return Status::Ok();
}

Status MakeGemmShapes(std::span<const int64_t> a, std::span<const int64_t> b, const Tensor& c,
                      bool transpose_a, bool transpose_b, GemmShapes* shapes) {
  if (a.size() != 2 || b.size() != 2) {
    return Status::InvalidArgument("Gemm: A is " + ShapeText(a) + " and B " + ShapeText(b) +
                                   ", needed are two matrices");
  }
  shapes->m = a[transpose_a ? 1 : 0];
  shapes->k = a[transpose_a ? 0 : 1];
  shapes->n = b[transpose_b ? 0 : 1];
  if (shapes->k != b[transpose_b ? 1 : 0]) {
    return Status::InvalidArgument("Gemm: inner dimensions differ: A is " + ShapeText(a) + ", B " +
                                   ShapeText(b));
  }
  if (!c.present) return Status::Ok();
  int64_t rows = 1;
  int64_t columns = 1;
  if (c.shape.size() == 1) {
    columns = c.shape[0];
  } else if (c.shape.size() == 2) {
    rows = c.shape[0];
    columns = c.shape[1];
  }
  if (c.shape.size() > 2 || (rows != 1 && rows != shapes->m) ||
      (columns != 1 && columns != shapes->n)) {
    return Status::InvalidArgument("Gemm: C " + ShapeText(c.shape) + " does not broadcast to [" +
                                   std::to_string(shapes->m) + "," + std::to_string(shapes->n) +
                                   "]");
  }
  shapes->c_row_stride = rows == 1 ? 0 : columns;
  shapes->c_column_stride = columns == 1 ? 0 : 1;
  return Status::Ok();
}

}  // namespace batch_invariant::ort
