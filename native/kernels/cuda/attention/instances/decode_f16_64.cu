#include "kernels/cuda/attention/launch_decode.cuh"

namespace batch_invariant::cuda {
template Status LaunchDecode<__half, 64>(const CoreArgs&, const PrepareArgs&, int, Stream);
}  // namespace batch_invariant::cuda
