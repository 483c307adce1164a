// AVX2 + FMA + F16C: sixteen lanes are two 256-bit registers. See simd.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX2_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX2_H_

#include <immintrin.h>

#include "batch_invariant/cpu/context.h"
#include "kernels/cpu/simd/simd.h"

#define BI_SIMD avx2

namespace batch_invariant::cpu::avx2 {

inline constexpr InstructionSet kInstructionSet = InstructionSet::kAvx2;
inline constexpr int kVectorRegisters = 8;  // of sixteen lanes
inline constexpr int kTransposedRows = 8;

struct F32x16 {
  __m256 lo, hi;
};
struct I32x16 {
  __m256i lo, hi;
};
struct Mask16 {  // lanes of all ones or all zeros
  __m256 lo, hi;
};
struct DotSum {  // sixteen pairs of 16-bit sums
  __m256i lo, hi;
};

// Masks.
BI_INLINE Mask16 FirstLanes(int count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), lanes))};
}
BI_INLINE Mask16 And(Mask16 a, Mask16 b) {
  return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)};
}
BI_INLINE Mask16 Or(Mask16 a, Mask16 b) {
  return {_mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)};
}
BI_INLINE bool All(Mask16 a) { return _mm256_movemask_ps(_mm256_and_ps(a.lo, a.hi)) == 0xff; }
BI_INLINE bool Any(Mask16 a) { return _mm256_movemask_ps(_mm256_or_ps(a.lo, a.hi)) != 0; }

// Floating point: memory.
BI_INLINE F32x16 Splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
BI_INLINE F32x16 ZeroF32() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
BI_INLINE F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
BI_INLINE F32x16 LoadPartial(const float* p, int count) {
  const Mask16 mask = FirstLanes(count);
  return {
      _mm256_maskload_ps(p, _mm256_castps_si256(mask.lo)),
      count > 8 ? _mm256_maskload_ps(p + 8, _mm256_castps_si256(mask.hi)) : _mm256_setzero_ps()};
}
BI_INLINE void Store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
BI_INLINE void StorePartial(float* p, F32x16 x, int count) {
  const Mask16 mask = FirstLanes(count);
  _mm256_maskstore_ps(p, _mm256_castps_si256(mask.lo), x.lo);
  if (count > 8) _mm256_maskstore_ps(p + 8, _mm256_castps_si256(mask.hi), x.hi);
}

// Floating point: arithmetic.
BI_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
BI_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
BI_INLINE F32x16 Sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
BI_INLINE F32x16 RoundNearestEven(F32x16 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
BI_INLINE Mask16 Less(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
BI_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)};
}
BI_INLINE Mask16 Equal(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
BI_INLINE Mask16 IsNan(F32x16 a) {
  return {_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)};
}
// A mask is what stands in the sign bits, so that this costs nothing.
BI_INLINE Mask16 IsNegative(F32x16 a) { return {a.lo, a.hi}; }
BI_INLINE F32x16 Select(Mask16 mask, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, mask.lo), _mm256_blendv_ps(no.hi, yes.hi, mask.hi)};
}

// Integers.
BI_INLINE I32x16 Splat(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
BI_INLINE I32x16 ZeroI32() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
BI_INLINE I32x16 LoadI32(const void* p) {
  const __m256i* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
BI_INLINE void Store(int32_t* p, I32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + 1, x.hi);
}
BI_INLINE I32x16 LoadU8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
BI_INLINE I32x16 Add(I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
BI_INLINE I32x16 Sub(I32x16 a, I32x16 b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
BI_INLINE I32x16 Mul(I32x16 a, I32x16 b) {
  return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
BI_INLINE I32x16 And(I32x16 a, I32x16 b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
BI_INLINE I32x16 Or(I32x16 a, I32x16 b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
BI_INLINE I32x16 Xor(I32x16 a, I32x16 b) {
  return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
BI_INLINE I32x16 Max(I32x16 a, I32x16 b) {
  return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}
BI_INLINE I32x16 Min(I32x16 a, I32x16 b) {
  return {_mm256_min_epi32(a.lo, b.lo), _mm256_min_epi32(a.hi, b.hi)};
}
template <int kBits>
BI_INLINE I32x16 ShiftLeft(I32x16 a) {
  return {_mm256_slli_epi32(a.lo, kBits), _mm256_slli_epi32(a.hi, kBits)};
}
template <int kBits>
BI_INLINE I32x16 ShiftRight(I32x16 a) {  // zeros enter
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
template <int kBits>
BI_INLINE I32x16 ShiftRightSigned(I32x16 a) {
  return {_mm256_srai_epi32(a.lo, kBits), _mm256_srai_epi32(a.hi, kBits)};
}
BI_INLINE Mask16 Greater(I32x16 a, I32x16 b) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.lo, b.lo)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.hi, b.hi))};
}
BI_INLINE Mask16 Equal(I32x16 a, I32x16 b) {
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.lo, b.lo)),
          _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.hi, b.hi))};
}

// Conversions.
BI_INLINE I32x16 BitsOf(F32x16 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
BI_INLINE F32x16 FromBits(I32x16 a) {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
BI_INLINE I32x16 Select(Mask16 mask, I32x16 yes, I32x16 no) {
  return BitsOf(Select(mask, FromBits(yes), FromBits(no)));
}
BI_INLINE I32x16 ToI32(F32x16 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
BI_INLINE F32x16 ToF32(I32x16 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
BI_INLINE F32x16 LoadF16(const uint16_t* p) {
  const __m128i* v = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))};
}
BI_INLINE void StoreF16(uint16_t* p, F32x16 x) {
  __m128i* v = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(v, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(v + 1, _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
BI_INLINE I32x16 LoadU16(const uint16_t* p) {
  const __m128i* v = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(v)), _mm256_cvtepu16_epi32(_mm_loadu_si128(v + 1))};
}
BI_INLINE void StoreU16(uint16_t* p, I32x16 x) {  // lanes of 0..65535
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(x.lo, x.hi), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
}
BI_INLINE void StoreI8(int8_t* p, I32x16 x) {  // lanes of -128..127
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.lo, x.hi), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

// Reductions and rearrangement.
BI_INLINE float ReduceAdd(F32x16 a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
BI_INLINE int32_t ReduceAdd(I32x16 a) {
  const __m256i eight = _mm256_add_epi32(a.lo, a.hi);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
BI_INLINE int32_t ReduceMax(I32x16 a) {
  const __m256i eight = _mm256_max_epi32(a.lo, a.hi);
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// 8 by 8, in place.
BI_INLINE void Transpose8(__m256 (&r)[8]) {
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}
BI_INLINE void Transpose(F32x16 (&rows)[16]) {
  __m256 quarter[4][8];  // top left, top right, bottom left, bottom right
  for (int i = 0; i < 8; ++i) {
    quarter[0][i] = rows[i].lo;
    quarter[1][i] = rows[i].hi;
    quarter[2][i] = rows[i + 8].lo;
    quarter[3][i] = rows[i + 8].hi;
  }
  for (int q = 0; q < 4; ++q) Transpose8(quarter[q]);
  for (int i = 0; i < 8; ++i) {
    rows[i] = {quarter[0][i], quarter[2][i]};
    rows[i + 8] = {quarter[1][i], quarter[3][i]};
  }
}

BI_INLINE void StoreTransposed(const F32x16 (&rows)[kTransposedRows], int count, float* out) {
  __m256 half[2][8];
  for (int i = 0; i < 8; ++i) {
    half[0][i] = rows[i].lo;
    half[1][i] = rows[i].hi;
  }
  for (int h = 0; h < 2; ++h) {
    Transpose8(half[h]);
    for (int i = 0; i < 8; ++i) _mm256_storeu_ps(out + (8 * h + i) * count, half[h][i]);
  }
}

BI_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// Integer dot products. Pairs of products fit 16 bits: 2 * 15 * 127 * kDotU4Steps < 2^15.
inline constexpr int kDotU4Steps = 8;
BI_INLINE DotSum DotZero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
BI_INLINE DotSum DotAddU4(DotSum sum, I32x16 u, I32x16 s) {
  return {_mm256_add_epi16(sum.lo, _mm256_maddubs_epi16(u.lo, s.lo)),
          _mm256_add_epi16(sum.hi, _mm256_maddubs_epi16(u.hi, s.hi))};
}
BI_INLINE I32x16 DotTotal(DotSum sum) {
  const __m256i ones = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(sum.lo, ones), _mm256_madd_epi16(sum.hi, ones)};
}

// maddubs would saturate on 255 * 127 * 2, so u is taken as a signed byte, and its sign moved to s.
inline constexpr int kDotU8Offset = 128;
BI_INLINE __m256i DotBytes(__m256i u, __m256i s) {
  const __m256i w = _mm256_xor_si256(u, _mm256_set1_epi8(-128));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(s, w));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
BI_INLINE I32x16 DotAddU8(I32x16 sum, I32x16 u, I32x16 s) {
  return {_mm256_add_epi32(sum.lo, DotBytes(u.lo, s.lo)),
          _mm256_add_epi32(sum.hi, DotBytes(u.hi, s.hi))};
}

}  // namespace batch_invariant::cpu::avx2

#include "kernels/cpu/simd/common.h"

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_AVX2_H_
