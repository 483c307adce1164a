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
    const cudaError_t status =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &result);
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

  const std::int64_t row_bytes = 2 * s.row_stride;
  const cuuint64_t dims[3] = {static_cast<cuuint64_t>(s.columns), static_cast<cuuint64_t>(s.rows),
                              static_cast<cuuint64_t>(s.batch)};
  const cuuint64_t strides[2] = {
      static_cast<cuuint64_t>(row_bytes),
      static_cast<cuuint64_t>(s.batch > 1 ? 2 * s.batch_stride : row_bytes)};
  const cuuint32_t box[3] = {static_cast<cuuint32_t>(s.box_columns),
                             static_cast<cuuint32_t>(s.box_rows), 1};
  const cuuint32_t element_strides[3] = {1, 1, 1};
  const CUresult result =
      encode(map,
             s.type == ElementType::kFloat16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                             : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             3, const_cast<void*>(s.data), dims, strides, box, element_strides,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return Status::DeviceError("cuTensorMapEncodeTiled: error " +
                               std::to_string(static_cast<int>(result)) + " for rows " +
                               std::to_string(s.rows) + ", columns " + std::to_string(s.columns) +
                               ", row stride " + std::to_string(s.row_stride));
  }
  return Status::Ok();
}

}  // namespace batch_invariant::cuda
