// The table of MatMulNBits kernels. Selection, tests and benchmarks all walk it; every kernel of an
// element type gives the same bytes.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_KERNELS_H_

#include <span>

#include "batch_invariant/cuda/matmul_nbits.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

struct NBitsKernel {
  const char* name;
  ElementType type;
  int stored_bits;    // 4 or 8; 0: any
  bool needs_sm90;    // compute capability 9.0, vector-aligned a, zero points that are integers
  int rows, columns;  // of y a block
  int runs;           // parts of K that it sums apart (MatMulNBitsPlan::runs); 0: any
  int warps;          // of a block, that multiply each by itself; 0: warpgroups do
  Status (*launch)(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                   const DeviceInfo& device, Stream stream);
};

std::span<const NBitsKernel> NBitsKernels();

bool Serves(const NBitsKernel& kernel, const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
            const DeviceInfo& device);

// The kernel that MatMulNBits launches.
const NBitsKernel& ChooseNBitsKernel(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                                     const DeviceInfo& device);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_KERNELS_H_
