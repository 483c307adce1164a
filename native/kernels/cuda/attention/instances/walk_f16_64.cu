#include "kernels/cuda/attention/launch_walk.cuh"

namespace batch_invariant::cuda {
template Status LaunchWalk<__half, 64>(const CoreArgs&, const DeviceInfo&, Stream);
}  // namespace batch_invariant::cuda
