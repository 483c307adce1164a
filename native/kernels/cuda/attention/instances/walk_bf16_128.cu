#include "kernels/cuda/attention/launch_walk.cuh"

namespace batch_invariant::cuda {
template Status LaunchWalk<__nv_bfloat16, 128>(const CoreArgs&, const DeviceInfo&, Stream);
}  // namespace batch_invariant::cuda
