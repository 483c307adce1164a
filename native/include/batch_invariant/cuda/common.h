// Types shared by every CUDA kernel interface. No CUDA header is needed to include it.
#ifndef BATCH_INVARIANT_CUDA_COMMON_H_
#define BATCH_INVARIANT_CUDA_COMMON_H_

#include <cstddef>

struct CUstream_st;  // what cudaStream_t points to

namespace batch_invariant::cuda {

using Stream = CUstream_st*;

// Element type of the tensors a kernel reads and writes. Accumulation is always fp32.
enum class ElementType { kFloat32, kFloat16, kBFloat16 };

constexpr std::size_t ElementSize(ElementType type) {
  return type == ElementType::kFloat32 ? 4 : 2;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_COMMON_H_
