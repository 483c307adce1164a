// The table of GEMM kernels. Selection, tests and benchmarks all walk it; every kernel of an
// element type gives the same bytes.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_KERNELS_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

// What a kernel asks of its operands.
enum class GemmNeeds {
  kAnything,      // any strides and alignment
  kKVectors,      // a and b with K contiguous, rows 16-byte aligned
  kNVectors,      // a with K contiguous, b with N contiguous, rows 16-byte aligned
  kKVectorsSm90,  // kKVectors, and compute capability 9.0 exactly (wgmma)
};

struct GemmKernel {
  const char* name;
  ElementType type;
  GemmNeeds needs;
  int m, n;                  // outputs a block
  int cluster_m, cluster_n;  // blocks that share operands
  Status (*launch)(const GemmArgs& args, const DeviceInfo& device, Stream stream);
  bool turns = false;  // a tile's stores hide behind the products of the block's next one
};

std::span<const GemmKernel> GemmKernels();

// Whether the kernel can compute `args` on this device.
bool Serves(const GemmKernel& kernel, const GemmArgs& args, const DeviceInfo& device);

// The kernel that Gemm launches.
const GemmKernel& ChooseGemmKernel(const GemmArgs& args, const DeviceInfo& device);

// The second half of a gated product whose kernel does not gate: products [rows, n] of a gate and an
// up matrix that alternate in groups of eight columns, y [rows, n / 2].
constexpr std::size_t AlternatingBytes(ElementType type, std::int64_t rows, std::int64_t n) {
  return static_cast<std::size_t>(rows * n) * ElementSize(type);
}
Status GateAlternating(ElementType type, std::int64_t rows, std::int64_t n, const void* products,
                       void* y, std::int64_t y_row_stride, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_KERNELS_H_
