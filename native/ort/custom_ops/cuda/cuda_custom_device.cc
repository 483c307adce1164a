// The GPU of custom ops. Its pool and its workspaces are of the process: a custom op knows neither
// its session nor which other kernels belong to that.
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "ort/cuda/cuda_error.h"
#include "ort/cuda/device_pool.h"
#include "ort/cuda/start_up_test.h"
#include "ort/cuda/stream_workspaces.h"
#include "ort/custom_ops/custom_device.h"

namespace batch_invariant::ort {
namespace {

class CudaCustomDevice final : public CustomDevice, private DeviceServices {
 public:
  explicit CudaCustomDevice(int ordinal)
      : ordinal_(ordinal),
        pool_(std::make_shared<DevicePool>(ordinal, MemoryKind::kDevice)),
        workspaces_(pool_) {}

  DeviceServices* services() override { return this; }

  Status Enqueue(void* stream, const std::function<Status()>& enqueue) override {
    const ScopedDevice current(ordinal_);
    const std::lock_guard turn(TurnOf(stream));
    return enqueue();
  }

 private:
  // What has no stream from ONNX Runtime, the packing of weights, goes over the default stream.
  void* Stream() override { return nullptr; }

  Status Copy(void* to, const void* from, size_t bytes) override {
    const ScopedDevice current(ordinal_);
    BATCH_INVARIANT_RETURN_IF_ERROR(CudaStatus(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, nullptr), "copying weights"));
    return Synchronize();
  }

  Status Synchronize() override {
    return CudaStatus(cudaStreamSynchronize(nullptr), "waiting for the device");
  }

  Status Workspace(void* stream, size_t bytes, void** memory) override {
    return workspaces_.Get(stream, bytes, memory);
  }

  Status AllocateWeights(size_t bytes, void** memory) override {
    *memory = pool_->Allocate(bytes);
    if (*memory != nullptr || bytes == 0) return Status::Ok();
    return Status::OutOfMemory("the device has no " + std::to_string(bytes >> 20) +
                               " MiB left for packed weights");
  }

  void FreeWeights(void* memory) override { pool_->Free(memory); }

  std::mutex& TurnOf(void* stream) {
    const std::lock_guard lock(turns_mutex_);
    return turns_[stream];
  }

  const int ordinal_;
  std::shared_ptr<DevicePool> pool_;
  StreamWorkspaces workspaces_;
  std::mutex turns_mutex_;
  std::map<void*, std::mutex> turns_;
};

// The GPU of the provider's memory; the current one where the provider does not say.
int OrdinalOf(const OrtKernelInfo* info) {
  const OrtApi& api = Ort::GetApi();
  int ordinal = 0;
  if (cudaGetDevice(&ordinal) != cudaSuccess) ordinal = 0;
  OrtAllocator* allocator = nullptr;
  if (OrtStatus* status = api.KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator)) {
    api.ReleaseStatus(status);
    return ordinal;
  }
  if (OrtStatus* status = api.MemoryInfoGetId(allocator->Info(allocator), &ordinal)) {
    api.ReleaseStatus(status);
  }
  api.ReleaseAllocator(allocator);
  return ordinal;
}

Status CheckCapability(int ordinal) {
  int major = 0;
  int minor = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "asking a GPU"));
  BATCH_INVARIANT_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal), "asking a GPU"));
  if (major * 10 + minor >= kOldestComputeCapability) return Status::Ok();
  return Status::Unsupported("GPU " + std::to_string(ordinal) + " has compute capability " +
                             std::to_string(major) + "." + std::to_string(minor) +
                             ", needed is 8.0 or later");
}

}  // namespace

Status OpenCudaDevice(const OrtKernelInfo* info, std::shared_ptr<CustomDevice>* device) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<CustomDevice>> devices;
  const int ordinal = OrdinalOf(info);
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckCapability(ordinal));
  std::string outcome;
  BATCH_INVARIANT_RETURN_IF_ERROR(StartUpTest::OfProcess().Require(ordinal, &outcome));
  const std::lock_guard lock(mutex);
  *device = devices[ordinal].lock();
  if (*device == nullptr) {
    *device = std::make_shared<CudaCustomDevice>(ordinal);
    devices[ordinal] = *device;
  }
  return Status::Ok();
}

}  // namespace batch_invariant::ort
