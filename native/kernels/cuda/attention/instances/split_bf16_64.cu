#include "kernels/cuda/attention/launch_split.cuh"

namespace batch_invariant::cuda {
template Status LaunchSplit<__nv_bfloat16, 64>(const CoreArgs&, const DeviceInfo&, Stream);
}  // namespace batch_invariant::cuda
