#include "ort/custom_ops/shape_inference.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "ort/ops/custom_form.h"

namespace batch_invariant::ort {
namespace {

// A size, or the name of one; neither where nothing is known.
struct Dimension {
  int64_t size = -1;
  std::string name;

  bool known() const { return size >= 0 || !name.empty(); }
  bool operator==(const Dimension&) const = default;
};

using Shape = std::vector<Dimension>;

Ort::ConstTensorTypeAndShapeInfo InputInfo(const OrtShapeInferContext* context, size_t index) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  Ort::ThrowOnError(Ort::GetApi().ShapeInferContext_GetInputTypeShape(context, index, &info));
  return Ort::ConstTensorTypeAndShapeInfo(info);
}

// Nothing for an input of unknown shape, which ONNX Runtime hands over as one of rank 0.
std::optional<Shape> InputShape(const OrtShapeInferContext* context, size_t index) {
  const Ort::ConstTensorTypeAndShapeInfo view = InputInfo(context, index);
  const std::vector<int64_t> sizes = view.GetShape();
  if (sizes.empty()) return std::nullopt;
  const std::vector<const char*> names = view.GetSymbolicDimensions();
  Shape shape;
  for (size_t i = 0; i < sizes.size(); ++i) {
    shape.push_back({sizes[i], names[i] == nullptr ? "" : names[i]});
  }
  return shape;
}

// Of the first input's type. Does nothing for a shape with an unknown dimension, which this
// interface cannot say.
void SetOutputShape(const OrtShapeInferContext* context, const Shape& shape) {
  if (!std::all_of(shape.begin(), shape.end(), [](const Dimension& d) { return d.known(); })) {
    return;
  }
  std::vector<int64_t> sizes;
  std::vector<const char*> names;
  for (const Dimension& dimension : shape) {
    sizes.push_back(dimension.size);
    names.push_back(dimension.name.c_str());
  }
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* created = nullptr;
  Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&created));
  const Ort::TensorTypeAndShapeInfo info(created);
  Ort::ThrowOnError(api.SetTensorElementType(created, InputInfo(context, 0).GetElementType()));
  Ort::ThrowOnError(api.SetDimensions(created, sizes.data(), sizes.size()));
  Ort::ThrowOnError(api.SetSymbolicDimensions(created, names.data(), names.size()));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(context, 0, created));
}

// NumPy's rule for the leading dimensions; nothing where two of them cannot be told to agree.
std::optional<Shape> Broadcast(Shape a, Shape b) {
  if (a.size() < b.size()) std::swap(a, b);
  for (size_t i = 0; i < b.size(); ++i) {
    Dimension& to = a[a.size() - b.size() + i];
    if (b[i].size == 1 || b[i] == to) continue;
    if (to.size != 1) return std::nullopt;
    to = b[i];
  }
  return a;
}

// The status that a rule returns is dropped by ONNX Runtime: a rule that fails says nothing.
template <typename Rule>
OrtStatusPtr Infer(const OrtShapeInferContext* context, Rule&& rule) {
  try {
    if (const std::optional<Shape> shape = rule(context)) SetOutputShape(context, *shape);
  } catch (...) {
  }
  return nullptr;
}

OrtStatusPtr ORT_API_CALL SameAsFirst(const OrtCustomOp*, OrtShapeInferContext* context) {
  return Infer(context, [](const OrtShapeInferContext* c) { return InputShape(c, 0); });
}

OrtStatusPtr ORT_API_CALL BroadcastBoth(const OrtCustomOp*, OrtShapeInferContext* context) {
  return Infer(context, [](const OrtShapeInferContext* c) -> std::optional<Shape> {
    const std::optional<Shape> a = InputShape(c, 0);
    const std::optional<Shape> b = InputShape(c, 1);
    return a && b ? Broadcast(*a, *b) : std::nullopt;
  });
}

// [..., M, K] and [..., K, N] of two dimensions or more.
OrtStatusPtr ORT_API_CALL Product(const OrtCustomOp*, OrtShapeInferContext* context) {
  return Infer(context, [](const OrtShapeInferContext* c) -> std::optional<Shape> {
    std::optional<Shape> a = InputShape(c, 0);
    std::optional<Shape> b = InputShape(c, 1);
    if (!a || !b || a->size() < 2 || b->size() < 2) return std::nullopt;
    const Dimension m = (*a)[a->size() - 2];
    const Dimension n = b->back();
    a->resize(a->size() - 2);
    b->resize(b->size() - 2);
    std::optional<Shape> y = Broadcast(*a, *b);
    if (y) y->insert(y->end(), {m, n});
    return y;
  });
}

}  // namespace

InferShapes ShapeRuleOf(const OpDefinition& op) {
  for (const Argument& input : op.inputs) {
    if (input.optional) return nullptr;
  }
  const std::string_view name = CustomName(op);
  if (name == "MatMul") return &Product;
  if (name == "Pow" || name == "Mod") return &BroadcastBoth;
  constexpr std::string_view kShapedAsFirst[] = {
      "Sigmoid",
      "Tanh",
      "Erf",
      "Exp",
      "Gelu",
      "MicrosoftGelu",
      "Log",
      "Cos",
      "Sin",
      "Softplus",
      "QuickGelu",
      "BiasGelu",
      "Softmax",
      "LogSoftmax",
      "RMSNormalization",
      "SimplifiedLayerNormalization",
      "MicrosoftRotaryEmbedding",
  };
  const bool as_first = std::find(std::begin(kShapedAsFirst), std::end(kShapedAsFirst), name) !=
                        std::end(kShapedAsFirst);
  return as_first ? &SameAsFirst : nullptr;
}

}  // namespace batch_invariant::ort
