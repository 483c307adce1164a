// MatMulNBits on CUDA.
#include "batch_invariant/cuda/matmul_nbits.h"

#include <algorithm>
#include <array>
#include <string>

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/kept_tensor.h"
#include "ort/ops/cuda/matmul_nbits_plan.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/matmul_nbits_weights.h"

namespace batch_invariant::ort {

Status MakeCudaMatMulNBitsPlan(const NodeInfo& node, cuda::MatMulNBitsPlan* plan) {
  const MatMulNBitsShape shape = MatMulNBitsShapeOf(node);
  const cuda::ZeroPoints zero_points = !shape.has_zero_points    ? cuda::ZeroPoints::kDefault
                                       : shape.packs_zero_points ? cuda::ZeroPoints::kPacked
                                                                 : cuda::ZeroPoints::kElement;
  return cuda::MakeMatMulNBitsPlan(CudaType(node.InputType(kNBitsA)), shape.k, shape.n, shape.bits,
                                   shape.block_size, zero_points, plan, shape.has_group_index);
}

namespace {

// The device cannot say that an index is wrong, so this looks at them while they lie on the host.
Status AcceptGroupIndex(const NodeInfo& node, const MatMulNBitsShape& shape) {
  const Tensor index = node.ConstantInput(kNBitsGroupIndex);
  if (!index.present) return Status::Unsupported("a g_idx that is computed is not served on CUDA");
  const int64_t count = std::min(shape.k, index.Elements());
  for (int64_t k = 0; k < count; ++k) {
    const int32_t block = index.Data<int32_t>()[k];
    if (block < 0 || block >= shape.blocks()) {
      return Status::InvalidArgument("g_idx[" + std::to_string(k) + "] is " +
                                     std::to_string(block) + ", there are " +
                                     std::to_string(shape.blocks()) + " blocks");
    }
  }
  return Status::Ok();
}

Status Accept(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptMatMulNBits(node));
  const ElementType zero_points = node.InputType(kNBitsZeroPoints);
  if (node.HasInput(kNBitsZeroPoints) && zero_points != kUint8 &&
      zero_points != node.InputType(kNBitsA)) {
    return Status::Unsupported("zero points of another type than the activations are not served");
  }
  cuda::MatMulNBitsPlan plan;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeCudaMatMulNBitsPlan(node, &plan));
  return plan.has_group_index ? AcceptGroupIndex(node, MatMulNBitsShapeOf(node)) : Status::Ok();
}

class MatMulNBitsKernel final : public OpKernel {
 public:
  MatMulNBitsKernel(const NodeInfo& node, const cuda::MatMulNBitsPlan& plan)
      : plan_(plan), shape_(MatMulNBitsShapeOf(node)) {}

  // Weights, scales, zero points and group index are offered one after the other and each is gone
  // once it is called packed: they are kept until all are there, on the device, and then rewritten
  // into one buffer.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input < kNBitsB || input > kNBitsGroupIndex) return Status::Ok();
    BATCH_INVARIANT_RETURN_IF_ERROR(parts_[input - kNBitsB].Keep(device(), tensor));
    *packed = true;
    const bool complete = parts_[0].kept() && parts_[1].kept() &&
                          (!shape_.has_zero_points || parts_[2].kept()) &&
                          (!shape_.has_group_index || parts_[3].kept());
    return complete ? PackParts() : Status::Ok();
  }

  Status Compute(OpContext& context) override {
    MatMulNBitsOperands operands;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMatMulNBitsOperands(context, plan_.k, plan_.n, &operands));
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
  // B, scales, zero_points, g_idx.
  using Weights = std::array<Tensor, 4>;

  Status Pack(const Weights& weights, void* packed, cuda::Stream stream) const {
    const auto& [b, scales, zero_points, group_index] = weights;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        CheckMatMulNBitsWeights(shape_, b, scales, zero_points, group_index));
    return cuda::PackMatMulNBits(plan_, b.data, scales.data, zero_points.data, packed, stream,
                                 group_index.Data<int32_t>());
  }

  Status PackParts() {
    Weights weights;
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = parts_[i].View();
    BATCH_INVARIANT_RETURN_IF_ERROR(
        packed_.Allocate(device(), cuda::PackedMatMulNBitsBytes(plan_)));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Pack(weights, packed_.get(), static_cast<cuda::Stream>(device()->Stream())));
    BATCH_INVARIANT_RETURN_IF_ERROR(device()->Synchronize());
    for (KeptTensor& part : parts_) part = {};
    return Status::Ok();
  }

  // Weights of which some are computed, or that ONNX Runtime was told not to pack ahead.
  Status PackNow(OpContext& context, const void** packed) {
    Weights weights;
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = parts_[i].View();
      if (!weights[i].present) {
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsB + i, &weights[i]));
      }
    }
    void* memory = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        context.Workspace(cuda::PackedMatMulNBitsBytes(plan_), &memory));
    BATCH_INVARIANT_RETURN_IF_ERROR(Pack(weights, memory, CudaStream(context)));
    *packed = memory;
    return Status::Ok();
  }

  const cuda::MatMulNBitsPlan plan_;
  const MatMulNBitsShape shape_;
  std::array<KeptTensor, 4> parts_;
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
  OpDefinition op = MatMulNBitsOp(kCudaFloats);
  op.accept = &Accept;
  op.contract = &Contract;
  op.create = &Create;
  ops.push_back(std::move(op));
}

}  // namespace batch_invariant::ort
