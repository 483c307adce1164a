// MatMulNBits (com.microsoft): 2-, 4- and 8-bit weights in blocks along K.
#include "batch_invariant/cpu/matmul_nbits.h"

#include "batch_invariant/contract.h"
#include "ort/ops/matmul_nbits_weights.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

Status MakePlan(const NodeInfo& node, cpu::MatMulNBitsPlan* plan) {
  cpu::ZeroPoints zero_points = cpu::ZeroPoints::kDefault;
  if (node.HasInput(3)) {
    zero_points = node.InputType(3) == kUint8 ? cpu::ZeroPoints::kPacked : cpu::ZeroPoints::kFloat;
  }
  return cpu::MakeMatMulNBitsPlan(node.Int("K", 0), node.Int("N", 0), node.Int("bits", 4),
                                  node.Int("block_size", 0), node.Int("accuracy_level", 0),
                                  zero_points, plan);
}

Status Accept(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptMatMulNBits(node));
  cpu::MatMulNBitsPlan plan;
  return MakePlan(node, &plan);
}

class MatMulNBitsKernel final : public OpKernel {
 public:
  MatMulNBitsKernel(const NodeInfo& node, const cpu::MatMulNBitsPlan& plan) : plan_(plan) {
    has_zero_points_ = node.HasInput(3);
    scales_ = node.ConstantInput(2);
    zero_points_ = node.ConstantInput(3);
  }

  // The weights take their scales and zero points along, so all three originals can go. They are
  // offered in the order of their inputs, hence scales and zero points are still there when the
  // weights come.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input == 1 && scales_.present && (!has_zero_points_ || zero_points_.present)) {
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckWeights(tensor, scales_, zero_points_));
      packed_ = AllocateWeights(cpu::PackedMatMulNBitsBytes(plan_));
      BATCH_INVARIANT_RETURN_IF_ERROR(
          cpu::PackMatMulNBits(PackingContext(), plan_, tensor.Data<uint8_t>(),
                               scales_.Data<float>(), zero_points_.data, packed_.get()));
      scales_ = {};
      zero_points_ = {};
      *packed = true;
    } else if (input == 2 || input == 3) {
      *packed = packed_ != nullptr;
    }
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    Tensor a;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &a));
    if (a.shape.empty() || a.shape.back() != plan_.k) {
      return Status::InvalidArgument("MatMulNBits: A is " + ShapeText(a.shape) +
                                     ", its last dimension must be K = " + std::to_string(plan_.k));
    }
    const cpu::Context cpu = context.Cpu();
    const void* packed = packed_.get();
    if (packed == nullptr) {
      BATCH_INVARIANT_RETURN_IF_ERROR(PackNow(context, cpu, &packed));
    }
    Tensor bias;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(5, &bias));
    if (bias.present && bias.Elements() != plan_.n) {
      return Status::InvalidArgument("MatMulNBits: bias is " + ShapeText(bias.shape) +
                                     ", needed is [" + std::to_string(plan_.n) + "]");
    }
    std::vector<int64_t> y_shape(a.shape.begin(), a.shape.end());
    y_shape.back() = plan_.n;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    cpu::MatMulNBitsArgs args;
    args.m = a.Elements() / plan_.k;
    args.a = a.Data<float>();
    args.a_row_stride = plan_.k;
    args.packed_b = packed;
    args.bias = bias.Data<float>();
    args.y = y.Data<float>();
    args.y_row_stride = plan_.n;
    return cpu::MatMulNBits(cpu, plan_, args);
  }

 private:
  Status CheckWeights(const Tensor& b, const Tensor& scales, const Tensor& zero_points) const {
    const MatMulNBitsShape shape{plan_.k, plan_.n, plan_.bits, plan_.block_size};
    return CheckMatMulNBitsWeights(shape, b, scales, zero_points);
  }

  // Weights that are computed, or that ONNX Runtime was told not to pack ahead.
  Status PackNow(OpContext& context, const cpu::Context& cpu, const void** packed) const {
    Tensor b;
    Tensor scales;
    Tensor zero_points;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &b));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &scales));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(3, &zero_points));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckWeights(b, scales, zero_points));
    void* memory = cpu.scratch.allocate(cpu.scratch.self, cpu::PackedMatMulNBitsBytes(plan_));
    if (memory == nullptr) return Status::OutOfMemory("MatMulNBits: no memory to pack the weights");
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::PackMatMulNBits(
        cpu, plan_, b.Data<uint8_t>(), scales.Data<float>(), zero_points.data, memory));
    *packed = memory;
    return Status::Ok();
  }

  cpu::MatMulNBitsPlan plan_;
  bool has_zero_points_ = false;
  Tensor scales_;
  Tensor zero_points_;
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
  ops.push_back({.domain = "com.microsoft",
                 .name = "MatMulNBits",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T1", {kFloat}},
                                 {"T2", {kUint8}},
                                 {"T3", {kUint8, kFloat}},
                                 {"T4", {kInt32}}},
                 .inputs = {{"T1"}, {"T2"}, {"T1"}, {"T3", true}, {"T4", true}, {"T1", true}},
                 .outputs = {{"T1"}},
                 .accept = &Accept,
                 .contract = &Contract,
                 .create = &Create});
}

}  // namespace batch_invariant::ort
