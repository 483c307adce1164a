// Gemm (ONNX 7 to 13): Y = alpha * op(A) op(B) + beta * C. ONNX Runtime also makes it from MatMul +
// Add.
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "ort/ops/half.h"
#include "ort/ops/matmul_shapes.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

class GemmKernel final : public OpKernel {
 public:
  explicit GemmKernel(const NodeInfo& node)
      : transpose_a_(node.Int("transA", 0) != 0),
        transpose_b_(node.Int("transB", 0) != 0),
        alpha_(node.Float("alpha", 1.0f)),
        beta_(node.Float("beta", 1.0f)) {}

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input != 1 || tensor.shape.size() != 2 || tensor.Elements() == 0) return Status::Ok();
    const int64_t k = tensor.shape[transpose_b_ ? 1 : 0];
    const int64_t n = tensor.shape[transpose_b_ ? 0 : 1];
    packed_ = AllocateWeights(cpu::PackedMatMulBytes(k, n));
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::PackMatMul(PackingContext(), k, n,
                                                    View(tensor, transpose_b_),
                                                    reinterpret_cast<float*>(packed_.get())));
    packed_shape_ = {tensor.shape[0], tensor.shape[1]};
    *packed = true;
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    Tensor a;
    Tensor b;
    Tensor c;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &a));
    if (!packed_) BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &b));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &c));
    GemmShapes shapes;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeGemmShapes(a.shape, packed_ ? std::span<const int64_t>(packed_shape_) : b.shape, c,
                       transpose_a_, transpose_b_, &shapes));
    cpu::MatMulArgs args;
    args.m = shapes.m;
    args.n = shapes.n;
    args.k = shapes.k;
    args.alpha = alpha_;
    args.beta = beta_;
    args.a = View(a, transpose_a_);
    if (packed_) {
      args.packed_b = reinterpret_cast<const float*>(packed_.get());
    } else {
      args.b = View(b, transpose_b_);
    }
    if (c.present) args.c = {c.Data<float>(), shapes.c_row_stride, shapes.c_column_stride};
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, {shapes.m, shapes.n}, &y));
    if (y.Elements() == 0) return Status::Ok();
    args.y = y.Data<float>();
    args.y_row_stride = shapes.n;
    return cpu::MatMul(context.Cpu(), args);
  }

 private:
  static cpu::MatrixView View(const Tensor& tensor, bool transposed) {
    const int64_t columns = tensor.shape[1];
    return transposed ? cpu::MatrixView{tensor.Data<float>(), 1, columns}
                      : cpu::MatrixView{tensor.Data<float>(), columns, 1};
  }

  bool transpose_a_;
  bool transpose_b_;
  float alpha_;
  float beta_;
  Weights packed_;
  std::array<int64_t, 2> packed_shape_{};
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<GemmKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendGemm(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "",
                 .name = "Gemm",
                 .since_first = 7,
                 .since_last = 13,
                 .constraints = {{"T", kCpuFloats}},
                 .inputs = {{"T"}, {"T"}, {"T", true}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = [](const NodeInfo&) { return contract::kGemmF32; },
                 .create = &Create});
}

}  // namespace batch_invariant::ort
