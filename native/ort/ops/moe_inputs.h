// The inputs and attributes of MoE and QMoE, checked once for every device.
#ifndef BATCH_INVARIANT_ORT_OPS_MOE_INPUTS_H_
#define BATCH_INVARIANT_ORT_OPS_MOE_INPUTS_H_

#include <array>
#include <string>

#include "batch_invariant/expert_routing.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

inline constexpr size_t kNoInput = static_cast<size_t>(-1);

// Where the operands of one layer are among the inputs.
struct ExpertLayerInputs {
  const char* name;
  size_t weights, bias, scales, zero_points;
};
inline constexpr std::array<ExpertLayerInputs, 2> kMoeLayers{
    {{"fc1", 2, 3, kNoInput, kNoInput}, {"fc2", 4, 5, kNoInput, kNoInput}}};
inline constexpr std::array<ExpertLayerInputs, 2> kQMoeLayers{
    {{"fc1", 2, 4, 3, 11}, {"fc2", 5, 7, 6, 12}}};

// Refuse what no device serves, by name.
Status AcceptMoe(const NodeInfo& node);
Status AcceptQMoe(const NodeInfo& node);

// Copies the attributes of an accepted node to the arguments of a device.
template <typename Args>
void ReadMoeAttributes(const NodeInfo& node, bool quantized, Args* args);

// The tensors of one call but those of the layers, their shapes checked against each other.
struct MoeOperands {
  Tensor input;           // [..., hidden]
  Tensor router;          // [tokens, experts]
  Tensor router_weights;  // likewise, or absent
  int64_t tokens = 0;
  int64_t hidden = 0;
  int64_t experts = 0;
};
Status ReadMoeOperands(OpContext& context, const std::string& op, bool quantized,
                       MoeOperands* operands);

// "`op`: `what` is [2,3], needed is ..."
Status WrongMoeShape(const std::string& op, const std::string& what, std::span<const int64_t> shape,
                     const std::string& needed);

// The unpacked shapes [experts, n, k] of both layers, of which fc2's is to be read first: its last
// dimension is `inter`.
Status CheckMoeLayers(const std::string& op, const MoeOperands& operands, bool gated,
                      std::span<const int64_t> fc1, std::span<const int64_t> fc2, int64_t* inter);

Status CheckExpertBias(const std::string& op, const ExpertLayerInputs& at, const Tensor& bias,
                       std::span<const int64_t> layer);

// The ops for tensors of those types; accept, contract and create are the device's.
OpDefinition MoeOp(const std::vector<ElementType>& types);
OpDefinition QMoeOp(const std::vector<ElementType>& types);

// Of an accepted node.
ExpertActivation ExpertActivationOf(const NodeInfo& node);
inline constexpr size_t kMoeRouterWeights = 14;  // of QMoE

template <typename Args>
void ReadMoeAttributes(const NodeInfo& node, bool quantized, Args* args) {
  args->k = node.Int("k", 1);
  args->activation = ExpertActivationOf(node);
  args->normalize = node.Int("normalize_routing_weights", 0) != 0;
  args->interleaved = node.Int("swiglu_fusion", 0) == 1;
  args->alpha = node.Float("activation_alpha", 1.0f);
  args->beta = node.Float("activation_beta", 0.0f);
  args->limit = node.Float("swiglu_limit", args->limit);
  if (!quantized) return;
  const bool given = node.HasInput(kMoeRouterWeights);
  // ONNX Runtime's QMoE takes the softmax over the chosen experts whatever `normalize` says.
  args->weights = given ? RouterWeights::kGiven : RouterWeights::kSoftmaxOfChosen;
  args->normalize = args->normalize && given;
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_MOE_INPUTS_H_
