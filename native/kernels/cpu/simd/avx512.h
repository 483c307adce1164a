// AVX-512 (F, VL, BW, DQ, VNNI): sixteen lanes are one 512-bit register. See simd.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX512_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX512_H_

#include <immintrin.h>

#include "batch_invariant/cpu/context.h"
#include "kernels/cpu/simd/simd.h"

#define BI_SIMD avx512

namespace batch_invariant::cpu::avx512 {

inline constexpr InstructionSet kInstructionSet = InstructionSet::kAvx512;
inline constexpr int kVectorRegisters = 32;  // of sixteen lanes
inline constexpr int kTransposedRows = 16;

struct F32x16 {
  __m512 v;
};
struct I32x16 {
  __m512i v;
};
struct Mask16 {
  __mmask16 v;
};
struct DotSum {
  __m512i v;
};

// Masks.
BI_INLINE Mask16 FirstLanes(int count) {
  return {static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << count) - 1u)};
}
BI_INLINE Mask16 And(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.v & b.v)}; }
BI_INLINE Mask16 Or(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.v | b.v)}; }
BI_INLINE bool All(Mask16 a) { return a.v == 0xffff; }
BI_INLINE bool Any(Mask16 a) { return a.v != 0; }

// Floating point: memory.
BI_INLINE F32x16 Splat(float x) { return {_mm512_set1_ps(x)}; }
BI_INLINE F32x16 ZeroF32() { return {_mm512_setzero_ps()}; }
BI_INLINE F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
BI_INLINE F32x16 LoadPartial(const float* p, int count) {
  return {_mm512_maskz_loadu_ps(FirstLanes(count).v, p)};
}
BI_INLINE void Store(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
BI_INLINE void StorePartial(float* p, F32x16 x, int count) {
  _mm512_mask_storeu_ps(p, FirstLanes(count).v, x.v);
}

// Floating point: arithmetic.
BI_INLINE F32x16 Add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
BI_INLINE F32x16 Sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
BI_INLINE F32x16 Mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
BI_INLINE F32x16 Div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
BI_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
BI_INLINE F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
BI_INLINE F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
BI_INLINE F32x16 Sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
BI_INLINE F32x16 RoundNearestEven(F32x16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
BI_INLINE Mask16 Less(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
BI_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)};
}
BI_INLINE Mask16 Equal(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
BI_INLINE Mask16 IsNan(F32x16 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
BI_INLINE Mask16 IsNegative(F32x16 a) { return {_mm512_movepi32_mask(_mm512_castps_si512(a.v))}; }
BI_INLINE F32x16 Select(Mask16 mask, F32x16 yes, F32x16 no) {
  return {_mm512_mask_blend_ps(mask.v, no.v, yes.v)};
}

// Integers.
BI_INLINE I32x16 Splat(int32_t x) { return {_mm512_set1_epi32(x)}; }
BI_INLINE I32x16 ZeroI32() { return {_mm512_setzero_si512()}; }
BI_INLINE I32x16 LoadI32(const void* p) { return {_mm512_loadu_si512(p)}; }
BI_INLINE void Store(int32_t* p, I32x16 x) { _mm512_storeu_si512(p, x.v); }
BI_INLINE I32x16 LoadU8(const uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
BI_INLINE I32x16 Add(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
BI_INLINE I32x16 Sub(I32x16 a, I32x16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
BI_INLINE I32x16 Mul(I32x16 a, I32x16 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
BI_INLINE I32x16 And(I32x16 a, I32x16 b) { return {_mm512_and_si512(a.v, b.v)}; }
BI_INLINE I32x16 Or(I32x16 a, I32x16 b) { return {_mm512_or_si512(a.v, b.v)}; }
BI_INLINE I32x16 Xor(I32x16 a, I32x16 b) { return {_mm512_xor_si512(a.v, b.v)}; }
BI_INLINE I32x16 Max(I32x16 a, I32x16 b) { return {_mm512_max_epi32(a.v, b.v)}; }
BI_INLINE I32x16 Min(I32x16 a, I32x16 b) { return {_mm512_min_epi32(a.v, b.v)}; }
template <int kBits>
BI_INLINE I32x16 ShiftLeft(I32x16 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
BI_INLINE I32x16 ShiftRight(I32x16 a) {  // zeros enter
  return {_mm512_srli_epi32(a.v, kBits)};
}
template <int kBits>
BI_INLINE I32x16 ShiftRightSigned(I32x16 a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}
BI_INLINE Mask16 Greater(I32x16 a, I32x16 b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
BI_INLINE Mask16 Equal(I32x16 a, I32x16 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }

// Conversions.
BI_INLINE I32x16 BitsOf(F32x16 a) { return {_mm512_castps_si512(a.v)}; }
BI_INLINE F32x16 FromBits(I32x16 a) { return {_mm512_castsi512_ps(a.v)}; }
BI_INLINE I32x16 Select(Mask16 mask, I32x16 yes, I32x16 no) {
  return {_mm512_mask_blend_epi32(mask.v, no.v, yes.v)};
}
BI_INLINE I32x16 ToI32(F32x16 a) { return {_mm512_cvtps_epi32(a.v)}; }
BI_INLINE F32x16 ToF32(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
BI_INLINE F32x16 LoadF16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
BI_INLINE void StoreF16(uint16_t* p, F32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
BI_INLINE I32x16 LoadU16(const uint16_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
BI_INLINE void StoreU16(uint16_t* p, I32x16 x) {  // lanes of 0..65535
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v));
}
BI_INLINE void StoreI8(int8_t* p, I32x16 x) {  // lanes of -128..127
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}

// Reductions and rearrangement.
BI_INLINE float ReduceAdd(F32x16 a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
BI_INLINE int32_t ReduceAdd(I32x16 a) {
  const __m256i eight =
      _mm256_add_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti32x8_epi32(a.v, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
BI_INLINE int32_t ReduceMax(I32x16 a) {
  const __m256i eight =
      _mm256_max_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti32x8_epi32(a.v, 1));
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
BI_INLINE void Transpose(F32x16 (&rows)[16]) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(rows[2 * i].v, rows[2 * i + 1].v);
    t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i].v, rows[2 * i + 1].v);
  }
  // u[4i + c] holds, in its quarter q, column 4q + c of rows 4i to 4i + 3.
  __m512 u[16];
  for (int i = 0; i < 4; ++i) {
    u[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512 top_even = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
    const __m512 top_odd = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
    const __m512 bottom_even = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const __m512 bottom_odd = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
    rows[c].v = _mm512_shuffle_f32x4(top_even, bottom_even, 0x88);
    rows[4 + c].v = _mm512_shuffle_f32x4(top_odd, bottom_odd, 0x88);
    rows[8 + c].v = _mm512_shuffle_f32x4(top_even, bottom_even, 0xdd);
    rows[12 + c].v = _mm512_shuffle_f32x4(top_odd, bottom_odd, 0xdd);
  }
}

BI_INLINE void StoreTransposed(const F32x16 (&rows)[kTransposedRows], int count, float* out) {
  F32x16 square[16];
  for (int i = 0; i < 16; ++i) square[i] = rows[i];
  Transpose(square);
  for (int i = 0; i < 16; ++i) Store(out + i * count, square[i]);
}

BI_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// Integer dot products.
inline constexpr int kDotU4Steps = 1 << 16;
BI_INLINE DotSum DotZero() { return {_mm512_setzero_si512()}; }
BI_INLINE DotSum DotAddU4(DotSum sum, I32x16 u, I32x16 s) {
  return {_mm512_dpbusd_epi32(sum.v, u.v, s.v)};
}
BI_INLINE I32x16 DotTotal(DotSum sum) { return {sum.v}; }

inline constexpr int kDotU8Offset = 0;
BI_INLINE I32x16 DotAddU8(I32x16 sum, I32x16 u, I32x16 s) {
  return {_mm512_dpbusd_epi32(sum.v, u.v, s.v)};
}

}  // namespace batch_invariant::cpu::avx512

#include "kernels/cpu/simd/common.h"

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX512_H_
