// Element types of the tensors that CUDA kernels read and write.
#ifndef BATCH_INVARIANT_CUDA_DATA_TYPE_H_
#define BATCH_INVARIANT_CUDA_DATA_TYPE_H_

#include <cstdint>

namespace batch_invariant::cuda {

enum class DataType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kFloat64,
  kInt8,
  kUInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64,
  kBool,
};

// Bytes of one element.
constexpr int64_t SizeOf(DataType type) {
  switch (type) {
    case DataType::kInt8:
    case DataType::kUInt8:
    case DataType::kBool:
      return 1;
    case DataType::kFloat16:
    case DataType::kBFloat16:
    case DataType::kInt16:
    case DataType::kUInt16:
      return 2;
    case DataType::kFloat32:
    case DataType::kInt32:
    case DataType::kUInt32:
      return 4;
    case DataType::kFloat64:
    case DataType::kInt64:
    case DataType::kUInt64:
      return 8;
  }
  return 0;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_DATA_TYPE_H_
