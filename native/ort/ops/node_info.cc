#include "ort/ops/node_info.h"

namespace batch_invariant::ort {
namespace {

bool IsNull(const Ort::ConstValueInfo& value) {
  return static_cast<const OrtValueInfo*>(value) == nullptr;
}

// Runs `read`, which returns an OrtStatus*, and says whether it succeeded.
template <typename Read>
bool Succeeds(Read&& read) {
  OrtStatus* status = read();
  if (status == nullptr) return true;
  Ort::GetApi().ReleaseStatus(status);
  return false;
}

}  // namespace

Status ViewTensor(const OrtValue* value, Tensor* tensor) {
  *tensor = {};
  if (value == nullptr) return Status::Ok();
  const OrtApi& api = Ort::GetApi();
  const int64_t* shape = nullptr;
  size_t rank = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(
      api.GetTensorElementTypeAndShapeDataReference(value, &tensor->type, &shape, &rank)));
  const void* data = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(api.GetTensorData(value, &data)));
  tensor->data = const_cast<void*>(data);
  tensor->shape = {shape, rank};
  tensor->present = true;
  return Status::Ok();
}

GraphNodeInfo::GraphNodeInfo(Ort::ConstNode node)
    : node_(node), inputs_(node.GetInputs()), outputs_(node.GetOutputs()) {}

std::string GraphNodeInfo::Name() const { return node_.GetName(); }
std::string GraphNodeInfo::OpType() const { return node_.GetOperatorType(); }
int GraphNodeInfo::SinceVersion() const { return node_.GetSinceVersion(); }

namespace {

template <typename TypeInfo>
ElementType ElementTypeOf(const TypeInfo& type) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  return type.GetTensorTypeAndShapeInfo().GetElementType();
}

// A tensor without a shape is seen as one of rank 0: such a rank counts as unknown.
template <typename TypeInfo>
int64_t RankOf(const TypeInfo& type) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return -1;
  const auto rank = static_cast<int64_t>(type.GetTensorTypeAndShapeInfo().GetDimensionsCount());
  return rank > 0 ? rank : -1;
}

template <typename TypeInfo>
int64_t WidthOf(const TypeInfo& type) {
  if (RankOf(type) < 1) return -1;
  return type.GetTensorTypeAndShapeInfo().GetShape().back();
}

template <typename T>
T NodeAttribute(const Ort::ConstNode& node, const char* name, T absent) {
  Ort::ConstOpAttr attribute{nullptr};
  if (!node.GetAttributeByName(name, attribute).IsOK() ||
      static_cast<const OrtOpAttr*>(attribute) == nullptr) {
    return absent;
  }
  T value = absent;
  return attribute.GetValue(value).IsOK() ? value : absent;
}

}  // namespace

int64_t GraphNodeInfo::Int(const char* name, int64_t absent) const {
  return NodeAttribute<int64_t>(node_, name, absent);
}

float GraphNodeInfo::Float(const char* name, float absent) const {
  return NodeAttribute<float>(node_, name, absent);
}

std::string GraphNodeInfo::String(const char* name, const std::string& absent) const {
  return NodeAttribute<std::string>(node_, name, absent);
}

std::vector<int64_t> GraphNodeInfo::Ints(const char* name) const {
  Ort::ConstOpAttr attribute{nullptr};
  std::vector<int64_t> values;
  if (node_.GetAttributeByName(name, attribute).IsOK() &&
      static_cast<const OrtOpAttr*>(attribute) != nullptr) {
    if (!attribute.GetValueArray(values).IsOK()) values.clear();
  }
  return values;
}

bool GraphNodeInfo::HasInput(size_t index) const {
  return index < inputs_.size() && !IsNull(inputs_[index]);
}

bool GraphNodeInfo::HasOutput(size_t index) const {
  return index < outputs_.size() && !IsNull(outputs_[index]);
}

ElementType GraphNodeInfo::InputType(size_t index) const {
  if (!HasInput(index)) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  return ElementTypeOf(inputs_[index].TypeInfo());
}

int64_t GraphNodeInfo::InputRank(size_t index) const {
  return HasInput(index) ? RankOf(inputs_[index].TypeInfo()) : -1;
}

int64_t GraphNodeInfo::InputWidth(size_t index) const {
  return HasInput(index) ? WidthOf(inputs_[index].TypeInfo()) : -1;
}

Tensor GraphNodeInfo::ConstantInput(size_t index) const {
  Tensor tensor;
  if (!HasInput(index) || !inputs_[index].IsConstantInitializer()) return tensor;
  Ort::ConstValue value{nullptr};
  if (!inputs_[index].GetInitializer(value).IsOK()) return tensor;
  if (!ViewTensor(value, &tensor).ok()) return {};
  return tensor;
}

KernelNodeInfo::KernelNodeInfo(const OrtKernelInfo* info, std::string op_type, int since_version)
    : info_(info), op_type_(std::move(op_type)), since_version_(since_version) {}

std::string KernelNodeInfo::Name() const { return info_.GetNodeName(); }
std::string KernelNodeInfo::OpType() const { return op_type_; }
int KernelNodeInfo::SinceVersion() const { return since_version_; }

int64_t KernelNodeInfo::Int(const char* name, int64_t absent) const {
  int64_t value = absent;
  const bool found =
      Succeeds([&] { return Ort::GetApi().KernelInfoGetAttribute_int64(info_, name, &value); });
  return found ? value : absent;
}

float KernelNodeInfo::Float(const char* name, float absent) const {
  float value = absent;
  const bool found =
      Succeeds([&] { return Ort::GetApi().KernelInfoGetAttribute_float(info_, name, &value); });
  return found ? value : absent;
}

std::string KernelNodeInfo::String(const char* name, const std::string& absent) const {
  size_t size = 0;
  const OrtApi& api = Ort::GetApi();
  if (!Succeeds([&] { return api.KernelInfoGetAttribute_string(info_, name, nullptr, &size); })) {
    return absent;
  }
  std::string value(size, '\0');
  if (!Succeeds(
          [&] { return api.KernelInfoGetAttribute_string(info_, name, value.data(), &size); })) {
    return absent;
  }
  value.resize(size > 0 ? size - 1 : 0);
  return value;
}

std::vector<int64_t> KernelNodeInfo::Ints(const char* name) const {
  size_t size = 0;
  const OrtApi& api = Ort::GetApi();
  std::vector<int64_t> values;
  if (!Succeeds(
          [&] { return api.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size); })) {
    return values;
  }
  values.resize(size);
  if (!Succeeds([&] {
        return api.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size);
      })) {
    values.clear();
  }
  return values;
}

bool KernelNodeInfo::HasInput(size_t index) const {
  return index < info_.GetInputCount() && !info_.GetInputName(index).empty();
}

bool KernelNodeInfo::HasOutput(size_t index) const {
  return index < info_.GetOutputCount() && !info_.GetOutputName(index).empty();
}

ElementType KernelNodeInfo::InputType(size_t index) const {
  if (!HasInput(index)) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  return ElementTypeOf(info_.GetInputTypeInfo(index));
}

int64_t KernelNodeInfo::InputRank(size_t index) const {
  return HasInput(index) ? RankOf(info_.GetInputTypeInfo(index)) : -1;
}

int64_t KernelNodeInfo::InputWidth(size_t index) const {
  return HasInput(index) ? WidthOf(info_.GetInputTypeInfo(index)) : -1;
}

Tensor KernelNodeInfo::ConstantInput(size_t index) const {
  Tensor tensor;
  if (!HasInput(index)) return tensor;
  int is_constant = 0;
  const OrtValue* value = nullptr;
  if (!Succeeds([&] {
        return Ort::GetApi().KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value);
      }) ||
      is_constant == 0 || value == nullptr) {
    return tensor;
  }
  if (!ViewTensor(value, &tensor).ok()) return {};
  return tensor;
}

std::string KernelNodeInfo::ConfigEntry(const char* key) const {
  const Ort::KeyValuePairs entries = info_.GetConfigEntries();
  const char* value = entries.GetValue(key);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace batch_invariant::ort
