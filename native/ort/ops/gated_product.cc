#include "ort/ops/gated_product.h"

#include <algorithm>
#include <array>

namespace batch_invariant::ort {
namespace {

bool Is(const Ort::ConstNode& node, const char* op, const char* domain = "") {
  return static_cast<const OrtNode*>(node) != nullptr && node.GetOperatorType() == op &&
         (node.GetDomain() == domain || (domain[0] == '\0' && node.GetDomain() == "ai.onnx"));
}

bool Same(const Ort::ConstValueInfo& a, const Ort::ConstValueInfo& b) {
  return a.GetName() == b.GetName();
}

Ort::ConstNode Producer(const Ort::ConstValueInfo& value) { return value.GetProducerNode().node; }

// Dimensions by number or by name; false where one is unknown.
bool HaveSameShape(const Ort::ConstValueInfo& a, const Ort::ConstValueInfo& b) {
  const auto one = a.TypeInfo().GetTensorTypeAndShapeInfo();
  const auto other = b.TypeInfo().GetTensorTypeAndShapeInfo();
  const std::vector<int64_t> shape = one.GetShape();
  // A tensor without a shape is seen as one of rank 0.
  if (shape.empty() || shape != other.GetShape()) return false;
  const auto names = one.GetSymbolicDimensions(), other_names = other.GetSymbolicDimensions();
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] >= 0) continue;
    const std::string name = names[i];
    if (name.empty() || name != other_names[i]) return false;
  }
  return true;
}

// Products of one matrix with weights of the same shape have the same shape whatever it is.
bool AreLikeProducts(const Ort::ConstValueInfo& a, const Ort::ConstValueInfo& b) {
  const Ort::ConstNode one = Producer(a), other = Producer(b);
  const auto is_product = [](const Ort::ConstNode& node) {
    return Is(node, "MatMul") || Is(node, "MatMulNBits", "com.microsoft");
  };
  if (!is_product(one) || !is_product(other) || one.GetOperatorType() != other.GetOperatorType()) {
    return false;
  }
  const auto inputs = one.GetInputs(), other_inputs = other.GetInputs();
  if (!Same(inputs[0], other_inputs[0])) return false;
  if (Is(one, "MatMulNBits", "com.microsoft")) {
    return GraphNodeInfo(one).Int("N", 0) == GraphNodeInfo(other).Int("N", 0);
  }
  return HaveSameShape(inputs[1], other_inputs[1]);
}

ElementType TypeOf(const Ort::ConstValueInfo& value) {
  const auto type = value.TypeInfo();
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  return type.GetTensorTypeAndShapeInfo().GetElementType();
}

// Fills in what `activated`, an operand of the last Mul, says; false when it is no activation.
bool MatchActivation(const Ort::ConstValueInfo& activated, GatedProduct* product) {
  const Ort::ConstNode node = SoleProducer(activated);
  if (static_cast<const OrtNode*>(node) == nullptr) return false;
  const auto inputs = node.GetInputs();
  if (Is(node, "Mul")) {
    for (const size_t i : {size_t{0}, size_t{1}}) {
      // Inside the group the gate is read twice: by Sigmoid and by this Mul.
      const Ort::ConstNode sigmoid = SoleProducer(inputs[i]);
      if (!Is(sigmoid, "Sigmoid") || !Same(sigmoid.GetInputs()[0], inputs[1 - i])) continue;
      product->activation = GateActivation::kSilu;
      product->gate = inputs[1 - i];
      product->nodes = {sigmoid, node};
      return true;
    }
    return false;
  }
  const GraphNodeInfo info(node);
  if (Is(node, "Gelu")) {
    product->activation = info.String("approximate", "none") == "tanh" ? GateActivation::kGeluTanh
                                                                       : GateActivation::kGelu;
  } else if (Is(node, "Gelu", "com.microsoft")) {
    product->activation = GateActivation::kGelu;
  } else if (Is(node, "FastGelu", "com.microsoft") && !info.HasInput(1)) {
    product->activation = GateActivation::kGeluTanh;
  } else if (Is(node, "QuickGelu", "com.microsoft")) {
    product->activation = GateActivation::kQuickGelu;
    product->alpha = info.Float("alpha", product->alpha);
  } else {
    return false;
  }
  product->gate = inputs[0];
  product->nodes = {node};
  return true;
}

bool IsConstant(const Ort::ConstValueInfo& value) {
  return static_cast<const OrtValueInfo*>(value) != nullptr && value.IsConstantInitializer();
}

// Two MatMul with a constant matrix [k, n] on the right.
bool AreProjections(const Ort::ConstNode& one, const Ort::ConstNode& other) {
  const auto a = one.GetInputs()[1], b = other.GetInputs()[1];
  if (!IsConstant(a) || !IsConstant(b)) return false;
  const auto shape = a.TypeInfo().GetTensorTypeAndShapeInfo().GetShape();
  return shape.size() == 2 && shape == b.TypeInfo().GetTensorTypeAndShapeInfo().GetShape();
}

// Two MatMulNBits of one form: weights, scales and zero points constant, no bias.
bool AreQuantizedProjections(const Ort::ConstNode& one, const Ort::ConstNode& other) {
  const GraphNodeInfo a(one), b(other);
  for (const char* name : {"K", "N", "bits", "block_size"}) {
    if (a.Int(name, -1) != b.Int(name, -1)) return false;
  }
  const auto inputs = one.GetInputs(), other_inputs = other.GetInputs();
  for (const size_t i : {size_t{1}, size_t{2}}) {
    if (!IsConstant(inputs[i]) || !IsConstant(other_inputs[i])) return false;
  }
  if (a.HasInput(3) != b.HasInput(3)) return false;
  if (a.HasInput(3) && (a.InputType(3) != b.InputType(3) || !IsConstant(inputs[3]) ||
                        !IsConstant(other_inputs[3]))) {
    return false;
  }
  for (const size_t i : {size_t{4}, size_t{5}}) {
    if (a.HasInput(i) || b.HasInput(i)) return false;
  }
  return true;
}

}  // namespace

std::optional<GatedProjections> MatchGatedProjections(const Ort::ConstNode& last, bool alone) {
  std::optional<GatedProduct> product = MatchGatedProduct(last, alone);
  if (!product || product->activation != GateActivation::kSilu) return std::nullopt;
  // Sigmoid and the first Mul read the gate.
  if (product->gate.IsGraphOutput() || product->gate.GetConsumers().size() != 2) return std::nullopt;
  GatedProjections found;
  found.gate = Producer(product->gate);
  found.up = SoleProducer(product->up);
  const auto both_are = [&](const char* op, const char* domain) {
    return Is(found.gate, op, domain) && Is(found.up, op, domain);
  };
  const bool matmul = both_are("MatMul", "");
  if (!matmul && !both_are("MatMulNBits", "com.microsoft")) return std::nullopt;
  const Ort::ConstValueInfo input = found.gate.GetInputs()[0];
  if (!Same(input, found.up.GetInputs()[0]) || IsConstant(input)) return std::nullopt;
  if (!(matmul ? AreProjections(found.gate, found.up)
               : AreQuantizedProjections(found.gate, found.up))) {
    return std::nullopt;
  }
  found.nodes = {found.gate, found.up};
  found.nodes.insert(found.nodes.end(), product->nodes.begin(), product->nodes.end());
  found.product = *std::move(product);
  return found;
}

Ort::ConstNode SoleProducer(const Ort::ConstValueInfo& value) {
  if (value.IsGraphOutput() || value.GetConsumers().size() != 1) return Ort::ConstNode{nullptr};
  return Producer(value);
}

size_t IndexOf(std::span<const std::string> inputs, const Ort::ConstValueInfo& value) {
  return static_cast<size_t>(std::find(inputs.begin(), inputs.end(), value.GetName()) -
                             inputs.begin());
}

std::optional<GatedProduct> MatchGatedProduct(const Ort::ConstNode& last, bool alone) {
  if (!Is(last, "Mul")) return std::nullopt;
  const auto inputs = last.GetInputs();
  for (const size_t i : {size_t{0}, size_t{1}}) {
    GatedProduct product;
    if (!MatchActivation(inputs[i], &product)) continue;
    product.up = inputs[1 - i];
    product.type = TypeOf(product.gate);
    if (product.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED || TypeOf(product.up) != product.type ||
        Same(product.gate, product.up)) {
      continue;
    }
    if (!alone && !HaveSameShape(product.gate, product.up) &&
        !AreLikeProducts(product.gate, product.up)) {
      continue;
    }
    product.nodes.push_back(last);
    return product;
  }
  return std::nullopt;
}

}  // namespace batch_invariant::ort
