// Calls a templated function for a runtime element type.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_DISPATCH_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_DISPATCH_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <string>

#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

template <typename T>
struct TypeTag {
  using type = T;
};

// function(TypeTag<T>{}) for fp32, fp16, bf16, and for the integers and bool.
template <typename Function>
Status DispatchType(DataType type, Function&& function) {
  switch (type) {
    case DataType::kFloat32:
      return function(TypeTag<float>{});
    case DataType::kFloat16:
      return function(TypeTag<__half>{});
    case DataType::kBFloat16:
      return function(TypeTag<__nv_bfloat16>{});
    case DataType::kFloat64:
      return function(TypeTag<double>{});
    case DataType::kInt8:
      return function(TypeTag<std::int8_t>{});
    case DataType::kUInt8:
      return function(TypeTag<std::uint8_t>{});
    case DataType::kInt16:
      return function(TypeTag<std::int16_t>{});
    case DataType::kUInt16:
      return function(TypeTag<std::uint16_t>{});
    case DataType::kInt32:
      return function(TypeTag<std::int32_t>{});
    case DataType::kUInt32:
      return function(TypeTag<std::uint32_t>{});
    case DataType::kInt64:
      return function(TypeTag<std::int64_t>{});
    case DataType::kUInt64:
      return function(TypeTag<std::uint64_t>{});
    case DataType::kBool:
      return function(TypeTag<bool>{});
  }
  return Status::Unsupported("unknown element type");
}

// Only the types whose arithmetic graphs of decoders use.
template <typename Function>
Status DispatchArithmeticType(const char* op, DataType type, Function&& function) {
  switch (type) {
    case DataType::kFloat32:
      return function(TypeTag<float>{});
    case DataType::kFloat16:
      return function(TypeTag<__half>{});
    case DataType::kBFloat16:
      return function(TypeTag<__nv_bfloat16>{});
    case DataType::kInt32:
      return function(TypeTag<std::int32_t>{});
    case DataType::kInt64:
      return function(TypeTag<std::int64_t>{});
    case DataType::kBool:
      return function(TypeTag<bool>{});
    default:
      return Status::Unsupported(std::string(op) +
                                 ": only fp32, fp16, bf16, int32, int64 and bool are served");
  }
}

// An unsigned integer of the type's size, for ops that only move elements.
template <typename Function>
Status DispatchElementSize(std::int64_t size, Function&& function) {
  switch (size) {
    case 1:
      return function(TypeTag<std::uint8_t>{});
    case 2:
      return function(TypeTag<std::uint16_t>{});
    case 4:
      return function(TypeTag<std::uint32_t>{});
    case 8:
      return function(TypeTag<std::uint64_t>{});
    default:
      return Status::Unsupported("unknown element size");
  }
}

// The same for words of several elements.
template <typename Function>
Status DispatchWordSize(std::int64_t size, Function&& function) {
  if (size == 16) return function(TypeTag<uint4>{});
  return DispatchElementSize(size, function);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_DISPATCH_CUH_
