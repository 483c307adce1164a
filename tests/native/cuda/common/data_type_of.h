// The DataType and the ElementType of a C++ type, for tests that run over several.
#ifndef BATCH_INVARIANT_TESTS_CUDA_COMMON_DATA_TYPE_OF_H_
#define BATCH_INVARIANT_TESTS_CUDA_COMMON_DATA_TYPE_OF_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"

namespace batch_invariant::cuda::test {

template <typename T>
DataType TypeOf() {
  if constexpr (std::is_same_v<T, float>) return DataType::kFloat32;
  if constexpr (std::is_same_v<T, __half>) return DataType::kFloat16;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return DataType::kBFloat16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DataType::kInt32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DataType::kInt64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DataType::kUInt8;
  if constexpr (std::is_same_v<T, double>) return DataType::kFloat64;
  return DataType::kBool;
}

template <typename T>
constexpr ElementType ElementTypeOf() {
  if (std::is_same_v<T, float>) return ElementType::kFloat32;
  return std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16;
}

}  // namespace batch_invariant::cuda::test

#endif  // BATCH_INVARIANT_TESTS_CUDA_COMMON_DATA_TYPE_OF_H_
