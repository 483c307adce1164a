// Stands in for the CUDA backend in a build without it.
#include "ort/ep/device.h"

namespace batch_invariant::ort {

std::unique_ptr<DeviceBackend> MakeCudaBackend() { return nullptr; }

}  // namespace batch_invariant::ort
