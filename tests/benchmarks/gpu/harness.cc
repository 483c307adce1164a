// C entry points over the CUDA kernels for the benchmark scripts: one process times a peer and us on
// the same buffers, alternately.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/gemm/gemm_kernels.h"

namespace {

using namespace batch_invariant::cuda;  // NOLINT: a benchmark program's single file

int Report(const batch_invariant::Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message.c_str());
  return status.ok() ? 0 : 1;
}

GemmArgs Args(int type, std::int64_t m, std::int64_t n, std::int64_t k, const void* a,
              const void* b, int b_k_contiguous, void* y) {
  GemmArgs g;
  g.type = static_cast<ElementType>(type);
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = {a, k, 1};
  g.b = b_k_contiguous ? MatrixView{b, 1, k} : MatrixView{b, n, 1};
  g.y = y;
  g.y_row_stride = n;
  return g;
}

}  // namespace

#define BI_EXPORT extern "C" __attribute__((visibility("default")))

BI_EXPORT int bi_gemm_kernels() { return static_cast<int>(GemmKernels().size()); }
BI_EXPORT const char* bi_gemm_name(int kernel) { return GemmKernels()[kernel].name; }
BI_EXPORT int bi_gemm_rows(int kernel) { return GemmKernels()[kernel].m; }

BI_EXPORT int bi_gemm_serves(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                             const void* a, const void* b, int b_k_contiguous, void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return 0;
  return Serves(GemmKernels()[kernel], Args(type, m, n, k, a, b, b_k_contiguous, y), device);
}

// The kernel that Gemm would launch.
BI_EXPORT int bi_gemm_choice(int type, std::int64_t m, std::int64_t n, std::int64_t k,
                             const void* a, const void* b, int b_k_contiguous, void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return -1;
  return static_cast<int>(
      &ChooseGemmKernel(Args(type, m, n, k, a, b, b_k_contiguous, y), device) -
      GemmKernels().data());
}

// kernel -1: the library's choice.
BI_EXPORT int bi_gemm(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                      const void* a, const void* b, int b_k_contiguous, void* y, void* stream) {
  const GemmArgs g = Args(type, m, n, k, a, b, b_k_contiguous, y);
  const auto s = static_cast<Stream>(stream);
  if (kernel < 0) return Report(Gemm(g, s));
  DeviceInfo device;
  if (int failed = Report(CurrentDevice(&device))) return failed;
  return Report(GemmKernels()[kernel].launch(g, device, s));
}
