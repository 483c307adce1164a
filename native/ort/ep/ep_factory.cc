#include "ort/ep/ep_factory.h"

#include <vector>

#include "ort/ep/ep.h"
#include "ort/ep/kernel_registry.h"

namespace batch_invariant::ort {
namespace {

EpFactory& Self(OrtEpFactory* self) { return *static_cast<EpFactory*>(self); }

bool IsCpu(const OrtHardwareDevice* hardware) {
  return Ort::GetApi().HardwareDevice_Type(hardware) == OrtHardwareDeviceType_CPU;
}

}  // namespace

EpFactory::EpFactory()
    : OrtEpFactory{},
      cpu_registry_(MakeKernelRegistry(CpuOps())),
      device_(MakeCudaBackend(&why_no_device_)) {
  ort_version_supported = kOrtApiVersion;
  OrtEpFactory::GetName = [](const OrtEpFactory*) noexcept -> const char* { return kProviderName; };
  OrtEpFactory::GetVendor = [](const OrtEpFactory*) noexcept -> const char* {
    return "OrtBatchInvariant";
  };
  OrtEpFactory::GetVendorId = [](const OrtEpFactory*) noexcept -> uint32_t { return 0; };
  OrtEpFactory::GetVersion = [](const OrtEpFactory*) noexcept -> const char* {
    return kLibraryVersion;
  };
  OrtEpFactory::GetSupportedDevices =
      [](OrtEpFactory* self, const OrtHardwareDevice* const* hardware, size_t hardware_count,
         OrtEpDevice** ep_devices, size_t max_ep_devices, size_t* count) noexcept -> OrtStatus* {
    *count = 0;
    return Guarded([&] {
      return Self(self).FindDevices({hardware, hardware_count}, ep_devices, max_ep_devices, count);
    });
  };
  OrtEpFactory::CreateEp = [](OrtEpFactory* self, const OrtHardwareDevice* const* hardware,
                              const OrtKeyValuePairs* const*, size_t hardware_count,
                              const OrtSessionOptions* session_options, const OrtLogger*,
                              OrtEp** ep) noexcept -> OrtStatus* {
    *ep = nullptr;
    return Guarded([&] {
      return Self(self).MakeEp({hardware, hardware_count}, session_options, ep);
    });
  };
  OrtEpFactory::ReleaseEp = [](OrtEpFactory*, OrtEp* ep) noexcept {
    delete static_cast<BatchInvariantEp*>(ep);
  };
  // ONNX Runtime's own CUDA provider takes any stream of its devices for one of its own kind, so
  // that this factory must not make any; kernels take the stream they are given, or their
  // session's.
  OrtEpFactory::IsStreamAware = [](const OrtEpFactory*) noexcept { return false; };
  OrtEpFactory::CreateDataTransfer = [](OrtEpFactory*,
                                        OrtDataTransferImpl** transfer) noexcept -> OrtStatus* {
    *transfer = nullptr;
    return nullptr;
  };
  if (!CudaOps().empty()) device_registry_ = MakeKernelRegistry(CudaOps());
  if (device_ != nullptr) SetDeviceCallbacks();
}

void EpFactory::SetDeviceCallbacks() {
  OrtEpFactory::CreateAllocator = [](OrtEpFactory* self, const OrtMemoryInfo* info,
                                     const OrtKeyValuePairs*,
                                     OrtAllocator** allocator) noexcept -> OrtStatus* {
    *allocator = nullptr;
    return Guarded([&] { return Self(self).device_->CreateAllocator(info, allocator); });
  };
  OrtEpFactory::ReleaseAllocator = [](OrtEpFactory* self, OrtAllocator* allocator) noexcept {
    Self(self).device_->ReleaseAllocator(allocator);
  };
  OrtEpFactory::CreateDataTransfer = [](OrtEpFactory* self,
                                        OrtDataTransferImpl** transfer) noexcept -> OrtStatus* {
    *transfer = nullptr;
    return Guarded([&] { return Self(self).device_->CreateDataTransfer(transfer); });
  };
}

Status EpFactory::FindDevices(std::span<const OrtHardwareDevice* const> hardware,
                              OrtEpDevice** ep_devices, size_t max_ep_devices, size_t* count) {
  for (const OrtHardwareDevice* each : hardware) {
    if (*count == max_ep_devices) break;
    OrtEpDevice* ep_device = nullptr;
    if (IsCpu(each)) {
      // No allocator is announced: tensors stay in ONNX Runtime's own CPU memory and nothing is
      // copied between its CPU provider and this one.
      BATCH_INVARIANT_RETURN_IF_ERROR(
          FromOrtStatus(Ort::GetEpApi().CreateEpDevice(this, each, nullptr, nullptr, &ep_device)));
    } else if (device_ != nullptr) {
      BATCH_INVARIANT_RETURN_IF_ERROR(device_->Offer(this, each, &ep_device));
    }
    if (ep_device != nullptr) ep_devices[(*count)++] = ep_device;
  }
  return Status::Ok();
}

Status EpFactory::MakeEp(std::span<const OrtHardwareDevice* const> hardware,
                         const OrtSessionOptions* session_options, OrtEp** ep) {
  EpOptions options;
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadOptions(Ort::ConstSessionOptions{session_options}, &options));
  // GenAI hands over every device of the provider's name: a GPU among them is what was meant.
  std::vector<const OrtHardwareDevice*> devices;
  for (const OrtHardwareDevice* each : hardware) {
    if (device_ != nullptr && device_->Owns(each)) devices.push_back(each);
  }
  const bool plans_for_cuda = options.dry_run && options.device == "cuda" && devices.empty();
  if (plans_for_cuda && CudaOps().empty()) {
    return Status::Unsupported(
        "this build of the library has no CUDA kernels to plan with: build it with CUDA");
  }
  if (options.device == "cuda" && devices.empty() && !plans_for_cuda) {
    return Status::Unsupported(
        "the option device is cuda, but this session was given no CUDA device that this library "
        "can use (" +
        why_no_device_ +
        "): it needs an NVIDIA GPU of compute capability 8.0 or later, its driver, and a build "
        "with CUDA");
  }
  if (options.device == "cpu" && !devices.empty()) {
    // ONNX Runtime takes the memory of the first device that has some for the provider's own.
    return Status::InvalidArgument(
        "the option device is cpu, but this session was given a GPU of this provider as well: give "
        "it the provider's CPU device alone");
  }
  std::unique_ptr<DeviceSession> session;
  if (plans_for_cuda) {
    *ep = new BatchInvariantEp(CudaOps(), {}, device_registry_, std::move(options), nullptr);
  } else if (!devices.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(device_->CreateSession(devices, options, &session));
    *ep = new BatchInvariantEp(device_->ops(), device_->fusions(), device_registry_,
                               std::move(options), std::move(session));
  } else {
    *ep = new BatchInvariantEp(CpuOps(), CpuFusions(), cpu_registry_, std::move(options), nullptr);
  }
  return Status::Ok();
}

}  // namespace batch_invariant::ort
