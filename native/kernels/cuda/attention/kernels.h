// The launches behind batch_invariant/cuda/attention.h, one translation unit each.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_KERNELS_H_

#include <cuda_runtime_api.h>

#include "batch_invariant/cuda/attention.h"
#include "batch_invariant/status.h"
#include "kernels/cuda/attention/core_args.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

// T: __half or __nv_bfloat16. kUnsupported when the device has too little shared memory.
template <typename T, int kHead>
Status LaunchWalk(const CoreArgs& args, const DeviceInfo& device, Stream stream);
template <typename T, int kHead>
Status LaunchSplit(const CoreArgs& args, const DeviceInfo& device, Stream stream);
template <typename T>
Status LaunchMerge(const CoreArgs& args, const DeviceInfo& device, Stream stream);
Status LaunchF32(const CoreArgs& args, Stream stream);

// GroupQueryAttention's work before attention: normalise and rotate, append to the cache.
struct PrepareArgs : GroupQueryAttentionArgs {
  // Where the queries go, [batch, tokens, heads, head_size]; null: they are used as they are.
  void* prepared_query = nullptr;
  bool from_start = false;
  std::int32_t* arrived = nullptr;  // CoreArgs::arrived, set to 0; null: none
  int arrived_count = 0;
};
// Whether LaunchPrepare leaves what is in the present buffers already, but for new tokens.
bool KeepsPast(const PrepareArgs& args);
Status LaunchPrepare(const PrepareArgs& args, Stream stream);

// GroupQueryAttention of one token a sequence as a whole, by clusters of 1 << shift thread blocks.
// kHead: the head size. Compute capability 9.0 or later; `args` without a bias, KeepsPast(prepare),
// and if it rotates, whole heads, halves apart.
template <typename T, int kHead>
Status LaunchDecode(const CoreArgs& args, const PrepareArgs& prepare, int shift, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_KERNELS_H_
