// MatMulNBits (com.microsoft): 2-, 4- and 8-bit weights in blocks along K.
#include "batch_invariant/cpu/matmul_nbits.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/matmul_nbits_weights.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

Status MakePlan(const NodeInfo& node, cpu::MatMulNBitsPlan* plan) {
  const MatMulNBitsShape shape = MatMulNBitsShapeOf(node);
  const cpu::ZeroPoints zero_points = !shape.has_zero_points    ? cpu::ZeroPoints::kDefault
                                      : shape.packs_zero_points ? cpu::ZeroPoints::kPacked
                                                                : cpu::ZeroPoints::kFloat;
  return cpu::MakeMatMulNBitsPlan(shape.k, shape.n, shape.bits, shape.block_size,
                                  node.Int("accuracy_level", 0), zero_points, plan,
                                  shape.has_group_index);
}

Status Accept(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptMatMulNBits(node));
  cpu::MatMulNBitsPlan plan;
  return MakePlan(node, &plan);
}

class MatMulNBitsKernel final : public OpKernel {
 public:
  MatMulNBitsKernel(const NodeInfo& node, const cpu::MatMulNBitsPlan& plan)
      : plan_(plan), shape_(MatMulNBitsShapeOf(node)) {
    scales_ = Widened(node.ConstantInput(kNBitsScales));
    zero_points_ = Widened(node.ConstantInput(kNBitsZeroPoints));
    group_index_ = node.ConstantInput(kNBitsGroupIndex);
  }

  // The weights take their scales, zero points and group index along, so all originals can go. They
  // are offered in the order of their inputs, hence the others are still there when the weights
  // come.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input == kNBitsB && scales_.present && (!shape_.has_zero_points || zero_points_.present) &&
        (!plan_.has_group_index || group_index_.present)) {
      packed_ = AllocateWeights(cpu::PackedMatMulNBitsBytes(plan_));
      BATCH_INVARIANT_RETURN_IF_ERROR(
          Pack(PackingContext(), tensor, scales_, zero_points_, group_index_, packed_.get()));
      scales_ = {};
      zero_points_ = {};
      group_index_ = {};
      *packed = true;
    } else if (input > kNBitsB && input <= kNBitsGroupIndex) {
      *packed = packed_ != nullptr;
    }
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    MatMulNBitsOperands operands;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMatMulNBitsOperands(context, plan_.k, plan_.n, &operands));
    if (operands.y.Elements() == 0) return Status::Ok();
    const cpu::Context cpu = context.Cpu();
    cpu::MatMulNBitsArgs args;
    args.packed_b = packed_.get();
    if (args.packed_b == nullptr) {
      BATCH_INVARIANT_RETURN_IF_ERROR(PackNow(context, cpu, &args.packed_b));
    }
    args.m = operands.a.Elements() / plan_.k;
    args.a = operands.a.Data<float>();
    args.a_row_stride = plan_.k;
    args.bias = operands.bias.Data<float>();
    args.y = operands.y.Data<float>();
    args.y_row_stride = plan_.n;
    return cpu::MatMulNBits(cpu, plan_, args);
  }

 private:
  Status Pack(const cpu::Context& cpu, const Tensor& b, const Tensor& scales,
              const Tensor& zero_points, const Tensor& group_index, void* packed) const {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        CheckMatMulNBitsWeights(shape_, b, scales, zero_points, group_index));
    return cpu::PackMatMulNBits(cpu, plan_, b.Data<uint8_t>(), scales.Data<float>(),
                                zero_points.data, packed, group_index.Data<int32_t>());
  }

  // Weights that are computed, or that ONNX Runtime was told not to pack ahead.
  Status PackNow(OpContext& context, const cpu::Context& cpu, const void** packed) const {
    Tensor b;
    Tensor scales;
    Tensor zero_points;
    Tensor group_index;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsB, &b));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsScales, &scales));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsZeroPoints, &zero_points));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsGroupIndex, &group_index));
    void* memory = cpu.scratch.allocate(cpu.scratch.self, cpu::PackedMatMulNBitsBytes(plan_));
    if (memory == nullptr) return Status::OutOfMemory("MatMulNBits: no memory to pack the weights");
    BATCH_INVARIANT_RETURN_IF_ERROR(Pack(cpu, b, scales, zero_points, group_index, memory));
    *packed = memory;
    return Status::Ok();
  }

  const cpu::MatMulNBitsPlan plan_;
  const MatMulNBitsShape shape_;
  Tensor scales_;
  Tensor zero_points_;
  Tensor group_index_;
  Weights packed_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  cpu::MatMulNBitsPlan plan;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakePlan(node, &plan));
  *kernel = std::make_unique<MatMulNBitsKernel>(node, plan);
  return Status::Ok();
}

const char* Contract(const NodeInfo& node) {
  cpu::MatMulNBitsPlan plan;
  return MakePlan(node, &plan).ok() ? plan.contract() : "";
}

}  // namespace

void AppendMatMulNBits(std::vector<OpDefinition>& ops) {
  OpDefinition op = MatMulNBitsOp(kCpuFloats);
  op.accept = &Accept;
  op.contract = &Contract;
  op.create = &Create;
  ops.push_back(std::move(op));
}

}  // namespace batch_invariant::ort
