#include "ort/ep/host_values.h"

namespace batch_invariant::ort {
namespace {

bool IsAbsent(const Ort::ConstValueInfo& value) {
  return static_cast<const OrtValueInfo*>(value) == nullptr;
}

bool HasFormOfShape(const Ort::ConstValueInfo& value) {
  const Ort::ConstTypeInfo type = value.TypeInfo();
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return false;
  const auto tensor = type.GetTensorTypeAndShapeInfo();
  return tensor.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 && tensor.HasShape() &&
         tensor.GetDimensionsCount() <= 1;
}

}  // namespace

bool HostValues::BelongsOnHost(const Ort::ConstNode& node) const {
  bool any = false;
  for (const Ort::ConstValueInfo& input : node.GetInputs()) {
    if (IsAbsent(input) || input.IsConstantInitializer()) continue;
    if (!Contains(input)) return false;
    any = true;
  }
  return any;
}

void HostValues::AddOutput(const Ort::ConstNode& node, int index) {
  const auto outputs = node.GetOutputs();
  if (static_cast<size_t>(index) < outputs.size()) Add(outputs[static_cast<size_t>(index)]);
}

void HostValues::AddOutputs(const Ort::ConstNode& node) {
  for (const Ort::ConstValueInfo& output : node.GetOutputs()) Add(output);
}

void HostValues::Add(const Ort::ConstValueInfo& value) {
  if (!IsAbsent(value)) names_.insert(value.GetName());
}

bool HostValues::Contains(const Ort::ConstValueInfo& value) const {
  return names_.count(value.GetName()) > 0 || (value.IsFromOuterScope() && HasFormOfShape(value));
}

}  // namespace batch_invariant::ort
