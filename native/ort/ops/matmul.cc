// MatMul (ONNX) and FusedMatMul (com.microsoft): any rank, constant or computed right side.
#include "batch_invariant/cpu/matmul.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/matmul_shapes.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

class MatMulKernel final : public OpKernel {
 public:
  explicit MatMulKernel(const NodeInfo& node)
      : a_{node.Int("transA", 0) != 0, node.Int("transBatchA", 0) != 0},
        b_{node.Int("transB", 0) != 0, node.Int("transBatchB", 0) != 0},
        alpha_(node.Float("alpha", 1.0f)) {}

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input != 1 || tensor.shape.size() != 2 || tensor.Elements() == 0) return Status::Ok();
    const int64_t k = b_.last ? tensor.shape[1] : tensor.shape[0];
    const int64_t n = b_.last ? tensor.shape[0] : tensor.shape[1];
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
    MatMulShapes shapes;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeMatMulShapes(a.shape, b_shape, a_, b_, &shapes));
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shapes.y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();

    cpu::MatMulArgs args;
    args.m = shapes.m;
    args.n = shapes.n;
    args.k = shapes.k;
    args.alpha = alpha_;
    args.a = shapes.transpose_a ? cpu::MatrixView{a.Data<float>(), 1, shapes.a_pitch}
                                : cpu::MatrixView{a.Data<float>(), shapes.a_pitch, 1};
    if (packed_) {
      args.packed_b = reinterpret_cast<const float*>(packed_.get());
    } else {
      args.b = RightView(b.Data<float>(), shapes.b_pitch);
    }
    args.y = y.Data<float>();
    args.y_row_stride = shapes.n;
    if (!shapes.is_single) {
      args.batch = shapes.batch();
      args.a_offsets = shapes.a_offsets.data();
      args.b_offsets = shapes.b_offsets.data();
      args.y_batch_stride = shapes.m * shapes.n;
    }
    return cpu::MatMul(context.Cpu(), args);
  }

 private:
  cpu::MatrixView RightView(const float* data, int64_t pitch) const {
    return b_.last ? cpu::MatrixView{data, 1, pitch} : cpu::MatrixView{data, pitch, 1};
  }

  Transposition a_;
  Transposition b_;
  float alpha_;
  Weights packed_;
  std::vector<int64_t> packed_shape_;
};

Status CreateMatMul(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MatMulKernel>(node);
  return Status::Ok();
}

const char* Contract(const NodeInfo&) { return contract::kGemmF32; }

}  // namespace

void AppendMatMul(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "",
                 .name = "MatMul",
                 .since_first = 1,
                 .since_last = 13,
                 .constraints = {{"T", kCpuFloats}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &CreateMatMul});
  ops.push_back({.domain = "com.microsoft",
                 .name = "FusedMatMul",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", kCpuFloats}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &CreateMatMul});
}

}  // namespace batch_invariant::ort
