#include "ort/ops/moe_inputs.h"

#include <algorithm>

namespace batch_invariant::ort {
namespace {

Status ReadExpertActivation(const NodeInfo& node, ExpertActivation* activation) {
  constexpr std::array<std::pair<const char*, ExpertActivation>, 5> kNames{
      {{"relu", ExpertActivation::kRelu},
       {"gelu", ExpertActivation::kGelu},
       {"silu", ExpertActivation::kSilu},
       {"identity", ExpertActivation::kIdentity},
       {"swiglu", ExpertActivation::kSwiGlu}}};
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
  ExpertActivation activation;
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadExpertActivation(node, &activation));
  const int64_t fusion = node.Int("swiglu_fusion", 0);
  if (activation == ExpertActivation::kSwiGlu && fusion != 1 && fusion != 2) {
    return Status::Unsupported("swiglu is served with swiglu_fusion 1 and 2, got " +
                               std::to_string(fusion));
  }
  return Status::Ok();
}

}  // namespace

ExpertActivation ExpertActivationOf(const NodeInfo& node) {
  ExpertActivation activation = ExpertActivation::kRelu;
  (void)ReadExpertActivation(node, &activation);
  return activation;
}

Status AcceptMoe(const NodeInfo& node) { return AcceptBoth(node, {6, 7}); }

Status AcceptQMoe(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptBoth(node, {8, 9, 10, 13}));
  const std::string type = node.String("quant_type", "int");
  if (type != "int") return Status::Unsupported("quant_type '" + type + "' is not served");
  for (size_t input = kMoeRouterWeights + 1; input <= 20; ++input) {
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
  for (const ExpertLayerInputs& layer : kQMoeLayers) {
    if (!node.HasInput(layer.scales)) {
      return Status::InvalidArgument(std::string(layer.name) + "_scales is missing");
    }
  }
  return Status::Ok();
}

Status WrongMoeShape(const std::string& op, const std::string& what, std::span<const int64_t> shape,
                     const std::string& needed) {
  return Status::InvalidArgument(op + ": " + what + " is " + ShapeText(shape) + ", needed is " +
                                 needed);
}

Status ReadMoeOperands(OpContext& context, const std::string& op, bool quantized,
                       MoeOperands* operands) {
  const Tensor& input = operands->input;
  const Tensor& router = operands->router;
  const Tensor& given = operands->router_weights;
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &operands->input));
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &operands->router));
  if (input.shape.size() != 2 && input.shape.size() != 3) {
    return WrongMoeShape(op, "input", input.shape, "[tokens, hidden] or [batch, sequence, hidden]");
  }
  operands->hidden = input.shape.back();
  operands->tokens = operands->hidden == 0 ? 0 : input.Elements() / operands->hidden;
  if (router.shape.size() != 2 || router.shape[0] != operands->tokens) {
    return WrongMoeShape(op, "router_probs", router.shape, "[tokens, num_experts]");
  }
  operands->experts = router.shape[1];
  if (!quantized) return Status::Ok();
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kMoeRouterWeights, &operands->router_weights));
  if (given.present && ShapeText(given.shape) != ShapeText(router.shape)) {
    return WrongMoeShape(op, "router_weights", given.shape, "the shape of router_probs");
  }
  return Status::Ok();
}

Status CheckMoeLayers(const std::string& op, const MoeOperands& operands, bool gated,
                      std::span<const int64_t> fc1, std::span<const int64_t> fc2, int64_t* inter) {
  *inter = fc2[2];
  const std::array<int64_t, 3> needed1{operands.experts, gated ? 2 * *inter : *inter,
                                       operands.hidden};
  const std::array<int64_t, 3> needed2{operands.experts, operands.hidden, *inter};
  const auto check = [&](const char* name, std::span<const int64_t> shape,
                         std::span<const int64_t> needed) {
    if (std::equal(needed.begin(), needed.end(), shape.begin())) return Status::Ok();
    return WrongMoeShape(op, std::string(name) + "_experts_weights, unpacked,", shape,
                         ShapeText(needed));
  };
  BATCH_INVARIANT_RETURN_IF_ERROR(check("fc1", fc1, needed1));
  return check("fc2", fc2, needed2);
}

Status CheckExpertBias(const std::string& op, const ExpertLayerInputs& at, const Tensor& bias,
                       std::span<const int64_t> layer) {
  const std::span<const int64_t> needed = layer.first(2);
  if (!bias.present ||
      std::equal(needed.begin(), needed.end(), bias.shape.begin(), bias.shape.end())) {
    return Status::Ok();
  }
  return WrongMoeShape(op, std::string(at.name) + "_experts_bias", bias.shape, ShapeText(needed));
}

OpDefinition MoeOp(const std::vector<ElementType>& types) {
  return {
      .domain = "com.microsoft",
      .name = "MoE",
      .since_first = 1,
      .since_last = 1,
      .constraints = {{"T", types}},
      .inputs = {{"T"}, {"T"}, {"T"}, {"T", true}, {"T"}, {"T", true}, {"T", true}, {"T", true}},
      .outputs = {{"T"}},
      .accept = nullptr,
      .contract = nullptr,
      .create = nullptr};
}

OpDefinition QMoeOp(const std::vector<ElementType>& types) {
  return {.domain = "com.microsoft",
          .name = "QMoE",
          .since_first = 1,
          .since_last = 1,
          .constraints = {{"T", types}, {"T1", {kUint8}}, {"T2", types}},
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
          .accept = nullptr,
          .contract = nullptr,
          .create = nullptr};
}

}  // namespace batch_invariant::ort
