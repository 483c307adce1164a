// MoE and QMoE (com.microsoft): mixtures of experts with fp32 and with n-bit weights.
#include "batch_invariant/cpu/moe.h"

#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "ort/ops/half.h"
#include "ort/ops/moe_inputs.h"
#include "ort/ops/op_table.h"
#include "ort/ops/quantized_experts.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

Status AcceptQMoeOnCpu(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptQMoe(node));
  cpu::MatMulNBitsPlan plan;
  const int64_t block = node.Int("block_size", 0);
  return cpu::MakeMatMulNBitsPlan(1, 1, node.Int("expert_weight_bits", 4), block > 0 ? block : 16,
                                  node.Int("accuracy_level", 0), cpu::ZeroPoints::kDefault, &plan);
}

// One layer of all experts, packed.
struct Layer {
  Weights packed;
  std::vector<int64_t> shape;  // [experts, n, k]
  cpu::MatMulNBitsPlan plan;   // QMoE
};

class MoeKernel final : public OpKernel {
 public:
  MoeKernel(const NodeInfo& node, bool quantized)
      : name_(node.OpType()), quantized_(quantized), inputs_(quantized ? kQMoeLayers : kMoeLayers) {
    ReadMoeAttributes(node, quantized, &attributes_);
    if (!quantized_) return;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      experts_[i].bits = node.Int("expert_weight_bits", 4);
      experts_[i].block_size = node.Int("block_size", 0);
      experts_[i].accuracy_level = node.Int("accuracy_level", 0);
      experts_[i].scales = Widened(node.ConstantInput(inputs_[i].scales));
      experts_[i].zero_points = node.ConstantInput(inputs_[i].zero_points);
      has_zero_points_[i] = node.HasInput(inputs_[i].zero_points);
    }
  }

  // Quantised weights take their scales and zero points along, which are offered after or before
  // them: all of them can go, or none.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const ExpertLayerInputs& at = inputs_[i];
      QuantizedExperts& experts = experts_[i];
      if (input == at.weights) {
        if (quantized_ &&
            (!experts.scales.present || (has_zero_points_[i] && !experts.zero_points.present))) {
          continue;
        }
        experts.weights = tensor;
        BATCH_INVARIANT_RETURN_IF_ERROR(MakeLayer(i, experts, &layers_[i]));
        layers_[i].packed = AllocateWeights(LayerBytes(layers_[i]));
        BATCH_INVARIANT_RETURN_IF_ERROR(
            Pack(PackingContext(), experts, layers_[i], layers_[i].packed.get()));
        experts.weights = experts.scales = experts.zero_points = {};
        *packed = true;
      } else if (quantized_ && (input == at.scales || input == at.zero_points)) {
        *packed = layers_[i].packed != nullptr;
      }
    }
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    const cpu::Context cpu = context.Cpu();
    MoeOperands operands;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMoeOperands(context, name_, quantized_, &operands));
    cpu::MoeArgs args = attributes_;
    args.hidden = operands.hidden;
    args.tokens = operands.tokens;
    args.experts = operands.experts;
    Point(args.input, operands.input);
    Point(args.router, operands.router);
    Point(args.router_weights, operands.router_weights);
    std::array<Layer, 2> computed;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          ViewLayer(context, cpu, i, &computed[i], i == 0 ? &args.fc1 : &args.fc2));
    }
    const auto shape_of = [&](size_t i) -> const std::vector<int64_t>& {
      return layers_[i].packed ? layers_[i].shape : computed[i].shape;
    };
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckMoeLayers(name_, operands,
                                                   args.activation == ExpertActivation::kSwiGlu,
                                                   shape_of(0), shape_of(1), &args.inter));
    Tensor output;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, operands.input.shape, &output));
    if (output.Elements() == 0) return Status::Ok();
    Point(args.output, output);
    return cpu::MixtureOfExperts(cpu, args);
  }

 private:
  // Shape and plan; the weights themselves are packed by Pack.
  Status MakeLayer(size_t i, const QuantizedExperts& experts, Layer* layer) const {
    if (quantized_) {
      BATCH_INVARIANT_RETURN_IF_ERROR(MakeExpertPlan(inputs_[i].name, experts, &layer->plan));
      layer->shape = {experts.weights.shape[0], layer->plan.n, layer->plan.k};
      return Status::Ok();
    }
    if (experts.weights.shape.size() != 3) {
      return WrongMoeShape(name_, std::string(inputs_[i].name) + "_experts_weights",
                           experts.weights.shape, "[num_experts, rows, columns]");
    }
    layer->shape.assign(experts.weights.shape.begin(), experts.weights.shape.end());
    return Status::Ok();
  }

  size_t LayerBytes(const Layer& layer) const {
    const size_t expert = quantized_ ? cpu::PackedMatMulNBitsBytes(layer.plan)
                                     : cpu::PackedMatMulBytes(layer.shape[2], layer.shape[1]);
    return static_cast<size_t>(layer.shape[0]) * expert;
  }

  Status Pack(const cpu::Context& cpu, const QuantizedExperts& experts, const Layer& layer,
              std::byte* packed) const {
    if (quantized_) return PackExperts(cpu, experts, layer.plan, packed);
    const int64_t n = layer.shape[1], k = layer.shape[2];
    for (int64_t e = 0; e < layer.shape[0]; ++e) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          cpu::PackMatMul(cpu, k, n, {experts.weights.Data<float>() + e * n * k, 1, k},
                          reinterpret_cast<float*>(packed + static_cast<size_t>(e) *
                                                                cpu::PackedMatMulBytes(k, n))));
    }
    return Status::Ok();
  }

  Status ViewLayer(OpContext& context, const cpu::Context& cpu, size_t i, Layer* computed,
                   cpu::ExpertWeights* view) const {
    const ExpertLayerInputs& at = inputs_[i];
    const Layer* layer = &layers_[i];
    const std::byte* packed = layer->packed.get();
    if (packed == nullptr) {
      // Weights that are computed, or that ONNX Runtime was told not to pack ahead.
      QuantizedExperts experts = experts_[i];
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(at.weights, &experts.weights));
      if (quantized_) {
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(at.scales, &experts.scales));
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(at.zero_points, &experts.zero_points));
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(MakeLayer(i, experts, computed));
      auto* memory =
          static_cast<std::byte*>(cpu.scratch.allocate(cpu.scratch.self, LayerBytes(*computed)));
      if (memory == nullptr) return Status::OutOfMemory(name_ + ": no memory to pack the weights");
      BATCH_INVARIANT_RETURN_IF_ERROR(Pack(cpu, experts, *computed, memory));
      packed = memory;
      layer = computed;
    }
    if (quantized_) {
      view->plan = &layer->plan;
      view->nbits = packed;
    } else {
      view->packed = reinterpret_cast<const float*>(packed);
    }
    Tensor bias;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(at.bias, &bias));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckExpertBias(name_, at, bias, layer->shape));
    Point(view->bias, bias);
    return Status::Ok();
  }

  const std::string name_;
  const bool quantized_;
  const std::array<ExpertLayerInputs, 2> inputs_;
  std::array<bool, 2> has_zero_points_{};
  std::array<QuantizedExperts, 2> experts_;  // what is constant of them, until it is packed
  std::array<Layer, 2> layers_;
  cpu::MoeArgs attributes_;
};

template <bool kQuantized>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MoeKernel>(node, kQuantized);
  return Status::Ok();
}

const char* QMoeContract(const NodeInfo& node) {
  const bool int8 = node.Int("accuracy_level", 0) == 4 && node.Int("block_size", 0) > 0;
  return int8 ? contract::kMoeNBitsS8 : contract::kMoeNBitsF32;
}

}  // namespace

void AppendMoe(std::vector<OpDefinition>& ops) {
  OpDefinition moe = MoeOp(kCpuFloats);
  moe.accept = &AcceptMoe;
  moe.contract = [](const NodeInfo&) { return contract::kMoeF32; };
  moe.create = &Create<false>;
  ops.push_back(std::move(moe));
  OpDefinition qmoe = QMoeOp(kCpuFloats);
  qmoe.accept = &AcceptQMoeOnCpu;
  qmoe.contract = &QMoeContract;
  qmoe.create = &Create<true>;
  ops.push_back(std::move(qmoe));
}

}  // namespace batch_invariant::ort
