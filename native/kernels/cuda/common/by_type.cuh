// Calls a launch for a runtime element type.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_BY_TYPE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_BY_TYPE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// launch(x), x a value of the C++ type.
template <typename Launch>
Status ByType(ElementType type, const Launch& launch) {
  switch (type) {
    case ElementType::kFloat16:
      return launch(__half{});
    case ElementType::kBFloat16:
      return launch(__nv_bfloat16{});
    default:
      return launch(float{});
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_BY_TYPE_CUH_
