// NVIDIA GPUs through the CUDA runtime, linked statically: without a driver there simply are none.
#include <cstdint>
#include <list>

#include "ort/cuda/cuda_error.h"
#include "ort/cuda/start_up_test.h"
#include "ort/ep/cuda/cuda_allocator.h"
#include "ort/ep/cuda/cuda_data_transfer.h"
#include "ort/ep/cuda/cuda_session.h"
#include "ort/ep/device.h"

namespace batch_invariant::ort {
namespace {

constexpr uint32_t kNvidia = 0x10DE;
constexpr const char* kDeviceIdKey = "cuda_device_id";  // of a provider device's metadata

class CudaBackend final : public DeviceBackend {
 public:
  explicit CudaBackend(int device_count) : device_count_(device_count) {}

  std::span<const OpDefinition> ops() const override { return CudaOps(); }
  std::span<const FusionDefinition> fusions() const override { return CudaFusions(); }

  Status Offer(OrtEpFactory* factory, const OrtHardwareDevice* hardware,
               OrtEpDevice** ep_device) override {
    const OrtApi& api = Ort::GetApi();
    if (api.HardwareDevice_Type(hardware) != OrtHardwareDeviceType_GPU ||
        api.HardwareDevice_VendorId(hardware) != kNvidia) {
      return Status::Ok();
    }
    const CudaDevice* device = Find(hardware);
    if (device == nullptr) {
      const int ordinal = Ordinal(hardware);
      cudaDeviceProp properties;
      if (ordinal < 0 || cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) {
        (void)cudaGetLastError();
        return Status::Ok();
      }
      if (properties.major * 10 + properties.minor < kOldestComputeCapability) return Status::Ok();
      CudaDevice added;
      added.ordinal = ordinal;
      added.name = properties.name;
      added.hardware = hardware;
      // Alignment 0, vendor and names as ONNX Runtime's own CUDA provider has them: the same
      // memory.
      added.memory = Ort::MemoryInfo("Cuda", OrtMemoryInfoDeviceType_GPU, kNvidia,
                                     static_cast<uint32_t>(ordinal), OrtDeviceMemoryType_DEFAULT, 0,
                                     OrtDeviceAllocator);
      added.pinned = Ort::MemoryInfo("CudaPinned", OrtMemoryInfoDeviceType_GPU, kNvidia,
                                     static_cast<uint32_t>(ordinal),
                                     OrtDeviceMemoryType_HOST_ACCESSIBLE, 0, OrtDeviceAllocator);
      devices_.push_back(std::move(added));
      device = &devices_.back();
    }
    // ONNX Runtime lists GPUs in an order of its own.
    Ort::KeyValuePairs metadata;
    metadata.Add(kDeviceIdKey, std::to_string(device->ordinal).c_str());
    const OrtEpApi& ep_api = Ort::GetEpApi();
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FromOrtStatus(ep_api.CreateEpDevice(factory, hardware, metadata, nullptr, ep_device)));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FromOrtStatus(ep_api.EpDevice_AddAllocatorInfo(*ep_device, device->memory)));
    return FromOrtStatus(ep_api.EpDevice_AddAllocatorInfo(*ep_device, device->pinned));
  }

  bool Owns(const OrtHardwareDevice* hardware) const override { return Find(hardware) != nullptr; }

  Status CreateAllocator(const OrtMemoryInfo* info, OrtAllocator** allocator) override {
    int ordinal = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(Ort::GetApi().MemoryInfoGetId(info, &ordinal)));
    for (const CudaDevice& device : devices_) {
      if (device.ordinal != ordinal) continue;
      const bool pinned =
          Ort::GetApi().MemoryInfoGetDeviceMemType(info) == OrtDeviceMemoryType_HOST_ACCESSIBLE;
      *allocator =
          new CudaAllocator(pinned ? device.pinned : device.memory,
                            std::make_shared<DevicePool>(
                                ordinal, pinned ? MemoryKind::kPinnedHost : MemoryKind::kDevice));
      return Status::Ok();
    }
    return Status::InvalidArgument("no CUDA device " + std::to_string(ordinal));
  }

  void ReleaseAllocator(OrtAllocator* allocator) override {
    delete static_cast<CudaAllocator*>(allocator);
  }

  Status CreateDataTransfer(OrtDataTransferImpl** transfer) override {
    *transfer = new CudaDataTransfer();
    return Status::Ok();
  }

  Status CreateSession(std::span<const OrtHardwareDevice* const> hardware, const EpOptions& options,
                       std::unique_ptr<DeviceSession>* session) override {
    for (const OrtHardwareDevice* each : hardware) {
      const CudaDevice* device = Find(each);
      if (options.device_id < 0 || device->ordinal == options.device_id) {
        std::string self_test;
        BATCH_INVARIANT_RETURN_IF_ERROR(
            StartUpTest::OfProcess().Require(device->ordinal, &self_test));
        return CudaSession::Create(*device, options, std::move(self_test), session);
      }
    }
    return Status::InvalidArgument("the option device_id is " + std::to_string(options.device_id) +
                                   ", which is none of the CUDA devices given to this session");
  }

 private:
  const CudaDevice* Find(const OrtHardwareDevice* hardware) const {
    for (const CudaDevice& device : devices_) {
      if (device.hardware == hardware) return &device;
    }
    return nullptr;
  }

  // ONNX Runtime knows a GPU by its place on the bus; where it does not say so, the GPUs are taken
  // in order. -1 when the CUDA runtime has no such device.
  int Ordinal(const OrtHardwareDevice* hardware) const {
    const OrtKeyValuePairs* metadata = Ort::GetApi().HardwareDevice_Metadata(hardware);
    const char* bus_id =
        metadata == nullptr ? nullptr : Ort::GetApi().GetKeyValue(metadata, "pci_bus_id");
    int ordinal = -1;
    if (bus_id != nullptr && cudaDeviceGetByPCIBusId(&ordinal, bus_id) == cudaSuccess) {
      return ordinal;
    }
    (void)cudaGetLastError();
    const int next = static_cast<int>(devices_.size());
    return next < device_count_ ? next : -1;
  }

  const int device_count_;
  std::list<CudaDevice> devices_;  // addresses are kept by sessions
};

}  // namespace

std::unique_ptr<DeviceBackend> MakeCudaBackend(std::string* why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    // A missing driver is reported as one that is too old.
    *why = error == cudaErrorInsufficientDriver
               ? "there is no NVIDIA driver here, or one that is older than CUDA " +
                     std::to_string(CUDART_VERSION / 1000) + "." +
                     std::to_string(CUDART_VERSION % 1000 / 10) + " needs"
           : error == cudaSuccess ? std::string("CUDA finds no GPU here")
                                  : std::string("CUDA says: ") + cudaGetErrorString(error);
    return nullptr;
  }
  *why = "none of the GPUs here was given to it, or none has compute capability 8.0 or later";
  return std::make_unique<CudaBackend>(count);
}

}  // namespace batch_invariant::ort
