// Stands in for the CUDA backend in a build without it.
#include "ort/ep/device.h"

namespace batch_invariant::ort {

std::unique_ptr<DeviceBackend> MakeCudaBackend(std::string* why) {
  *why = "this library was built without CUDA";
  return nullptr;
}

}  // namespace batch_invariant::ort
