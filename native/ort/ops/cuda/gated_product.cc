// Gated products on CUDA: the activation and the product in one kernel, and with SiLU the two
// projections before them as well.
#include <array>

#include "batch_invariant/cuda/elementwise.h"
#include "batch_invariant/cuda/gemm.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/matmul_nbits_plan.h"
#include "ort/ops/fusion.h"
#include "ort/ops/gated_kernel.h"
#include "ort/ops/matmul_nbits_weights.h"

namespace batch_invariant::ort {
namespace {

// Columns of a gate and an up matrix alternate in groups of this many.
constexpr int64_t kGroup = 8;

cuda::UnaryOp CudaActivation(GateActivation activation) {
  switch (activation) {
    case GateActivation::kGelu:
      return cuda::UnaryOp::kGelu;
    case GateActivation::kGeluTanh:
      return cuda::UnaryOp::kGeluTanh;
    case GateActivation::kQuickGelu:
      return cuda::UnaryOp::kQuickGelu;
    default:
      return cuda::UnaryOp::kSilu;
  }
}

struct CudaGated {
  using Args = cuda::GatedArgs;
  static Args ArgsOf(const GatedProduct& product) {
    Args args;
    args.activation = CudaActivation(product.activation);
    args.alpha = product.alpha;
    args.type = CudaType(product.type);
    args.round_between = true;
    return args;
  }
  static Status Run(OpContext& context, const Args& args) {
    return cuda::Gated(args, CudaStream(context));
  }
};

// A constant of the graph, which may lie on the host, on the device.
class Upload {
 public:
  Status Copy(DeviceServices* device, const Ort::ConstNode& node, size_t input) {
    const GraphNodeInfo info(node);
    if (!info.HasInput(input)) return Status::Ok();
    const Tensor tensor = info.ConstantInput(input);
    if (!tensor.present) {
      return Status::InvalidArgument("node '" + info.Name() + "': input " + std::to_string(input) +
                                     " is no constant any more");
    }
    view_ = {nullptr, tensor.type, {}, true};
    shape_.assign(tensor.shape.begin(), tensor.shape.end());
    const size_t bytes = static_cast<size_t>(tensor.Elements()) * ElementBytes(tensor.type);
    BATCH_INVARIANT_RETURN_IF_ERROR(memory_.Allocate(device, bytes));
    return device->Copy(memory_.get(), tensor.data, bytes);
  }

  Tensor View() const {
    Tensor view = view_;
    view.data = memory_.get();
    view.shape = shape_;
    return view;
  }

 private:
  DeviceWeights memory_;
  std::vector<int64_t> shape_;
  Tensor view_;
};

// y [rows, n] = silu(x gate) * (x up), whose shape but for the last dimension is x's.
class GatedProjectionKernel : public OpKernel {
 public:
  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    if (x.shape.empty() || x.shape.back() != k_) {
      return Status::InvalidArgument(name_ + ": the left matrix is " + ShapeText(x.shape) +
                                     ", its last dimension must be " + std::to_string(k_));
    }
    std::vector<int64_t> shape(x.shape.begin(), x.shape.end());
    shape.back() = n_;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    return Run(context, x, x.Elements() / k_, y);
  }

 protected:
  GatedProjectionKernel(std::string name, int64_t k, int64_t n)
      : name_(std::move(name)), k_(k), n_(n) {}

  virtual Status Run(OpContext& context, const Tensor& x, int64_t rows, const Tensor& y) = 0;

  const std::string name_;
  const int64_t k_;
  const int64_t n_;  // of y
  DeviceWeights packed_;
};

class GatedMatMulKernel final : public GatedProjectionKernel {
 public:
  GatedMatMulKernel(std::string name, ElementType type, int64_t k, int64_t n)
      : GatedProjectionKernel(std::move(name), k, n), type_(CudaType(type)) {}

  Status Pack(DeviceServices* device, const GatedProjections& group) {
    Upload gate;
    Upload up;
    BATCH_INVARIANT_RETURN_IF_ERROR(gate.Copy(device, group.gate, 1));
    BATCH_INVARIANT_RETURN_IF_ERROR(up.Copy(device, group.up, 1));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        packed_.Allocate(device, cuda::PackedGemmWeightBytes(type_, k_, 2 * n_)));
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::PackGatedGemmWeights(
        type_, k_, n_, {gate.View().data, n_, 1}, {up.View().data, n_, 1}, packed_.get(),
        static_cast<cuda::Stream>(device->Stream())));
    return device->Synchronize();
  }

 private:
  Status Run(OpContext& context, const Tensor& x, int64_t rows, const Tensor& y) override {
    cuda::GemmArgs args;
    args.type = type_;
    args.m = rows;
    args.n = 2 * n_;
    args.k = k_;
    args.a = {x.data, k_, 1};
    args.packed_b = packed_.get();
    args.packed_b_is_ready = true;
    args.silu_gated = true;
    args.y = y.data;
    args.y_row_stride = n_;
    size_t bytes = 0;
    void* workspace = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::GatedGemmWorkspaceBytes(args, &bytes));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(bytes, &workspace));
    return cuda::GatedGemm(args, workspace, CudaStream(context));
  }

  const cuda::ElementType type_;
};

class GatedMatMulNBitsKernel final : public GatedProjectionKernel {
 public:
  // `plan` is that of one of the two matrices.
  GatedMatMulNBitsKernel(std::string name, const cuda::MatMulNBitsPlan& plan)
      : GatedProjectionKernel(std::move(name), plan.k, plan.n),
        one_(plan),
        plan_(GatedPlan(plan)) {}

  Status Pack(DeviceServices* device, const GatedProjections& group) {
    std::array<std::array<Upload, 3>, 2> parts;
    std::array<cuda::NBitsTensors, 2> weights;
    const std::array nodes = {group.gate, group.up};
    for (size_t i = 0; i < nodes.size(); ++i) {
      std::array<Tensor, 3> views;
      for (size_t part = 0; part < views.size(); ++part) {
        BATCH_INVARIANT_RETURN_IF_ERROR(parts[i][part].Copy(device, nodes[i], part + 1));
        views[part] = parts[i][part].View();
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckMatMulNBitsWeights(
          MatMulNBitsShapeOf(GraphNodeInfo(nodes[i])), views[0], views[1], views[2], {}));
      weights[i] = {views[0].data, views[1].data, views[2].data};
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(packed_.Allocate(device, cuda::PackedMatMulNBitsBytes(plan_)));
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::PackGatedMatMulNBits(
        one_, weights[0], weights[1], packed_.get(), static_cast<cuda::Stream>(device->Stream())));
    return device->Synchronize();
  }

 private:
  Status Run(OpContext& context, const Tensor& x, int64_t rows, const Tensor& y) override {
    cuda::MatMulNBitsArgs args;
    args.m = rows;
    args.a = x.data;
    args.a_row_stride = k_;
    args.packed = packed_.get();
    args.packed_is_ready = true;
    args.silu_gated = true;
    args.y = y.data;
    args.y_row_stride = n_;
    size_t bytes = 0;
    void* workspace = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::GatedMatMulNBitsWorkspaceBytes(plan_, args, &bytes));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(bytes, &workspace));
    return cuda::GatedMatMulNBits(plan_, args, workspace, CudaStream(context));
  }

  const cuda::MatMulNBitsPlan one_;
  const cuda::MatMulNBitsPlan plan_;  // of both
};

bool IsQuantized(const GatedProjections& group) {
  return group.gate.GetOperatorType() == "MatMulNBits";
}

std::vector<int64_t> WeightShape(const GatedProjections& group) {
  return group.gate.GetInputs()[1].TypeInfo().GetTensorTypeAndShapeInfo().GetShape();
}

std::vector<Ort::ConstNode> MatchProjections(const Ort::ConstNode& last, bool alone) {
  std::optional<GatedProjections> group = MatchGatedProjections(last, alone);
  if (!group) return {};
  int64_t k = 0;
  int64_t n = 0;
  if (IsQuantized(*group)) {
    const MatMulNBitsShape shape = MatMulNBitsShapeOf(GraphNodeInfo(group->gate));
    k = shape.k;
    n = shape.n;
  } else {
    const std::vector<int64_t> shape = WeightShape(*group);
    k = shape[0];
    n = shape[1];
  }
  if (k < 1 || n < 1 || n % kGroup != 0) return {};
  return std::move(group->nodes);
}

template <typename Kernel>
Status Packed(std::unique_ptr<Kernel> made, DeviceServices* device, const GatedProjections& group,
              std::unique_ptr<OpKernel>* kernel) {
  BATCH_INVARIANT_RETURN_IF_ERROR(made->Pack(device, group));
  *kernel = std::move(made);
  return Status::Ok();
}

Status CreateProjections(std::span<const Ort::ConstNode> nodes, std::span<const std::string>,
                         DeviceServices* device, std::unique_ptr<OpKernel>* kernel) {
  const std::optional<GatedProjections> group = MatchGatedProjections(nodes.back(), true);
  const std::string name = group->gate.GetName();
  if (IsQuantized(*group)) {
    cuda::MatMulNBitsPlan plan;
    BATCH_INVARIANT_RETURN_IF_ERROR(MakeCudaMatMulNBitsPlan(GraphNodeInfo(group->gate), &plan));
    return Packed(std::make_unique<GatedMatMulNBitsKernel>(name, plan), device, *group, kernel);
  }
  const std::vector<int64_t> shape = WeightShape(*group);
  return Packed(std::make_unique<GatedMatMulKernel>(name, group->product.type, shape[0], shape[1]),
                device, *group, kernel);
}

std::vector<Ort::ConstNode> MatchProduct(const Ort::ConstNode& last, bool alone) {
  std::optional<GatedProduct> product = MatchGatedProduct(last, alone);
  if (!product) return {};
  const ElementType type = product->type;
  if (type != kFloat && type != kFloat16 && type != kBFloat16) return {};
  return std::move(product->nodes);
}

Status CreateProduct(std::span<const Ort::ConstNode> nodes, std::span<const std::string> inputs,
                     DeviceServices*, std::unique_ptr<OpKernel>* kernel) {
  *kernel =
      std::make_unique<GatedKernel<CudaGated>>(*MatchGatedProduct(nodes.back(), true), inputs);
  return Status::Ok();
}

}  // namespace

std::span<const FusionDefinition> CudaFusions() {
  static constexpr FusionDefinition kFusions[] = {
      {.contract = cuda::kElementwiseContract,
       .keeps_constants = true,
       .match = &MatchProjections,
       .create = &CreateProjections},
      {.contract = cuda::kElementwiseContract,
       .keeps_constants = false,
       .match = &MatchProduct,
       .create = &CreateProduct},
  };
  return kFusions;
}

}  // namespace batch_invariant::ort
