#include "ort/ops/invariant_ops.h"

#include <algorithm>
#include <array>

namespace batch_invariant::ort {
namespace {

constexpr std::array kOnnxOps = std::to_array<std::string_view>({
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Compress",
    "Concat",
    "ConcatFromSequence",
    "Constant",
    "ConstantOfShape",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Equal",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "If",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Loop",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Pad",
    "QuantizeLinear",
    "Range",
    "Reciprocal",
    "Relu",
    "Reshape",
    "Round",
    "Scan",
    "ScatterElements",
    "ScatterND",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceInsert",
    "Shape",
    "Sign",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "SplitToSequence",
    "Sqrt",
    "Squeeze",
    "Sub",
    "TensorScatter",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
});

constexpr std::array kMicrosoftOps = std::to_array<std::string_view>({
    "GatherBlockQuantized",
    "DequantizeLinear",
    "QuantizeLinear",
});

constexpr std::array kInternalOps = std::to_array<std::string_view>({
    "MemcpyFromHost",
    "MemcpyToHost",
});

bool Contains(std::span<const std::string_view> list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

std::span<const std::string_view> InvariantOnnxOps() { return kOnnxOps; }
std::span<const std::string_view> InvariantMicrosoftOps() { return kMicrosoftOps; }
std::span<const std::string_view> InvariantInternalOps() { return kInternalOps; }

bool IsInvariantOp(std::string_view domain, std::string_view op) {
  if (domain.empty()) return Contains(kOnnxOps, op) || Contains(kInternalOps, op);
  return domain == "com.microsoft" && Contains(kMicrosoftOps, op);
}

}  // namespace batch_invariant::ort
