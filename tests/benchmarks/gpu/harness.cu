// C entry points over the CUDA kernels for the benchmark scripts: one process times a peer and us
// on the same buffers, alternately.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>

#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/matmul_nbits.h"
#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/matmul_nbits/nbits_kernels.h"

namespace {

using namespace batch_invariant::cuda;  // NOLINT: a benchmark program's single file

int Report(const batch_invariant::Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message.c_str());
  return status.ok() ? 0 : 1;
}

enum BLayout { kN = 0, kK = 1, kPacked = 2 };  // what is contiguous in b

GemmArgs Args(int type, std::int64_t m, std::int64_t n, std::int64_t k, const void* a,
              const void* b, int b_layout, void* y) {
  GemmArgs g;
  g.type = static_cast<ElementType>(type);
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = {a, k, 1};
  if (b_layout == kPacked) {
    g.packed_b = b;
  } else {
    g.b = b_layout == kK ? MatrixView{b, 1, k} : MatrixView{b, n, 1};
  }
  g.y = y;
  g.y_row_stride = n;
  return g;
}

MatMulNBitsPlan Plan(int type, std::int64_t n, std::int64_t k, int bits, int block_size,
                     int zeros) {
  MatMulNBitsPlan plan;
  Report(MakeMatMulNBitsPlan(static_cast<ElementType>(type), k, n, bits, block_size,
                             static_cast<ZeroPoints>(zeros), &plan));
  return plan;
}

MatMulNBitsArgs NBitsArgs(std::int64_t m, std::int64_t n, std::int64_t k, const void* a,
                          const void* packed, void* y) {
  MatMulNBitsArgs args;
  args.m = m;
  args.a = a;
  args.a_row_stride = k;
  args.packed = packed;
  args.y = y;
  args.y_row_stride = n;
  return args;
}

// Reads every byte once: what the memory system alone allows.
__global__ void ReadAll(const uint4* data, std::int64_t count, std::uint32_t* sink) {
  constexpr int kUnroll = 8;
  std::uint32_t x = 0;
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + (kUnroll - 1) * stride < count; i += kUnroll * stride) {
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = __ldcs(data + i + u * stride);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) x ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  for (; i < count; i += stride) x ^= data[i].x;
  if (x == 0x12345678u) *sink = x;
}

}  // namespace

#define BI_EXPORT extern "C" __attribute__((visibility("default")))

BI_EXPORT int bi_gemm_kernels() { return static_cast<int>(GemmKernels().size()); }
BI_EXPORT const char* bi_gemm_name(int kernel) { return GemmKernels()[kernel].name; }
BI_EXPORT int bi_gemm_rows(int kernel) { return GemmKernels()[kernel].m; }

BI_EXPORT int bi_gemm_serves(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                             const void* a, const void* b, int b_layout, void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return 0;
  return Serves(GemmKernels()[kernel], Args(type, m, n, k, a, b, b_layout, y), device);
}

// The kernel that Gemm would launch.
BI_EXPORT int bi_gemm_choice(int type, std::int64_t m, std::int64_t n, std::int64_t k,
                             const void* a, const void* b, int b_layout, void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return -1;
  return static_cast<int>(&ChooseGemmKernel(Args(type, m, n, k, a, b, b_layout, y), device) -
                          GemmKernels().data());
}

namespace {

int Launch(int kernel, const GemmArgs& g, Stream stream) {
  if (kernel < 0) return Report(g.silu_gated ? GatedGemm(g, nullptr, stream) : Gemm(g, stream));
  DeviceInfo device;
  if (int failed = Report(CurrentDevice(&device))) return failed;
  return Report(GemmKernels()[kernel].launch(g, device, stream));
}

}  // namespace

// kernel -1: the library's choice.
BI_EXPORT int bi_gemm(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                      const void* a, const void* b, int b_layout, void* y, void* stream) {
  return Launch(kernel, Args(type, m, n, k, a, b, b_layout, y), static_cast<Stream>(stream));
}

// The columns of b are a gate and an up matrix in turn, eight of each; y is [m, n / 2].
BI_EXPORT int bi_gated_gemm(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                            const void* a, const void* b, int b_layout, void* y, void* stream) {
  GemmArgs g = Args(type, m, n, k, a, b, b_layout, y);
  g.silu_gated = true;
  g.y_row_stride = n / 2;
  return Launch(kernel, g, static_cast<Stream>(stream));
}

BI_EXPORT std::int64_t bi_gemm_packed_bytes(int type, std::int64_t k, std::int64_t n) {
  return static_cast<std::int64_t>(PackedGemmWeightBytes(static_cast<ElementType>(type), k, n));
}

// w is [n, k].
BI_EXPORT int bi_gemm_pack(int type, std::int64_t k, std::int64_t n, const void* w, void* packed) {
  return Report(PackGemmWeights(static_cast<ElementType>(type), k, n, {w, 1, k}, packed, nullptr));
}

BI_EXPORT int bi_nbits_kernels() { return static_cast<int>(NBitsKernels().size()); }
BI_EXPORT const char* bi_nbits_name(int kernel) { return NBitsKernels()[kernel].name; }
BI_EXPORT int bi_nbits_rows(int kernel) { return NBitsKernels()[kernel].rows; }

BI_EXPORT std::int64_t bi_nbits_packed_bytes(int type, std::int64_t n, std::int64_t k, int bits,
                                             int block_size, int zeros) {
  return static_cast<std::int64_t>(
      PackedMatMulNBitsBytes(Plan(type, n, k, bits, block_size, zeros)));
}

BI_EXPORT int bi_nbits_pack(int type, std::int64_t n, std::int64_t k, int bits, int block_size,
                            int zeros, const void* b, const void* scales, const void* zero_points,
                            void* packed) {
  return Report(PackMatMulNBits(Plan(type, n, k, bits, block_size, zeros), b, scales, zero_points,
                                packed, nullptr));
}

BI_EXPORT int bi_nbits_serves(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                              int bits, int block_size, int zeros, const void* a,
                              const void* packed, void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return 0;
  return Serves(NBitsKernels()[kernel], Plan(type, n, k, bits, block_size, zeros),
                NBitsArgs(m, n, k, a, packed, y), device);
}

// Whether the kernel could compute it if the contract left the number of runs of K open.
BI_EXPORT int bi_nbits_free(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                            int bits, int block_size, int zeros, const void* a, const void* packed,
                            void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return 0;
  NBitsKernel free = NBitsKernels()[kernel];
  if (free.runs > 1 && (k < 2048 || k % 1024 != 0)) return 0;
  free.runs = 0;
  return Serves(free, Plan(type, n, k, bits, block_size, zeros), NBitsArgs(m, n, k, a, packed, y),
                device);
}

BI_EXPORT int bi_nbits_choice(int type, std::int64_t m, std::int64_t n, std::int64_t k, int bits,
                              int block_size, int zeros, const void* a, const void* packed,
                              void* y) {
  DeviceInfo device;
  if (!CurrentDevice(&device).ok()) return -1;
  return static_cast<int>(&ChooseNBitsKernel(Plan(type, n, k, bits, block_size, zeros),
                                             NBitsArgs(m, n, k, a, packed, y), device) -
                          NBitsKernels().data());
}

BI_EXPORT int bi_nbits(int kernel, int type, std::int64_t m, std::int64_t n, std::int64_t k,
                       int bits, int block_size, int zeros, const void* a, const void* packed,
                       void* y, void* stream) {
  const MatMulNBitsPlan plan = Plan(type, n, k, bits, block_size, zeros);
  const MatMulNBitsArgs args = NBitsArgs(m, n, k, a, packed, y);
  const auto s = static_cast<Stream>(stream);
  if (kernel < 0) return Report(MatMulNBits(plan, args, s));
  DeviceInfo device;
  if (int failed = Report(CurrentDevice(&device))) return failed;
  return Report(NBitsKernels()[kernel].launch(plan, args, device, s));
}

// The rows of the weights are a gate and an up matrix in turn, eight of each; y is [m, n / 2].
BI_EXPORT int bi_gated_nbits(int type, std::int64_t m, std::int64_t n, std::int64_t k, int bits,
                             int block_size, int zeros, const void* a, const void* packed, void* y,
                             void* stream) {
  MatMulNBitsPlan plan = Plan(type, n / 2, k, bits, block_size, zeros);
  MatMulNBitsArgs args = NBitsArgs(m, n / 2, k, a, packed, y);
  args.silu_gated = true;
  return Report(GatedMatMulNBits(GatedPlan(plan), args, nullptr, static_cast<Stream>(stream)));
}

BI_EXPORT int bi_read_all(const void* data, std::int64_t bytes, void* sink, void* stream) {
  ReadAll<<<132 * 8, 256, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const uint4*>(data), bytes / 16, static_cast<std::uint32_t*>(sink));
  return Report(LaunchStatus("ReadAll"));
}
