// What the self-test compares. A test hands in a table with a kernel that adds in another order.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_PATHS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_PATHS_H_

#include <cstddef>
#include <span>

#include "batch_invariant/cuda/attention.h"
#include "batch_invariant/cuda/norm.h"
#include "batch_invariant/cuda/self_test.h"
#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/matmul_nbits/nbits_kernels.h"
#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

struct SelfTestPaths {
  std::span<const GemmKernel> gemm = GemmKernels();
  std::span<const NBitsKernel> nbits = NBitsKernels();
  std::span<const GroupedKernel> grouped = GroupedKernels();
  Status (*attention)(const AttentionArgs& args, void* workspace, std::size_t workspace_bytes,
                      Stream stream) = &Attention;
  Status (*group_query_attention)(const GroupQueryAttentionArgs& args, void* workspace,
                                  std::size_t workspace_bytes,
                                  Stream stream) = &GroupQueryAttention;
  Status (*norm)(const NormArgs& args, Stream stream) = &RmsNorm;
  // The comparison, counted from 0, of which one result is spoilt; -1: none.
  int spoilt = -1;
};

Status SelfTest(const SelfTestPaths& paths, Stream stream, SelfTestResult* result);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_PATHS_H_
