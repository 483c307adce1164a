// MatMul (ONNX) and FusedMatMul (com.microsoft): any rank, constant or computed right side.
#include "batch_invariant/cpu/matmul.h"

#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

// One operand as a stack of matrices: leading dimensions and the last two, vectors promoted.
struct Operand {
  std::vector<int64_t> leading;
  int64_t rows = 1;
  int64_t columns = 1;
};

Operand ViewOperand(std::span<const int64_t> shape, bool is_left) {
  Operand operand;
  if (shape.size() == 1) {
    (is_left ? operand.columns : operand.rows) = shape[0];
    return operand;
  }
  operand.leading.assign(shape.begin(), shape.end() - 2);
  operand.rows = shape[shape.size() - 2];
  operand.columns = shape[shape.size() - 1];
  return operand;
}

// For each product of the broadcast leading dimensions, the element offset of this operand.
std::vector<int64_t> Offsets(const std::vector<int64_t>& leading,
                             const std::vector<int64_t>& broadcast, int64_t matrix_elements) {
  const size_t rank = broadcast.size();
  std::vector<int64_t> strides(rank, 0);
  int64_t stride = matrix_elements;
  for (size_t i = 0; i < leading.size(); ++i) {
    const size_t from_end = leading.size() - 1 - i;
    strides[rank - 1 - i] = leading[from_end] == 1 ? 0 : stride;
    stride *= leading[from_end];
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

class MatMulKernel final : public OpKernel {
 public:
  MatMulKernel(bool transpose_a, bool transpose_b, float alpha)
      : transpose_a_(transpose_a), transpose_b_(transpose_b), alpha_(alpha) {}

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input != 1 || tensor.shape.size() != 2 || tensor.Elements() == 0) return Status::Ok();
    const int64_t k = transpose_b_ ? tensor.shape[1] : tensor.shape[0];
    const int64_t n = transpose_b_ ? tensor.shape[0] : tensor.shape[1];
    packed_ = AllocateWeights(cpu::PackedMatMulBytes(k, n));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cpu::PackMatMul(PackingContext(), k, n, RightView(tensor.Data<float>(), tensor.shape[1]),
                        reinterpret_cast<float*>(packed_.get())));
    packed_shape_.assign(tensor.shape.begin(), tensor.shape.end());
    *packed = true;
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    Tensor a;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &a));
    Tensor b;
    std::span<const int64_t> b_shape = packed_shape_;
    if (!packed_) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &b));
      b_shape = b.shape;
    }
    if (a.shape.empty() || b_shape.empty()) {
      return Status::InvalidArgument("MatMul: an operand is a scalar, needed is a vector or more");
    }
    const Operand left = ViewOperand(a.shape, true);
    const Operand right = ViewOperand(b_shape, false);
    const bool transpose_a = transpose_a_ && a.shape.size() > 1;
    const bool transpose_b = transpose_b_ && b_shape.size() > 1;
    const int64_t m = transpose_a ? left.columns : left.rows;
    const int64_t k = transpose_a ? left.rows : left.columns;
    const int64_t n = transpose_b ? right.rows : right.columns;
    if (k != (transpose_b ? right.columns : right.rows)) {
      return Status::InvalidArgument("MatMul: inner dimensions differ: " + ShapeText(a.shape) +
                                     " times " + ShapeText(b_shape));
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
                                         ShapeText(a.shape) + " times " + ShapeText(b_shape));
        }
      }
    }
    std::vector<int64_t> y_shape = broadcast;
    if (a.shape.size() > 1) y_shape.push_back(m);
    if (b_shape.size() > 1) y_shape.push_back(n);
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();

    cpu::MatMulArgs args;
    args.m = m;
    args.n = n;
    args.k = k;
    args.alpha = alpha_;
    args.a = transpose_a ? cpu::MatrixView{a.Data<float>(), 1, left.columns}
                         : cpu::MatrixView{a.Data<float>(), left.columns, 1};
    if (packed_) {
      args.packed_b = reinterpret_cast<const float*>(packed_.get());
    } else {
      args.b = RightView(b.Data<float>(), right.columns);
    }
    args.y = y.Data<float>();
    args.y_row_stride = n;
    std::vector<int64_t> a_offsets;
    std::vector<int64_t> b_offsets;
    if (right.leading.empty() && !transpose_a) {
      for (const int64_t d : left.leading) args.m *= d;  // the rows of all products are one matrix
    } else {
      a_offsets = Offsets(left.leading, broadcast, left.rows * left.columns);
      b_offsets = Offsets(right.leading, broadcast, right.rows * right.columns);
      args.batch = static_cast<int64_t>(a_offsets.size());
      args.a_offsets = a_offsets.data();
      args.b_offsets = b_offsets.data();
      args.y_batch_stride = m * n;
    }
    return cpu::MatMul(context.Cpu(), args);
  }

 private:
  cpu::MatrixView RightView(const float* data, int64_t columns) const {
    return transpose_b_ ? cpu::MatrixView{data, 1, columns} : cpu::MatrixView{data, columns, 1};
  }

  bool transpose_a_;
  bool transpose_b_;
  float alpha_;
  Weights packed_;
  std::vector<int64_t> packed_shape_;
};

Status AcceptFusedMatMul(const NodeInfo& node) {
  for (const char* name : {"transBatchA", "transBatchB"}) {
    if (node.Int(name, 0) != 0) {
      return Status::Unsupported(std::string("the attribute ") + name + " is not served");
    }
  }
  return Status::Ok();
}

Status CreateMatMul(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MatMulKernel>(node.Int("transA", 0) != 0, node.Int("transB", 0) != 0,
                                           node.Float("alpha", 1.0f));
  return Status::Ok();
}

const char* Contract(const NodeInfo&) { return contract::kGemmF32; }

}  // namespace

void AppendMatMul(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "",
                 .name = "MatMul",
                 .since_first = 1,
                 .since_last = 13,
                 .constraints = {{"T", {kFloat}}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &CreateMatMul});
  ops.push_back({.domain = "com.microsoft",
                 .name = "FusedMatMul",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", {kFloat}}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptFusedMatMul,
                 .contract = &Contract,
                 .create = &CreateMatMul});
}

}  // namespace batch_invariant::ort
