// MoE and QMoE (com.microsoft): mixtures of experts with fp32 and with n-bit weights.
#include "batch_invariant/cpu/moe.h"

#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "ort/ops/half.h"
#include "ort/ops/op_table.h"
#include "ort/ops/quantized_experts.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

// Where the operands of one layer are among the inputs.
struct LayerInputs {
  const char* name;
  size_t weights, bias, scales, zero_points;
};
constexpr std::array<LayerInputs, 2> kPlainLayers{
    {{"fc1", 2, 3, kNone, kNone}, {"fc2", 4, 5, kNone, kNone}}};
constexpr std::array<LayerInputs, 2> kQuantizedLayers{{{"fc1", 2, 4, 3, 11}, {"fc2", 5, 7, 6, 12}}};
constexpr size_t kRouterWeights = 14;  // of QMoE

Status ReadActivation(const NodeInfo& node, cpu::ExpertActivation* activation) {
  constexpr std::array<std::pair<const char*, cpu::ExpertActivation>, 5> kNames{
      {{"relu", cpu::ExpertActivation::kRelu},
       {"gelu", cpu::ExpertActivation::kGelu},
       {"silu", cpu::ExpertActivation::kSilu},
       {"identity", cpu::ExpertActivation::kIdentity},
       {"swiglu", cpu::ExpertActivation::kSwiGlu}}};
  const std::string wanted = node.String("activation_type", "relu");
  for (const auto& [name, value] : kNames) {
    if (wanted != name) continue;
    *activation = value;
    return Status::Ok();
  }
  return Status::InvalidArgument("activation_type '" + wanted +
                                 "' is none of relu, gelu, silu, swiglu and identity");
}

Status AcceptBoth(const NodeInfo& node, std::initializer_list<size_t> third_layer) {
  for (const size_t input : third_layer) {
    if (node.HasInput(input)) {
      return Status::Unsupported("a third layer (fc3) is not served (nor by ONNX Runtime on CPUs)");
    }
  }
  if (node.Int("use_sparse_mixer", 0) != 0) {
    return Status::Unsupported("the attribute use_sparse_mixer is not served");
  }
  if (node.Int("k", 1) < 1) return Status::InvalidArgument("k must be at least 1");
  cpu::ExpertActivation activation;
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadActivation(node, &activation));
  const int64_t fusion = node.Int("swiglu_fusion", 0);
  if (activation == cpu::ExpertActivation::kSwiGlu && fusion != 1 && fusion != 2) {
    return Status::Unsupported("swiglu is served with swiglu_fusion 1 and 2, got " +
                               std::to_string(fusion));
  }
  return Status::Ok();
}

Status AcceptMoe(const NodeInfo& node) { return AcceptBoth(node, {6, 7}); }

Status AcceptQMoe(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptBoth(node, {8, 9, 10, 13}));
  const std::string type = node.String("quant_type", "int");
  if (type != "int") return Status::Unsupported("quant_type '" + type + "' is not served");
  for (size_t input = kRouterWeights + 1; input <= 20; ++input) {
    if (node.HasInput(input)) {
      return Status::Unsupported("global and activation scales belong to fp4 and fp8 weights");
    }
  }
  if (node.Int("weights_prepacked", -1) > 0) {
    return Status::Unsupported("weights that were packed ahead (weights_prepacked) are not served");
  }
  const int64_t bits = node.Int("expert_weight_bits", 4);
  if (bits != 2 && bits != 4 && bits != 8) {
    return Status::InvalidArgument("expert_weight_bits must be 2, 4 or 8, got " +
                                   std::to_string(bits));
  }
  for (const char* name : {"fc1_expert_weight_bits", "fc2_expert_weight_bits"}) {
    if (node.Int(name, bits) != bits) {
      return Status::Unsupported(std::string("layers of different widths (") + name +
                                 ") are not served (nor by ONNX Runtime on CPUs)");
    }
  }
  for (const LayerInputs& layer : kQuantizedLayers) {
    if (!node.HasInput(layer.scales)) {
      return Status::InvalidArgument(std::string(layer.name) + "_scales is missing");
    }
  }
  cpu::MatMulNBitsPlan plan;
  const int64_t block = node.Int("block_size", 0);
  return cpu::MakeMatMulNBitsPlan(1, 1, bits, block > 0 ? block : 16, node.Int("accuracy_level", 0),
                                  cpu::ZeroPoints::kDefault, &plan);
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
      : name_(node.OpType()),
        quantized_(quantized),
        inputs_(quantized ? kQuantizedLayers : kPlainLayers) {
    attributes_.k = node.Int("k", 1);
    attributes_.normalize = node.Int("normalize_routing_weights", 0) != 0;
    attributes_.interleaved = node.Int("swiglu_fusion", 0) == 1;
    attributes_.alpha = node.Float("activation_alpha", 1.0f);
    attributes_.beta = node.Float("activation_beta", 0.0f);
    attributes_.limit = node.Float("swiglu_limit", attributes_.limit);
    if (!quantized_) return;
    has_router_weights_ = node.HasInput(kRouterWeights);
    // ONNX Runtime's QMoE takes the softmax over the chosen experts whatever `normalize` says.
    attributes_.weights =
        has_router_weights_ ? cpu::RouterWeights::kGiven : cpu::RouterWeights::kSoftmaxOfChosen;
    attributes_.normalize = attributes_.normalize && has_router_weights_;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      experts_[i].bits = node.Int("expert_weight_bits", 4);
      experts_[i].block_size = node.Int("block_size", 0);
      experts_[i].accuracy_level = node.Int("accuracy_level", 0);
      experts_[i].scales = Widened(node.ConstantInput(inputs_[i].scales));
      experts_[i].zero_points = node.ConstantInput(inputs_[i].zero_points);
      has_zero_points_[i] = node.HasInput(inputs_[i].zero_points);
    }
  }

  Status SetActivation(const NodeInfo& node) {
    return ReadActivation(node, &attributes_.activation);
  }

  // Quantised weights take their scales and zero points along, which are offered after or before
  // them: all of them can go, or none.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const LayerInputs& at = inputs_[i];
      QuantizedExperts& experts = experts_[i];
      if (input == at.weights) {
        if (quantized_ && (!experts.scales.present ||
                           (has_zero_points_[i] && !experts.zero_points.present))) {
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
    Tensor input;
    Tensor router;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &input));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &router));
    if (input.shape.size() != 2 && input.shape.size() != 3) {
      return Wrong("input", input.shape, "[tokens, hidden] or [batch, sequence, hidden]");
    }
    cpu::MoeArgs args = attributes_;
    args.hidden = input.shape.back();
    args.tokens = args.hidden == 0 ? 0 : input.Elements() / args.hidden;
    if (router.shape.size() != 2 || router.shape[0] != args.tokens) {
      return Wrong("router_probs", router.shape, "[tokens, num_experts]");
    }
    args.experts = router.shape[1];
    Point(args.input, input);
    Point(args.router, router);
    if (has_router_weights_) {
      Tensor given;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kRouterWeights, &given));
      if (ShapeText(given.shape) != ShapeText(router.shape)) {
        return Wrong("router_weights", given.shape, "the shape of router_probs");
      }
      Point(args.router_weights, given);
    }
    std::array<Layer, 2> computed;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          ViewLayer(context, cpu, i, &computed[i], i == 0 ? &args.fc1 : &args.fc2));
    }
    const auto shape_of = [&](size_t i) -> const std::vector<int64_t>& {
      return layers_[i].packed ? layers_[i].shape : computed[i].shape;
    };
    args.inter = shape_of(1)[2];
    const int64_t fc1_rows =
        args.activation == cpu::ExpertActivation::kSwiGlu ? 2 * args.inter : args.inter;
    const std::array<int64_t, 3> fc1{args.experts, fc1_rows, args.hidden};
    const std::array<int64_t, 3> fc2{args.experts, args.hidden, args.inter};
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const auto& needed = i == 0 ? fc1 : fc2;
      if (std::equal(needed.begin(), needed.end(), shape_of(i).begin())) continue;
      return Wrong(std::string(inputs_[i].name) + "_experts_weights, unpacked,", shape_of(i),
                   ShapeText(needed));
    }
    Tensor output;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, input.shape, &output));
    if (output.Elements() == 0) return Status::Ok();
    Point(args.output, output);
    return cpu::MixtureOfExperts(cpu, args);
  }

 private:
  Status Wrong(const std::string& what, std::span<const int64_t> shape,
               const std::string& needed) const {
    return Status::InvalidArgument(name_ + ": " + what + " is " + ShapeText(shape) +
                                   ", needed is " + needed);
  }

  // Shape and plan; the weights themselves are packed by Pack.
  Status MakeLayer(size_t i, const QuantizedExperts& experts, Layer* layer) const {
    if (quantized_) {
      BATCH_INVARIANT_RETURN_IF_ERROR(MakeExpertPlan(inputs_[i].name, experts, &layer->plan));
      layer->shape = {experts.weights.shape[0], layer->plan.n, layer->plan.k};
      return Status::Ok();
    }
    if (experts.weights.shape.size() != 3) {
      return Wrong(std::string(inputs_[i].name) + "_experts_weights", experts.weights.shape,
                   "[num_experts, rows, columns]");
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
      BATCH_INVARIANT_RETURN_IF_ERROR(cpu::PackMatMul(
          cpu, k, n, {experts.weights.Data<float>() + e * n * k, 1, k},
          reinterpret_cast<float*>(packed + static_cast<size_t>(e) *
                                                cpu::PackedMatMulBytes(k, n))));
    }
    return Status::Ok();
  }

  Status ViewLayer(OpContext& context, const cpu::Context& cpu, size_t i, Layer* computed,
                   cpu::ExpertWeights* view) const {
    const LayerInputs& at = inputs_[i];
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
    const std::array<int64_t, 2> needed{layer->shape[0], layer->shape[1]};
    if (bias.present &&
        !std::equal(needed.begin(), needed.end(), bias.shape.begin(), bias.shape.end())) {
      return Wrong(std::string(at.name) + "_experts_bias", bias.shape, ShapeText(needed));
    }
    Point(view->bias, bias);
    return Status::Ok();
  }

  const std::string name_;
  const bool quantized_;
  const std::array<LayerInputs, 2> inputs_;
  bool has_router_weights_ = false;
  std::array<bool, 2> has_zero_points_{};
  std::array<QuantizedExperts, 2> experts_;  // what is constant of them, until it is packed
  std::array<Layer, 2> layers_;
  cpu::MoeArgs attributes_;
};

template <bool kQuantized>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  auto made = std::make_unique<MoeKernel>(node, kQuantized);
  BATCH_INVARIANT_RETURN_IF_ERROR(made->SetActivation(node));
  *kernel = std::move(made);
  return Status::Ok();
}

const char* QMoeContract(const NodeInfo& node) {
  const bool int8 = node.Int("accuracy_level", 0) == 4 && node.Int("block_size", 0) > 0;
  return int8 ? contract::kMoeNBitsS8 : contract::kMoeNBitsF32;
}

}  // namespace

void AppendMoe(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "com.microsoft",
                 .name = "MoE",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", kCpuFloats}},
                 .inputs = {{"T"},
                            {"T"},
                            {"T"},
                            {"T", true},
                            {"T"},
                            {"T", true},
                            {"T", true},
                            {"T", true}},
                 .outputs = {{"T"}},
                 .accept = &AcceptMoe,
                 .contract = [](const NodeInfo&) { return contract::kMoeF32; },
                 .create = &Create<false>});
  ops.push_back({.domain = "com.microsoft",
                 .name = "QMoE",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", kCpuFloats}, {"T1", {kUint8}}, {"T2", kCpuFloats}},
                 .inputs = {{"T"},
                            {"T"},
                            {"T1"},
                            {"T2"},
                            {"T", true},
                            {"T1"},
                            {"T2"},
                            {"T", true},
                            {"T1", true},
                            {"T2", true},
                            {"T", true},
                            {"T1", true},
                            {"T1", true},
                            {"T1", true},
                            {"T", true}},
                 .outputs = {{"T"}},
                 .accept = &AcceptQMoe,
                 .contract = &QMoeContract,
                 .create = &Create<true>});
}

}  // namespace batch_invariant::ort
