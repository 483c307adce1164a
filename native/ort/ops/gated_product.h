// activation(gate) * up as graphs spell it, found by its last node:
//   SiLU         Mul(Mul(gate, Sigmoid(gate)), up)
//   others       Mul(Gelu(gate), up), with com.microsoft's Gelu, FastGelu and QuickGelu, and ONNX's
// Operands of a Mul may stand in either order.
#ifndef BATCH_INVARIANT_ORT_OPS_GATED_PRODUCT_H_
#define BATCH_INVARIANT_ORT_OPS_GATED_PRODUCT_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

enum class GateActivation { kSilu, kGelu, kGeluTanh, kQuickGelu };

struct GatedProduct {
  GateActivation activation = GateActivation::kSilu;
  float alpha = 1.702f;               // kQuickGelu only
  std::vector<Ort::ConstNode> nodes;  // in the order of the graph
  Ort::ConstValueInfo gate{nullptr};  // the same shape, and of `type`
  Ort::ConstValueInfo up{nullptr};
  ElementType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
};

// Nothing where the shapes of gate and up are not known to be the same: a Mul may broadcast.
// `alone` as in FusionDefinition::match: they are.
std::optional<GatedProduct> MatchGatedProduct(const Ort::ConstNode& last, bool alone);

// A gated product with SiLU whose operands are products of one matrix with constant ones: two MatMul,
// or two MatMulNBits of the same form and without a bias. Nothing else reads those products.
struct GatedProjections {
  GatedProduct product;
  Ort::ConstNode gate{nullptr};
  Ort::ConstNode up{nullptr};
  std::vector<Ort::ConstNode> nodes;  // the two, and those of `product`
};
std::optional<GatedProjections> MatchGatedProjections(const Ort::ConstNode& last, bool alone);

// The node that makes `value` when nothing but one input of one node reads it; null otherwise.
Ort::ConstNode SoleProducer(const Ort::ConstValueInfo& value);

// The place of `value` among a fused kernel's inputs.
size_t IndexOf(std::span<const std::string> inputs, const Ort::ConstValueInfo& value);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_GATED_PRODUCT_H_
