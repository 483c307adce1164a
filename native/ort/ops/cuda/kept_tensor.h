// A constant that is kept on the device until what it is packed with is there too.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_KEPT_TENSOR_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_KEPT_TENSOR_H_

#include <memory>
#include <vector>

#include "ort/ops/cuda/cuda_types.h"

namespace batch_invariant::ort {

class KeptTensor {
 public:
  Status Keep(DeviceServices* device, const Tensor& tensor) {
    type_ = tensor.type;
    shape_.assign(tensor.shape.begin(), tensor.shape.end());
    const size_t bytes = static_cast<size_t>(tensor.Elements()) * ElementBytes(tensor.type);
    memory_ = std::make_unique<DeviceWeights>();
    BATCH_INVARIANT_RETURN_IF_ERROR(memory_->Allocate(device, bytes));
    return device->Copy(memory_->get(), tensor.data, bytes);
  }

  bool kept() const { return memory_ != nullptr; }

  // Valid as long as this is not moved.
  Tensor View() const {
    if (memory_ == nullptr) return {};
    return {memory_->get(), type_, shape_, true};
  }

 private:
  ElementType type_ = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<int64_t> shape_;
  std::unique_ptr<DeviceWeights> memory_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_KEPT_TENSOR_H_
