#include "ort/ep/ep_factory.h"

#include "ort/ep/ep.h"
#include "ort/ep/kernel_registry.h"

namespace batch_invariant::ort {
namespace {

OrtStatus* ORT_API_CALL FindDevices(OrtEpFactory* self, const OrtHardwareDevice* const* devices,
                                    size_t device_count, OrtEpDevice** ep_devices,
                                    size_t max_ep_devices, size_t* ep_device_count) noexcept {
  *ep_device_count = 0;
  return Guarded([&]() -> Status {
    const OrtApi& api = Ort::GetApi();
    for (size_t i = 0; i < device_count && *ep_device_count < max_ep_devices; ++i) {
      if (api.HardwareDevice_Type(devices[i]) != OrtHardwareDeviceType_CPU) continue;
      // No allocator is announced: tensors stay in ONNX Runtime's own CPU memory and nothing is
      // copied between its CPU provider and this one.
      BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(Ort::GetEpApi().CreateEpDevice(
          self, devices[i], nullptr, nullptr, &ep_devices[*ep_device_count])));
      ++*ep_device_count;
    }
    return Status::Ok();
  });
}

OrtStatus* ORT_API_CALL MakeEp(OrtEpFactory* self, const OrtHardwareDevice* const*,
                               const OrtKeyValuePairs* const*, size_t,
                               const OrtSessionOptions* session_options, const OrtLogger*,
                               OrtEp** ep) noexcept {
  *ep = nullptr;
  return Guarded([&]() -> Status {
    EpOptions options;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ReadOptions(Ort::ConstSessionOptions{session_options}, &options));
    *ep = new BatchInvariantEp(*static_cast<EpFactory*>(self), std::move(options));
    return Status::Ok();
  });
}

}  // namespace

EpFactory::EpFactory() : OrtEpFactory{}, registry_(MakeKernelRegistry(ops())) {
  ort_version_supported = kOrtApiVersion;
  OrtEpFactory::GetName = [](const OrtEpFactory*) noexcept -> const char* { return kProviderName; };
  OrtEpFactory::GetVendor = [](const OrtEpFactory*) noexcept -> const char* {
    return "OrtBatchInvariant";
  };
  OrtEpFactory::GetVendorId = [](const OrtEpFactory*) noexcept -> uint32_t { return 0; };
  OrtEpFactory::GetVersion = [](const OrtEpFactory*) noexcept -> const char* {
    return kLibraryVersion;
  };
  OrtEpFactory::GetSupportedDevices = &FindDevices;
  OrtEpFactory::CreateEp = &MakeEp;
  OrtEpFactory::ReleaseEp = [](OrtEpFactory*, OrtEp* ep) noexcept {
    delete static_cast<BatchInvariantEp*>(ep);
  };
  OrtEpFactory::IsStreamAware = [](const OrtEpFactory*) noexcept { return false; };
  OrtEpFactory::CreateDataTransfer = [](OrtEpFactory*,
                                        OrtDataTransferImpl** transfer) noexcept -> OrtStatus* {
    *transfer = nullptr;
    return nullptr;
  };
}

}  // namespace batch_invariant::ort
