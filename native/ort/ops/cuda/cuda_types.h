// ONNX Runtime's element types as the CUDA kernels name them, and what every CUDA adapter shares.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_CUDA_TYPES_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_CUDA_TYPES_H_

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "ort/ops/element_types.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

inline constexpr ElementType kBFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;

// The types that the CUDA kernels compute in.
inline const std::vector<ElementType> kCudaFloats = {kFloat, kFloat16, kBFloat16};

inline cuda::ElementType CudaType(ElementType type) {
  switch (type) {
    case kFloat16:
      return cuda::ElementType::kFloat16;
    case kBFloat16:
      return cuda::ElementType::kBFloat16;
    default:
      return cuda::ElementType::kFloat32;
  }
}

// Only for the types of AllCudaTypes.
inline cuda::DataType CudaDataType(ElementType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return cuda::DataType::kFloat16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
      return cuda::DataType::kBFloat16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
      return cuda::DataType::kFloat64;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
      return cuda::DataType::kInt8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return cuda::DataType::kUInt8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
      return cuda::DataType::kInt16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
      return cuda::DataType::kUInt16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return cuda::DataType::kInt32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32:
      return cuda::DataType::kUInt32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return cuda::DataType::kInt64;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64:
      return cuda::DataType::kUInt64;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return cuda::DataType::kBool;
    default:
      return cuda::DataType::kFloat32;
  }
}

inline std::vector<ElementType> AllCudaTypes() { return FixedSizeTypes(); }

// What a node that only moves bytes is listed with.
inline const char* CopyContract(const NodeInfo&) { return "copy.v1"; }

inline cuda::Stream CudaStream(OpContext& context) {
  return static_cast<cuda::Stream>(context.Stream());
}

// Device memory for packed weights, given back with the kernel that owns it.
class DeviceWeights {
 public:
  DeviceWeights() = default;
  ~DeviceWeights() {
    if (memory_ != nullptr) device_->FreeWeights(memory_);
  }
  DeviceWeights(const DeviceWeights&) = delete;
  DeviceWeights& operator=(const DeviceWeights&) = delete;

  Status Allocate(DeviceServices* device, size_t bytes) {
    device_ = device;
    return device->AllocateWeights(bytes, &memory_);
  }
  void* get() const { return memory_; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  DeviceServices* device_ = nullptr;
  void* memory_ = nullptr;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_CUDA_TYPES_H_
