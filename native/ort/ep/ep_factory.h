// The provider's factory: one for the process, made when the library is registered.
#ifndef BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_
#define BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_

#include <memory>
#include <span>

#include "ort/ep/device.h"

namespace batch_invariant::ort {

class EpFactory : public OrtEpFactory {
 public:
  // Throws Ort::Exception when an op's kernel definition is refused.
  EpFactory();

 private:
  Status FindDevices(std::span<const OrtHardwareDevice* const> hardware, OrtEpDevice** ep_devices,
                     size_t max_ep_devices, size_t* count);
  Status MakeEp(std::span<const OrtHardwareDevice* const> hardware,
                const OrtSessionOptions* session_options, OrtEp** ep);
  void SetDeviceCallbacks();

  Ort::KernelRegistry cpu_registry_;
  Ort::KernelRegistry device_registry_{nullptr};
  std::string why_no_device_;
  std::unique_ptr<DeviceBackend> device_;  // null on a machine with the CPU alone
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_
