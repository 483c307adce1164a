#include "ort/ep/cuda/cuda_data_transfer.h"

#include "ort/cuda/cuda_error.h"
#include "ort/ops/node_info.h"

namespace batch_invariant::ort {
namespace {

constexpr uint32_t kNvidia = 0x10DE;

bool IsHost(const OrtMemoryDevice* device) {
  const OrtEpApi& api = Ort::GetEpApi();
  return api.MemoryDevice_GetDeviceType(device) == OrtMemoryInfoDeviceType_CPU ||
         api.MemoryDevice_GetMemoryType(device) == OrtDeviceMemoryType_HOST_ACCESSIBLE;
}

bool IsCuda(const OrtMemoryDevice* device) {
  const OrtEpApi& api = Ort::GetEpApi();
  return api.MemoryDevice_GetDeviceType(device) == OrtMemoryInfoDeviceType_GPU &&
         api.MemoryDevice_GetVendorId(device) == kNvidia;
}

Status Copy(const OrtValue* source, OrtValue* target) {
  size_t bytes = 0;
  const OrtApi& api = Ort::GetApi();
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(api.GetTensorSizeInBytes(source, &bytes)));
  if (bytes == 0) return Status::Ok();
  const void* from = nullptr;
  void* to = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(api.GetTensorData(source, &from)));
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(api.GetTensorMutableData(target, &to)));
  // On the default stream, which waits for the sessions' streams and they for it. A copy between
  // two places on one device may return before it is done.
  BATCH_INVARIANT_RETURN_IF_ERROR(CudaStatus(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cudaStreamLegacy), "copying a tensor"));
  return CudaStatus(cudaStreamSynchronize(cudaStreamLegacy), "copying a tensor");
}

}  // namespace

CudaDataTransfer::CudaDataTransfer() : OrtDataTransferImpl{} {
  ort_version_supported = kOrtApiVersion;
  Release = [](OrtDataTransferImpl* self) noexcept { delete static_cast<CudaDataTransfer*>(self); };
  CanCopy = [](const OrtDataTransferImpl*, const OrtMemoryDevice* source,
               const OrtMemoryDevice* target) noexcept {
    return (IsCuda(source) && (IsCuda(target) || IsHost(target))) ||
           (IsHost(source) && IsCuda(target));
  };
  CopyTensors = [](OrtDataTransferImpl*, const OrtValue** sources, OrtValue** targets,
                   OrtSyncStream**, size_t count) noexcept -> OrtStatus* {
    return Guarded([&]() -> Status {
      for (size_t i = 0; i < count; ++i) {
        BATCH_INVARIANT_RETURN_IF_ERROR(Copy(sources[i], targets[i]));
      }
      return Status::Ok();
    });
  };
}

}  // namespace batch_invariant::ort
