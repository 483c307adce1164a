// What an op may ask about its node, whether the node is seen by the provider's partitioning or by
// the creation of a kernel: one interface, so that one check decides in both places.
#ifndef BATCH_INVARIANT_ORT_OPS_NODE_INFO_H_
#define BATCH_INVARIANT_ORT_OPS_NODE_INFO_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ort/ort_api.h"

namespace batch_invariant::ort {

using ElementType = ONNXTensorElementDataType;

// A view of a tensor's memory. `data` is null for an omitted optional input or output. `owner` keeps
// memory that was made for the view.
struct Tensor {
  void* data = nullptr;
  ElementType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::span<const int64_t> shape;
  bool present = false;
  std::shared_ptr<void> owner = nullptr;

  template <typename T>
  T* Data() const {
    return static_cast<T*>(data);
  }
  int64_t Elements() const {
    int64_t count = 1;
    for (int64_t d : shape) count *= d;
    return count;
  }
};

// Fails when `value` is not a tensor. Null gives an absent tensor.
Status ViewTensor(const OrtValue* value, Tensor* tensor);

class NodeInfo {
 public:
  virtual ~NodeInfo() = default;

  virtual std::string Name() const = 0;
  virtual std::string OpType() const = 0;
  // The op set version that introduced this form of the op.
  virtual int SinceVersion() const = 0;

  // An absent attribute gives `absent`.
  virtual int64_t Int(const char* name, int64_t absent) const = 0;
  virtual float Float(const char* name, float absent) const = 0;
  virtual std::string String(const char* name, const std::string& absent) const = 0;
  virtual std::vector<int64_t> Ints(const char* name) const = 0;

  virtual bool HasInput(size_t index) const = 0;
  virtual bool HasOutput(size_t index) const = 0;
  // UNDEFINED when absent or unknown.
  virtual ElementType InputType(size_t index) const = 0;
  // -1 when absent or unknown.
  virtual int64_t InputRank(size_t index) const = 0;
  // The last dimension; -1 when absent or unknown.
  virtual int64_t InputWidth(size_t index) const = 0;
  // An absent tensor when the input is not a constant, or not known yet.
  virtual Tensor ConstantInput(size_t index) const = 0;
};

// A node of a graph that is being partitioned.
class GraphNodeInfo final : public NodeInfo {
 public:
  explicit GraphNodeInfo(Ort::ConstNode node);

  std::string Name() const override;
  std::string OpType() const override;
  int SinceVersion() const override;
  int64_t Int(const char* name, int64_t absent) const override;
  float Float(const char* name, float absent) const override;
  std::string String(const char* name, const std::string& absent) const override;
  std::vector<int64_t> Ints(const char* name) const override;
  bool HasInput(size_t index) const override;
  bool HasOutput(size_t index) const override;
  ElementType InputType(size_t index) const override;
  int64_t InputRank(size_t index) const override;
  int64_t InputWidth(size_t index) const override;
  Tensor ConstantInput(size_t index) const override;

 private:
  Ort::ConstNode node_;
  std::vector<Ort::ConstValueInfo> inputs_;
  std::vector<Ort::ConstValueInfo> outputs_;
};

// The node of a kernel that is being created.
class KernelNodeInfo final : public NodeInfo {
 public:
  // `op_type` and `since_version` come from the definition that ONNX Runtime matched.
  KernelNodeInfo(const OrtKernelInfo* info, std::string op_type, int since_version);

  std::string Name() const override;
  std::string OpType() const override;
  int SinceVersion() const override;
  int64_t Int(const char* name, int64_t absent) const override;
  float Float(const char* name, float absent) const override;
  std::string String(const char* name, const std::string& absent) const override;
  std::vector<int64_t> Ints(const char* name) const override;
  bool HasInput(size_t index) const override;
  bool HasOutput(size_t index) const override;
  ElementType InputType(size_t index) const override;
  int64_t InputRank(size_t index) const override;
  int64_t InputWidth(size_t index) const override;
  Tensor ConstantInput(size_t index) const override;

  // Session configuration entry, empty when absent.
  std::string ConfigEntry(const char* key) const;

 private:
  Ort::ConstKernelInfo info_;
  std::string op_type_;
  int since_version_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_NODE_INFO_H_
