#include "kernels/cuda/attention/launch_split.cuh"

namespace batch_invariant::cuda {
template Status LaunchSplit<__half, 256>(const CoreArgs&, const DeviceInfo&, Stream);
}  // namespace batch_invariant::cuda
