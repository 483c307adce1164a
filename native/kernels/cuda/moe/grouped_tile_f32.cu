#include "kernels/cuda/moe/grouped_tile.cuh"
#include "kernels/cuda/moe/grouped_tile.h"

namespace batch_invariant::cuda {

template <>
Status GroupedTileKernels<float>::GemmSmall(const GroupedArgs& args, const DeviceInfo&,
                                            Stream stream) {
  return GroupedGemmF32<16, 32>(args, stream);
}
template <>
Status GroupedTileKernels<float>::GemmLarge(const GroupedArgs& args, const DeviceInfo&,
                                            Stream stream) {
  return GroupedGemmF32<64, 64>(args, stream);
}
template <>
Status GroupedTileKernels<float>::NBitsSmall(const GroupedArgs& args, const DeviceInfo&,
                                             Stream stream) {
  return GroupedNBitsF32<16, 32>(args, stream);
}
template <>
Status GroupedTileKernels<float>::NBitsLarge(const GroupedArgs& args, const DeviceInfo&,
                                             Stream stream) {
  return GroupedNBitsF32<64, 64>(args, stream);
}

}  // namespace batch_invariant::cuda
