// MatMulNBits on CUDA.
#include "batch_invariant/cuda/matmul_nbits.h"

#include <array>

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/matmul_nbits_plan.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/element_types.h"
#include "ort/ops/matmul_nbits_weights.h"

namespace batch_invariant::ort {

Status MakeCudaMatMulNBitsPlan(const NodeInfo& node, cuda::MatMulNBitsPlan* plan) {
  cuda::ZeroPoints zero_points = cuda::ZeroPoints::kDefault;
  if (node.HasInput(3)) {
    zero_points =
        node.InputType(3) == kUint8 ? cuda::ZeroPoints::kPacked : cuda::ZeroPoints::kElement;
  }
  return cuda::MakeMatMulNBitsPlan(CudaType(node.InputType(0)), node.Int("K", 0), node.Int("N", 0),
                                   node.Int("bits", 4), node.Int("block_size", 0), zero_points,
                                   plan);
}

namespace {

Status Accept(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptMatMulNBits(node));
  if (node.HasInput(kNBitsGroupIndex)) {
    return Status::Unsupported("the input g_idx is not served on CUDA");
  }
  const ElementType zero_points = node.InputType(3);
  if (node.HasInput(3) && zero_points != kUint8 && zero_points != node.InputType(0)) {
    return Status::Unsupported("zero points of another type than the activations are not served");
  }
  cuda::MatMulNBitsPlan plan;
  return MakeCudaMatMulNBitsPlan(node, &plan);
}

class MatMulNBitsKernel final : public OpKernel {
 public:
  MatMulNBitsKernel(const NodeInfo& node, const cuda::MatMulNBitsPlan& plan) : plan_(plan) {
    has_zero_points_ = node.HasInput(3);
  }

  // Weights, scales and zero points are offered one after the other and each is gone once it is
  // called packed: they are kept until all are there, on the device, and then rewritten into one
  // buffer.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input < 1 || input > 3) return Status::Ok();
    Part& part = parts_[input - 1];
    part.type = tensor.type;
    part.shape.assign(tensor.shape.begin(), tensor.shape.end());
    const size_t bytes = static_cast<size_t>(tensor.Elements()) * ElementBytes(tensor.type);
    part.memory = std::make_unique<DeviceWeights>();
    BATCH_INVARIANT_RETURN_IF_ERROR(part.memory->Allocate(device(), bytes));
    BATCH_INVARIANT_RETURN_IF_ERROR(device()->Copy(part.memory->get(), tensor.data, bytes));
    *packed = true;
    const bool complete = parts_[0].memory != nullptr && parts_[1].memory != nullptr &&
                          (!has_zero_points_ || parts_[2].memory != nullptr);
    return complete ? PackParts() : Status::Ok();
  }

  Status Compute(OpContext& context) override {
    MatMulNBitsOperands operands;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ReadMatMulNBitsOperands(context, plan_.k, plan_.n, &operands));
    if (operands.y.Elements() == 0) return Status::Ok();
    const void* packed = packed_.get();
    if (packed == nullptr) BATCH_INVARIANT_RETURN_IF_ERROR(PackNow(context, &packed));
    cuda::MatMulNBitsArgs args;
    args.m = operands.a.Elements() / plan_.k;
    args.a = operands.a.data;
    args.a_row_stride = plan_.k;
    args.packed = packed;
    args.packed_is_ready = packed == packed_.get();
    args.bias = operands.bias.data;
    args.y = operands.y.data;
    args.y_row_stride = plan_.n;
    return cuda::MatMulNBits(plan_, args, CudaStream(context));
  }

 private:
  struct Part {
    ElementType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::vector<int64_t> shape;
    std::unique_ptr<DeviceWeights> memory;

    Tensor View() const {
      if (memory == nullptr) return {};
      return {memory->get(), type, shape, true};
    }
  };

  Status Check(const Tensor& b, const Tensor& scales, const Tensor& zero_points) const {
    return CheckMatMulNBitsWeights({plan_.k, plan_.n, plan_.bits, plan_.block_size}, b, scales,
                                   zero_points);
  }

  Status PackParts() {
    const Tensor b = parts_[0].View();
    const Tensor scales = parts_[1].View();
    const Tensor zero_points = parts_[2].View();
    BATCH_INVARIANT_RETURN_IF_ERROR(Check(b, scales, zero_points));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        packed_.Allocate(device(), cuda::PackedMatMulNBitsBytes(plan_)));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cuda::PackMatMulNBits(plan_, b.data, scales.data, zero_points.data, packed_.get(),
                              static_cast<cuda::Stream>(device()->Stream())));
    BATCH_INVARIANT_RETURN_IF_ERROR(device()->Synchronize());
    for (Part& part : parts_) part = {};
    return Status::Ok();
  }

  // Weights of which some are computed, or that ONNX Runtime was told not to pack ahead.
  Status PackNow(OpContext& context, const void** packed) {
    std::array<Tensor, 3> parts;
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i] = parts_[i].View();
      if (!parts[i].present) {
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i + 1, &parts[i]));
      }
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(Check(parts[0], parts[1], parts[2]));
    void* memory = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        context.Workspace(cuda::PackedMatMulNBitsBytes(plan_), &memory));
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::PackMatMulNBits(
        plan_, parts[0].data, parts[1].data, parts[2].data, memory, CudaStream(context)));
    *packed = memory;
    return Status::Ok();
  }

  cuda::MatMulNBitsPlan plan_;
  bool has_zero_points_ = false;
  std::array<Part, 3> parts_;  // B, scales, zero_points
  DeviceWeights packed_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  cuda::MatMulNBitsPlan plan;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeCudaMatMulNBitsPlan(node, &plan));
  *kernel = std::make_unique<MatMulNBitsKernel>(node, plan);
  return Status::Ok();
}

const char* Contract(const NodeInfo& node) {
  cuda::MatMulNBitsPlan plan;
  return MakeCudaMatMulNBitsPlan(node, &plan).ok() ? plan.contract() : "";
}

}  // namespace

void AppendCudaMatMulNBits(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "com.microsoft",
                 .name = "MatMulNBits",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T1", kCudaFloats},
                                 {"T2", {kUint8}},
                                 {"T3", {kUint8, kFloat, kFloat16, kBFloat16}},
                                 {"T4", {kInt32}}},
                 .inputs = {{"T1"}, {"T2"}, {"T1"}, {"T3", true}, {"T4", true}, {"T1", true}},
                 .outputs = {{"T1"}},
                 .accept = &Accept,
                 .contract = &Contract,
                 .create = &Create});
}

}  // namespace batch_invariant::ort
