// What the SIMD headers share, and what each of them must define.
//
// scalar.h, avx2.h, avx512.h and neon.h each define, in a namespace of their own, the same types of
// sixteen 32-bit lanes: F32x16, I32x16, Mask16 and DotSum. An op writes its body once, in a header
// whose code sits in namespace batch_invariant::cpu::BI_SIMD; one small .cc for each instruction
// set includes that set's SIMD header, then the body. Every operation below gives the same bits on
// all of them.
//
// Rules of a body, so that the linker can never pick up another set's instructions:
//   - no standard library templates or inline functions; memory and sizes come as plain arguments;
//   - every function is BI_INLINE, a template, or static, inside namespace BI_SIMD.
//
//   Fma(a, b, c)      a * b + c, rounded once
//   Max(a, b)         a > b ? a : b, so b when either is NaN or both are zeros; Min alike with <
//   RoundNearestEven  to an integer, ties to even
//   ToI32(x)          ties to even; |x| < 2^31 - 128, otherwise unspecified
//   ToF32(i)          ties to even
//   IsNegative(x)     whether the sign bit is set, of -0 and NaN too
//   Canonical(x)      x, or the quiet NaN 0x7fc00000 where x is NaN. Which NaN an operation gives
//                     depends on the processor, so outputs that may be NaN are stored through this
//   ReduceAdd(x)      lanes j and j + 8, then j + 4, + 2, + 1: the tail of the norm.f32 tree
//   LoadPartial       lanes from `count` on are 0 and not read; StorePartial does not write them
//   LoadF16, LoadBf16 exact; StoreF16 and StoreBf16 round to nearest, ties to even
//   Transpose(rows)   sixteen vectors as a 16 by 16 matrix
//   StoreTransposed(rows, count, out)
//                     lane i of row r to out[i * count + r] for r < count <= kTransposedRows; i
//                     ascends, and each step writes kTransposedRows floats
//
// Exact integer dot products, bytes taken four at a time from each 32-bit lane:
//   DotAddU4(sum, u, s)  sum += u[4i..] . s[4i..] for u of 0..15 and s of -127..127; at most
//                        kDotU4Steps additions before DotTotal
//   DotAddU8(sum, u, s)  I32x16: sum += (u[4i..] - kDotU8Offset) . s[4i..] for u of 0..255 and s of
//                        -127..127. The caller adds kDotU8Offset * sum(s)
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_SIMD_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_SIMD_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define BI_INLINE __forceinline
#define BI_NOINLINE __declspec(noinline)
#define BI_INLINE_LAMBDA [[msvc::forceinline]]
#define BI_RESTRICT __restrict
#define BI_UNROLL
#else
#define BI_INLINE inline __attribute__((always_inline))
#define BI_NOINLINE __attribute__((noinline))
#define BI_INLINE_LAMBDA __attribute__((always_inline))  // behind the parameters
#define BI_RESTRICT __restrict__
#define BI_UNROLL _Pragma("GCC unroll 16")
#endif

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_SIMD_H_
