// MatMul, FusedMatMul and Gemm on CUDA.
#include "batch_invariant/cuda/gemm.h"

#include <algorithm>

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/cuda/packed_right_side.h"
#include "ort/ops/matmul_shapes.h"

namespace batch_invariant::ort {
namespace {

// What the products have in common: attributes, and a constant right side that is packed once.
class ProductKernel : public OpKernel {
 public:
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) final {
    *packed = false;
    return input == 1 ? right_.Pack(device(), tensor, packed) : Status::Ok();
  }

 protected:
  explicit ProductKernel(const NodeInfo& node)
      : transpose_a_(node.Int("transA", 0) != 0),
        transpose_b_(node.Int("transB", 0) != 0),
        alpha_(node.Float("alpha", 1.0f)),
        right_(transpose_b_) {}

  const bool transpose_a_;
  const bool transpose_b_;
  const float alpha_;
  PackedRightSide right_;
};

class MatMulKernel final : public ProductKernel {
 public:
  explicit MatMulKernel(const NodeInfo& node) : ProductKernel(node) {}

  Status Compute(OpContext& context) override {
    Tensor a;
    Tensor b;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &a));
    if (!right_.packed()) BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &b));
    MatMulShapes shapes;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeMatMulShapes(a.shape, right_.packed() ? right_.shape() : b.shape,
                         {.last = transpose_a_}, {.last = transpose_b_}, &shapes));
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shapes.y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();

    cuda::GemmArgs args;
    args.type = CudaType(a.type);
    args.m = shapes.m;
    args.n = shapes.n;
    args.k = shapes.k;
    args.alpha = alpha_;
    args.a = MatrixOf(a.data, shapes.a_pitch, shapes.transpose_a);
    args.packed_b = right_.data();
    args.packed_b_is_ready = right_.packed();
    if (!right_.packed()) args.b = MatrixOf(b.data, shapes.b_pitch, shapes.transpose_b);
    args.y = y.data;
    args.y_row_stride = shapes.n;
    if (shapes.is_single) return cuda::Gemm(args, CudaStream(context));
    return RunBatch(shapes, args, CudaStream(context));
  }

 private:
  // Runs of products whose operands lie at even distances are one launch.
  static Status RunBatch(const MatMulShapes& shapes, cuda::GemmArgs args, cuda::Stream stream) {
    const size_t element = cuda::ElementSize(args.type);
    const cuda::GemmArgs first = args;
    args.y_batch_stride = shapes.m * shapes.n;
    const int64_t count = shapes.batch();
    for (int64_t begin = 0; begin < count;) {
      const auto offset = [&](const std::vector<int64_t>& offsets, int64_t i) {
        return offsets[static_cast<size_t>(i)];
      };
      const auto step = [&](const std::vector<int64_t>& offsets, int64_t i) {
        return offset(offsets, i) - offset(offsets, i - 1);
      };
      int64_t end = begin + 1;
      if (end < count) {
        args.a_batch_stride = step(shapes.a_offsets, end);
        args.b_batch_stride = step(shapes.b_offsets, end);
        while (end < count && step(shapes.a_offsets, end) == args.a_batch_stride &&
               step(shapes.b_offsets, end) == args.b_batch_stride && args.a_batch_stride >= 0 &&
               args.b_batch_stride >= 0) {
          ++end;
        }
        end = std::max(end, begin + 1);
      }
      args.batch = end - begin;
      args.a.data = Advance(first.a.data, offset(shapes.a_offsets, begin), element);
      args.b.data = Advance(first.b.data, offset(shapes.b_offsets, begin), element);
      args.y = const_cast<void*>(Advance(first.y, begin * args.y_batch_stride, element));
      BATCH_INVARIANT_RETURN_IF_ERROR(cuda::Gemm(args, stream));
      begin = end;
    }
    return Status::Ok();
  }

  static const void* Advance(const void* data, int64_t elements, size_t element_bytes) {
    return static_cast<const std::byte*>(data) + elements * static_cast<int64_t>(element_bytes);
  }
};

class GemmKernel final : public ProductKernel {
 public:
  explicit GemmKernel(const NodeInfo& node)
      : ProductKernel(node), beta_(node.Float("beta", 1.0f)) {}

  Status Compute(OpContext& context) override {
    Tensor a;
    Tensor b;
    Tensor c;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &a));
    if (!right_.packed()) BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &b));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &c));
    GemmShapes shapes;
    BATCH_INVARIANT_RETURN_IF_ERROR(MakeGemmShapes(a.shape,
                                                   right_.packed() ? right_.shape() : b.shape, c,
                                                   transpose_a_, transpose_b_, &shapes));
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, {shapes.m, shapes.n}, &y));
    if (y.Elements() == 0) return Status::Ok();
    cuda::GemmArgs args;
    args.type = CudaType(a.type);
    args.m = shapes.m;
    args.n = shapes.n;
    args.k = shapes.k;
    args.alpha = alpha_;
    args.beta = beta_;
    args.a = MatrixOf(a.data, a.shape[1], transpose_a_);
    args.packed_b = right_.data();
    args.packed_b_is_ready = right_.packed();
    if (!right_.packed()) args.b = MatrixOf(b.data, b.shape[1], transpose_b_);
    if (c.present) args.c = {c.data, shapes.c_row_stride, shapes.c_column_stride};
    args.y = y.data;
    args.y_row_stride = shapes.n;
    return cuda::Gemm(args, CudaStream(context));
  }

 private:
  const float beta_;
};

template <typename Kernel>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<Kernel>(node);
  return Status::Ok();
}

const char* Contract(const NodeInfo& node) {
  return cuda::GemmContract(CudaType(node.InputType(0)));
}

}  // namespace

namespace {

Status AcceptFusedMatMul(const NodeInfo& node) {
  for (const char* name : {"transBatchA", "transBatchB"}) {
    if (node.Int(name, 0) != 0) {
      return Status::Unsupported(std::string("the attribute ") + name + " is not served on GPUs");
    }
  }
  return Status::Ok();
}

}  // namespace

void AppendCudaGemm(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "",
                 .name = "MatMul",
                 .since_first = 1,
                 .since_last = 13,
                 .constraints = {{"T", kCudaFloats}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &Create<MatMulKernel>});
  ops.push_back({.domain = "com.microsoft",
                 .name = "FusedMatMul",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", kCudaFloats}},
                 .inputs = {{"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptFusedMatMul,
                 .contract = &Contract,
                 .create = &Create<MatMulKernel>});
  ops.push_back({.domain = "",
                 .name = "Gemm",
                 .since_first = 7,
                 .since_last = 13,
                 .constraints = {{"T", kCudaFloats}},
                 .inputs = {{"T"}, {"T"}, {"T", true}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &Create<GemmKernel>});
}

}  // namespace batch_invariant::ort
