#include "kernels/cuda/common/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                 const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                 const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's function, found through the runtime so that nothing links libcuda.
Status FindEncodeTiled(EncodeTiled* encode) {
  static EncodeTiled found = nullptr;
  static const cudaError_t error = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                                12000, cudaEnableDefault, &result);
#else
    const cudaError_t status =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &result);
#endif
    found = reinterpret_cast<EncodeTiled>(entry);
    return status;
  }();
  BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(error, "cudaGetDriverEntryPoint"));
  if (found == nullptr) {
    return Status::DeviceError(
        "cuTensorMapEncodeTiled: the driver lacks it; install a driver for CUDA 12 or newer");
  }
  *encode = found;
  return Status::Ok();
}

}  // namespace

Status MakeTensorMap(const TensorMapShape& s, CUtensorMap* map) {
  EncodeTiled encode = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(FindEncodeTiled(&encode));

  cuuint64_t sizes[4], strides[3];
  cuuint32_t box[4];
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  for (int i = 0; i < 4; ++i) {
    sizes[i] = static_cast<cuuint64_t>(s.sizes[i]);
    box[i] = static_cast<cuuint32_t>(s.box[i]);
  }
  for (int i = 0; i < 3; ++i) {
    strides[i] = static_cast<cuuint64_t>(s.sizes[i + 1] > 1 ? 2 * s.strides[i] : 16);
  }
  const CUresult result =
      encode(map,
             s.type == ElementType::kFloat16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                             : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             4, const_cast<void*>(s.data), sizes, strides, box, element_strides,
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             s.box[0] == 32 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return Status::DeviceError(
        "cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)) +
        " for sizes " + std::to_string(s.sizes[0]) + " x " + std::to_string(s.sizes[1]) + " x " +
        std::to_string(s.sizes[2]) + " x " + std::to_string(s.sizes[3]));
  }
  return Status::Ok();
}

}  // namespace batch_invariant::cuda
