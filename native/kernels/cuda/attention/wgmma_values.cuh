// P V with wgmma: P from registers, V as it lies in a tile (tile.cuh), keys along its rows.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_VALUES_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_VALUES_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace batch_invariant::cuda {

// Descriptor of 64 columns of a slab from a row that is a multiple of 8 on: the columns run along
// the 128-byte rows (N is the contiguous side), groups of 8 keys are 1024 bytes apart.
__device__ __forceinline__ std::uint64_t ValueDescriptor(std::uint32_t shared_address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kKeyGroups = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kColumnGroups = std::uint64_t{1024 >> 4} << 16;  // one group only: unused
  return kSwizzle128 | kKeyGroups | kColumnGroups | ((shared_address & 0x3ffff) >> 4);
}

// d[64, 64] += p[64, 16] v[16, 64]; p in the fragment layout of mma.sync, each warp its own 16
// rows.
template <typename T>
__device__ __forceinline__ void WgmmaValues(float (&d)[32], const std::uint32_t (&p)[4],
                                            std::uint64_t v);

#define BI_VALUES_8(i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define BI_WGMMA_VALUES(TYPE, PTX)                                                               \
  template <>                                                                                    \
  __device__ __forceinline__ void WgmmaValues<TYPE>(float(&d)[32], const std::uint32_t(&p)[4],   \
                                                    std::uint64_t v) {                           \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." PTX "." PTX                       \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, " \
                 "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "  \
                 "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"                                      \
                 : BI_VALUES_8(0), BI_VALUES_8(8), BI_VALUES_8(16), BI_VALUES_8(24)              \
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));                          \
  }
BI_WGMMA_VALUES(__half, "f16")
BI_WGMMA_VALUES(__nv_bfloat16, "bf16")
#undef BI_WGMMA_VALUES
#undef BI_VALUES_8

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_VALUES_CUH_
