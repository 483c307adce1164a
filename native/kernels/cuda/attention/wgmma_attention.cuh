// The two products of attention with wgmma: Q K^T, and P V with P in registers and V as it lies in
// a tile (tile.cuh), keys along its rows. kAdd false starts from +0, whatever d holds; the result
// is tied to the registers of d all the same, which keeps the compiler from taking new ones.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_ATTENTION_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_ATTENTION_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace batch_invariant::cuda {

// The accumulator: added to, or started from +0. kInPlace ties the result to the registers that the
// accumulator has (which it then occupies all the time), kFresh lets the compiler take others.
enum class WgmmaStart { kAdd, kInPlace, kFresh };

// Descriptor of 64 columns of a slab from a row that is a multiple of 8 on: the columns run along
// the 128-byte rows (N is the contiguous side), groups of 8 keys are 1024 bytes apart. The columns
// from the 64th on are those of the slab at `next`, which lies higher.
__device__ __forceinline__ std::uint64_t ValueDescriptor(std::uint32_t shared_address,
                                                         std::uint32_t next) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kKeyGroups = std::uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kKeyGroups | ((next - shared_address) >> 4) << 16 |
         ((shared_address & 0x3ffff) >> 4);
}

// s[64, 128] = or += q[64, 16] k[128, 16]^T, both by descriptor.
template <typename T, WgmmaStart kStart>
__device__ __forceinline__ void WgmmaScores(float (&s)[64], std::uint64_t q, std::uint64_t k);

// d[64, kN] = or += p[64, 16] v[16, kN], kN 64 or 72; p in the fragment layout of mma.sync, each
// warp its own 16 rows.
template <typename T, int kN, WgmmaStart kStart>
__device__ __forceinline__ void WgmmaValues(float (&d)[kN / 2], const std::uint32_t (&p)[4],
                                            std::uint64_t v);

#define BI_F4(O, d, i) O(d[i]), O(d[i + 1]), O(d[i + 2]), O(d[i + 3])
#define BI_F16(O, d, i) BI_F4(O, d, i), BI_F4(O, d, i + 4), BI_F4(O, d, i + 8), BI_F4(O, d, i + 12)
#define BI_F32(O, d) BI_F16(O, d, 0), BI_F16(O, d, 16)
#define BI_R32                                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BI_R64                                                                              \
  BI_R32                                                                                    \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define BI_WGMMA_ATTENTION(TYPE, PTX, START, SCALE, O)                                     \
  template <>                                                                              \
  __device__ __forceinline__ void WgmmaScores<TYPE, WgmmaStart::START>(                    \
      float(&s)[64], std::uint64_t q, std::uint64_t k) {                                   \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." PTX "." PTX " {" BI_R64    \
                 "}, %64, %65, " SCALE ", 1, 1, 0, 0;\n"                                   \
                 : BI_F32(O, s), BI_F16(O, s, 32), BI_F16(O, s, 48)                        \
                 : "l"(q), "l"(k));                                                        \
  }                                                                                        \
  template <>                                                                              \
  __device__ __forceinline__ void WgmmaValues<TYPE, 64, WgmmaStart::START>(                \
      float(&d)[32], const std::uint32_t(&p)[4], std::uint64_t v) {                        \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." PTX "." PTX " {" BI_R32     \
                 "}, {%32, %33, %34, %35}, %36, " SCALE ", 1, 1, 1;\n"                     \
                 : BI_F32(O, d)                                                            \
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));                    \
  }                                                                                        \
  template <>                                                                              \
  __device__ __forceinline__ void WgmmaValues<TYPE, 72, WgmmaStart::START>(                \
      float(&d)[36], const std::uint32_t(&p)[4], std::uint64_t v) {                        \
    asm volatile("wgmma.mma_async.sync.aligned.m64n72k16.f32." PTX "." PTX " {" BI_R32     \
                 ", %32, %33, %34, %35}, {%36, %37, %38, %39}, %40, " SCALE ", 1, 1, 1;\n" \
                 : BI_F32(O, d), BI_F4(O, d, 32)                                           \
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));                    \
  }

#define BI_WGMMA_ATTENTION_STARTS(TYPE, PTX)         \
  BI_WGMMA_ATTENTION(TYPE, PTX, kAdd, "1", "+f")     \
  BI_WGMMA_ATTENTION(TYPE, PTX, kInPlace, "0", "+f") \
  BI_WGMMA_ATTENTION(TYPE, PTX, kFresh, "0", "=f")
BI_WGMMA_ATTENTION_STARTS(__half, "f16")
BI_WGMMA_ATTENTION_STARTS(__nv_bfloat16, "bf16")

#undef BI_WGMMA_ATTENTION_STARTS
#undef BI_WGMMA_ATTENTION
#undef BI_R64
#undef BI_R32
#undef BI_F32
#undef BI_F16
#undef BI_F4

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WGMMA_ATTENTION_CUH_
