// wgmma (sm_90a): D[64, n] += A[64, 16] B[16, n] for one warpgroup, fp16 or bf16 operands, fp32 D.
//
// Warp w of the group holds rows 16w to 16w+15 of D; inside a warp the layout is that of mma.sync
// (mma.cuh): d[4j], d[4j+1] are row g, columns 8j+2t, 8j+2t+1, and d[4j+2], d[4j+3] row g + 8.
// Operands in shared memory are K-major in the 128-byte swizzle: rows of 64 elements, in groups of
// 8 rows (1024 bytes), the 16-byte chunk c of row r stored at chunk c ^ (r % 8).
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_WGMMA_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_WGMMA_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace batch_invariant::cuda {

// Descriptor of a 128-byte-swizzled K-major tile that starts at a 1024-byte aligned address.
__device__ __forceinline__ std::uint64_t SwizzledDescriptor(std::uint32_t shared_address) {
  constexpr std::uint64_t kGroupStride = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kLeadingUnused = std::uint64_t{1} << 16;
  return kSwizzle128 | kGroupStride | kLeadingUnused | ((shared_address & 0x3ffff) >> 4);
}
// The descriptor `bytes` further: 32 for the next 16 elements along K. Shared memory ends before
// the address overflows into the other fields, so the sum is one of 32 bits.
__device__ __forceinline__ std::uint64_t AdvanceDescriptor(std::uint64_t descriptor,
                                                           std::uint32_t bytes) {
  const std::uint32_t low = static_cast<std::uint32_t>(descriptor) + (bytes >> 4);
  return (descriptor & 0xffffffff00000000u) | low;
}

__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving accumulator registers across asynchronous multiplications.
template <int kCount>
__device__ __forceinline__ void PinRegisters(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// One step; the accumulator is always added to (callers start from +0).
//   Shared:   A and B by descriptor
//   Register: A in the fragment layout of mma.cuh, each warp its own 16 rows; B by descriptor
template <typename T, int kN>
struct Wgmma;

#define BI_F8(d, i)                                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define BI_F32(d, i) BI_F8(d, i), BI_F8(d, i + 8), BI_F8(d, i + 16), BI_F8(d, i + 24)

#define BI_R4 "%0, %1, %2, %3"
#define BI_R8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define BI_R16 \
  BI_R8        \
  ", "         \
  "%8, %9, %10, %11, %12, %13, %14, %15"
#define BI_R24 \
  BI_R16       \
  ", "         \
  "%16, %17, %18, %19, %20, %21, %22, %23"
#define BI_R32 \
  BI_R24       \
  ", "         \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define BI_R48                               \
  BI_R32                                     \
  ", "                                       \
  "%32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47"
#define BI_R64                               \
  BI_R48                                     \
  ", "                                       \
  "%48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define BI_R80                               \
  BI_R64                                     \
  ", "                                       \
  "%64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79"
#define BI_R96                               \
  BI_R64                                     \
  ", "                                       \
  "%64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, " \
  "%88, %89, %90, %91, %92, %93, %94, %95"
#define BI_R128                                      \
  BI_R96                                             \
  ", "                                               \
  "%96, %97, %98, %99, %100, %101, %102, %103, "     \
  "%104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, " \
  "%120, %121, %122, %123, %124, %125, %126, %127"

// d: accumulators of n / 2 registers; R: their list; o0..o4: the operand numbers that follow.
#define BI_WGMMA(TYPE, PTX, N, R, OUT, o0, o1, o2, o3, o4)                                        \
  template <>                                                                                     \
  struct Wgmma<TYPE, N> {                                                                         \
    static __device__ __forceinline__ void Shared(float (&d)[N / 2], std::uint64_t a,             \
                                                  std::uint64_t b) {                              \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." PTX "." PTX " {" R "}, " o0  \
                   ", " o1 ", 1, 1, 1, 0, 0;\n"                                                   \
                   : OUT                                                                          \
                   : "l"(a), "l"(b));                                                             \
    }                                                                                             \
    static __device__ __forceinline__ void Register(float (&d)[N / 2],                            \
                                                    const std::uint32_t (&a)[4],                  \
                                                    std::uint64_t b) {                            \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." PTX "." PTX " {" R "}, {" o0 \
                   ", " o1 ", " o2 ", " o3 "}, " o4 ", 1, 1, 1, 0;\n"                             \
                   : OUT                                                                          \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                         \
    }                                                                                             \
  };

#define BI_OUT4 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define BI_OUT8 BI_F8(d, 0)
#define BI_OUT16 BI_F8(d, 0), BI_F8(d, 8)
#define BI_OUT24 BI_F8(d, 0), BI_F8(d, 8), BI_F8(d, 16)
#define BI_OUT32 BI_F32(d, 0)
#define BI_OUT48 BI_F32(d, 0), BI_F8(d, 32), BI_F8(d, 40)
#define BI_OUT64 BI_F32(d, 0), BI_F32(d, 32)
#define BI_OUT80 BI_F32(d, 0), BI_F32(d, 32), BI_F8(d, 64), BI_F8(d, 72)
#define BI_OUT96 BI_F32(d, 0), BI_F32(d, 32), BI_F32(d, 64)
#define BI_OUT128 BI_F32(d, 0), BI_F32(d, 32), BI_F32(d, 64), BI_F32(d, 96)

BI_WGMMA(__half, "f16", 8, BI_R4, BI_OUT4, "%4", "%5", "%6", "%7", "%8")
BI_WGMMA(__nv_bfloat16, "bf16", 8, BI_R4, BI_OUT4, "%4", "%5", "%6", "%7", "%8")
BI_WGMMA(__half, "f16", 16, BI_R8, BI_OUT8, "%8", "%9", "%10", "%11", "%12")
BI_WGMMA(__nv_bfloat16, "bf16", 16, BI_R8, BI_OUT8, "%8", "%9", "%10", "%11", "%12")
BI_WGMMA(__half, "f16", 32, BI_R16, BI_OUT16, "%16", "%17", "%18", "%19", "%20")
BI_WGMMA(__nv_bfloat16, "bf16", 32, BI_R16, BI_OUT16, "%16", "%17", "%18", "%19", "%20")
BI_WGMMA(__half, "f16", 48, BI_R24, BI_OUT24, "%24", "%25", "%26", "%27", "%28")
BI_WGMMA(__nv_bfloat16, "bf16", 48, BI_R24, BI_OUT24, "%24", "%25", "%26", "%27", "%28")
BI_WGMMA(__half, "f16", 64, BI_R32, BI_OUT32, "%32", "%33", "%34", "%35", "%36")
BI_WGMMA(__nv_bfloat16, "bf16", 64, BI_R32, BI_OUT32, "%32", "%33", "%34", "%35", "%36")
BI_WGMMA(__half, "f16", 96, BI_R48, BI_OUT48, "%48", "%49", "%50", "%51", "%52")
BI_WGMMA(__nv_bfloat16, "bf16", 96, BI_R48, BI_OUT48, "%48", "%49", "%50", "%51", "%52")
BI_WGMMA(__half, "f16", 128, BI_R64, BI_OUT64, "%64", "%65", "%66", "%67", "%68")
BI_WGMMA(__nv_bfloat16, "bf16", 128, BI_R64, BI_OUT64, "%64", "%65", "%66", "%67", "%68")
BI_WGMMA(__half, "f16", 160, BI_R80, BI_OUT80, "%80", "%81", "%82", "%83", "%84")
BI_WGMMA(__nv_bfloat16, "bf16", 160, BI_R80, BI_OUT80, "%80", "%81", "%82", "%83", "%84")
BI_WGMMA(__half, "f16", 192, BI_R96, BI_OUT96, "%96", "%97", "%98", "%99", "%100")
BI_WGMMA(__nv_bfloat16, "bf16", 192, BI_R96, BI_OUT96, "%96", "%97", "%98", "%99", "%100")
BI_WGMMA(__half, "f16", 256, BI_R128, BI_OUT128, "%128", "%129", "%130", "%131", "%132")
BI_WGMMA(__nv_bfloat16, "bf16", 256, BI_R128, BI_OUT128, "%128", "%129", "%130", "%131", "%132")

#undef BI_WGMMA
#undef BI_OUT4
#undef BI_OUT8
#undef BI_OUT16
#undef BI_OUT24
#undef BI_OUT32
#undef BI_OUT48
#undef BI_OUT64
#undef BI_OUT80
#undef BI_OUT96
#undef BI_OUT128
#undef BI_R4
#undef BI_R8
#undef BI_R16
#undef BI_R24
#undef BI_R32
#undef BI_R48
#undef BI_R64
#undef BI_R80
#undef BI_R96
#undef BI_R128
#undef BI_F32
#undef BI_F8

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_WGMMA_CUH_
