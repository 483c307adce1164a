// NEON on AArch64: sixteen lanes are four 128-bit registers. See simd.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_NEON_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_NEON_H_

#include <arm_neon.h>

#include "batch_invariant/cpu/context.h"
#include "kernels/cpu/simd/simd.h"

#define BI_SIMD neon

namespace batch_invariant::cpu::neon {

inline constexpr InstructionSet kInstructionSet = InstructionSet::kNeon;
inline constexpr int kVectorRegisters = 8;  // of sixteen lanes
inline constexpr int kTransposedRows = 8;

struct F32x16 {
  float32x4_t v[4];
};
struct I32x16 {
  int32x4_t v[4];
};
struct Mask16 {  // lanes of all ones or all zeros
  uint32x4_t v[4];
};

template <typename Vector, typename Function>
BI_INLINE Vector Quads(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

// Masks.
BI_INLINE Mask16 FirstLanes(int count) {
  const int32_t first[4] = {0, 1, 2, 3};
  const int32x4_t lanes = vld1q_s32(first);
  return Quads<Mask16>([&](int i) { return vcgtq_s32(vdupq_n_s32(count - 4 * i), lanes); });
}
BI_INLINE Mask16 And(Mask16 a, Mask16 b) {
  return Quads<Mask16>([&](int i) { return vandq_u32(a.v[i], b.v[i]); });
}
BI_INLINE Mask16 Or(Mask16 a, Mask16 b) {
  return Quads<Mask16>([&](int i) { return vorrq_u32(a.v[i], b.v[i]); });
}
BI_INLINE bool All(Mask16 a) {
  return vminvq_u32(vandq_u32(vandq_u32(a.v[0], a.v[1]), vandq_u32(a.v[2], a.v[3]))) != 0;
}
BI_INLINE bool Any(Mask16 a) {
  return vmaxvq_u32(vorrq_u32(vorrq_u32(a.v[0], a.v[1]), vorrq_u32(a.v[2], a.v[3]))) != 0;
}

// Floating point: memory.
BI_INLINE F32x16 Splat(float x) {
  return Quads<F32x16>([&](int) { return vdupq_n_f32(x); });
}
BI_INLINE F32x16 ZeroF32() { return Splat(0.0f); }
BI_INLINE F32x16 Load(const float* p) {
  return Quads<F32x16>([&](int i) { return vld1q_f32(p + 4 * i); });
}
BI_INLINE F32x16 LoadPartial(const float* p, int count) {
  float part[16] = {};
  for (int i = 0; i < 16 && i < count; ++i) part[i] = p[i];
  return Load(part);
}
BI_INLINE void Store(float* p, F32x16 x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
BI_INLINE void StorePartial(float* p, F32x16 x, int count) {
  float part[16];
  Store(part, x);
  for (int i = 0; i < 16 && i < count; ++i) p[i] = part[i];
}

// Floating point: arithmetic.
BI_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return Quads<F32x16>([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  return Quads<F32x16>([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
BI_INLINE F32x16 Sqrt(F32x16 a) {
  return Quads<F32x16>([&](int i) { return vsqrtq_f32(a.v[i]); });
}
BI_INLINE F32x16 RoundNearestEven(F32x16 a) {
  return Quads<F32x16>([&](int i) { return vrndnq_f32(a.v[i]); });
}
BI_INLINE Mask16 Less(F32x16 a, F32x16 b) {
  return Quads<Mask16>([&](int i) { return vcltq_f32(a.v[i], b.v[i]); });
}
BI_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  return Quads<Mask16>([&](int i) { return vcleq_f32(a.v[i], b.v[i]); });
}
BI_INLINE Mask16 Equal(F32x16 a, F32x16 b) {
  return Quads<Mask16>([&](int i) { return vceqq_f32(a.v[i], b.v[i]); });
}
BI_INLINE Mask16 IsNan(F32x16 a) {
  return Quads<Mask16>([&](int i) { return vmvnq_u32(vceqq_f32(a.v[i], a.v[i])); });
}
BI_INLINE Mask16 IsNegative(F32x16 a) {
  return Quads<Mask16>([&](int i) { return vcltzq_s32(vreinterpretq_s32_f32(a.v[i])); });
}
BI_INLINE F32x16 Select(Mask16 mask, F32x16 yes, F32x16 no) {
  return Quads<F32x16>([&](int i) { return vbslq_f32(mask.v[i], yes.v[i], no.v[i]); });
}

// Integers.
BI_INLINE I32x16 Splat(int32_t x) {
  return Quads<I32x16>([&](int) { return vdupq_n_s32(x); });
}
BI_INLINE I32x16 ZeroI32() { return Splat(int32_t{0}); }
BI_INLINE I32x16 LoadI32(const void* p) {
  const uint8_t* bytes = static_cast<const uint8_t*>(p);
  return Quads<I32x16>([&](int i) { return vreinterpretq_s32_u8(vld1q_u8(bytes + 16 * i)); });
}
BI_INLINE void Store(int32_t* p, I32x16 x) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.v[i]);
}
BI_INLINE I32x16 LoadU16(const uint16_t* p) {
  return Quads<I32x16>(
      [&](int i) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p + 4 * i))); });
}
BI_INLINE I32x16 LoadU8(const uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes));
  const uint16x8_t high = vmovl_u8(vget_high_u8(bytes));
  return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}
BI_INLINE I32x16 Add(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Sub(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vsubq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Mul(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vmulq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 And(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vandq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Or(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vorrq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Xor(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return veorq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Max(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vmaxq_s32(a.v[i], b.v[i]); });
}
BI_INLINE I32x16 Min(I32x16 a, I32x16 b) {
  return Quads<I32x16>([&](int i) { return vminq_s32(a.v[i], b.v[i]); });
}
// A shift by 0 has no immediate form, hence the variable shift: left by a positive count.
template <int kBits>
BI_INLINE I32x16 ShiftLeft(I32x16 a) {
  return Quads<I32x16>([&](int i) { return vshlq_s32(a.v[i], vdupq_n_s32(kBits)); });
}
template <int kBits>
BI_INLINE I32x16 ShiftRight(I32x16 a) {  // zeros enter
  return Quads<I32x16>([&](int i) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.v[i]), vdupq_n_s32(-kBits)));
  });
}
template <int kBits>
BI_INLINE I32x16 ShiftRightSigned(I32x16 a) {
  return Quads<I32x16>([&](int i) { return vshlq_s32(a.v[i], vdupq_n_s32(-kBits)); });
}
BI_INLINE Mask16 Greater(I32x16 a, I32x16 b) {
  return Quads<Mask16>([&](int i) { return vcgtq_s32(a.v[i], b.v[i]); });
}
BI_INLINE Mask16 Equal(I32x16 a, I32x16 b) {
  return Quads<Mask16>([&](int i) { return vceqq_s32(a.v[i], b.v[i]); });
}

// Conversions.
BI_INLINE I32x16 BitsOf(F32x16 a) {
  return Quads<I32x16>([&](int i) { return vreinterpretq_s32_f32(a.v[i]); });
}
BI_INLINE F32x16 FromBits(I32x16 a) {
  return Quads<F32x16>([&](int i) { return vreinterpretq_f32_s32(a.v[i]); });
}
BI_INLINE I32x16 Select(Mask16 mask, I32x16 yes, I32x16 no) {
  return Quads<I32x16>([&](int i) { return vbslq_s32(mask.v[i], yes.v[i], no.v[i]); });
}
BI_INLINE I32x16 ToI32(F32x16 a) {
  return Quads<I32x16>([&](int i) { return vcvtnq_s32_f32(a.v[i]); });
}
BI_INLINE F32x16 ToF32(I32x16 a) {
  return Quads<F32x16>([&](int i) { return vcvtq_f32_s32(a.v[i]); });
}
BI_INLINE F32x16 LoadF16(const uint16_t* p) {
  return Quads<F32x16>(
      [&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
BI_INLINE void StoreF16(uint16_t* p, F32x16 x) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}
BI_INLINE void StoreU16(uint16_t* p, I32x16 x) {  // lanes of 0..65535
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vmovn_u32(vreinterpretq_u32_s32(x.v[i])));
}
BI_INLINE void StoreI8(int8_t* p, I32x16 x) {  // lanes of -128..127
  const int16x8_t low = vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

// Reductions and rearrangement.
BI_INLINE float ReduceAdd(F32x16 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
BI_INLINE int32_t ReduceAdd(I32x16 a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}
BI_INLINE int32_t ReduceMax(I32x16 a) {
  return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.v[0], a.v[1]), vmaxq_s32(a.v[2], a.v[3])));
}
BI_INLINE void Transpose(F32x16 (&rows)[16]) {
  F32x16 result[16];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const float32x4x2_t even = vtrnq_f32(rows[4 * i].v[j], rows[4 * i + 1].v[j]);
      const float32x4x2_t odd = vtrnq_f32(rows[4 * i + 2].v[j], rows[4 * i + 3].v[j]);
      for (int half = 0; half < 2; ++half) {
        result[4 * j + half].v[i] =
            vcombine_f32(vget_low_f32(even.val[half]), vget_low_f32(odd.val[half]));
        result[4 * j + half + 2].v[i] =
            vcombine_f32(vget_high_f32(even.val[half]), vget_high_f32(odd.val[half]));
      }
    }
  }
  for (int i = 0; i < 16; ++i) rows[i] = result[i];
}

BI_INLINE void StoreTransposed(const F32x16 (&rows)[kTransposedRows], int count, float* out) {
  for (int j = 0; j < 4; ++j) {
    float32x4_t columns[2][4];
    for (int i = 0; i < 2; ++i) {
      const float32x4x2_t even = vtrnq_f32(rows[4 * i].v[j], rows[4 * i + 1].v[j]);
      const float32x4x2_t odd = vtrnq_f32(rows[4 * i + 2].v[j], rows[4 * i + 3].v[j]);
      for (int half = 0; half < 2; ++half) {
        columns[i][half] = vcombine_f32(vget_low_f32(even.val[half]), vget_low_f32(odd.val[half]));
        columns[i][half + 2] =
            vcombine_f32(vget_high_f32(even.val[half]), vget_high_f32(odd.val[half]));
      }
    }
    for (int i = 0; i < 4; ++i) {
      vst1q_f32(out + (4 * j + i) * count, columns[0][i]);
      vst1q_f32(out + (4 * j + i) * count + 4, columns[1][i]);
    }
  }
}

BI_INLINE void Prefetch(const void* p) {
#if defined(_MSC_VER) && !defined(__clang__)
  __prefetch(p);
#else
  __builtin_prefetch(p);
#endif
}

// Integer dot products.
inline constexpr int kDotU4Steps = 8;
inline constexpr int kDotU8Offset = 128;
#if defined(__ARM_FEATURE_DOTPROD)

struct DotSum {
  I32x16 v;
};
BI_INLINE int8x16_t Bytes(int32x4_t x) { return vreinterpretq_s8_s32(x); }
BI_INLINE DotSum DotZero() { return {ZeroI32()}; }
BI_INLINE DotSum DotAddU4(DotSum sum, I32x16 u, I32x16 s) {
  return {
      Quads<I32x16>([&](int i) { return vdotq_s32(sum.v.v[i], Bytes(u.v[i]), Bytes(s.v[i])); })};
}
BI_INLINE I32x16 DotTotal(DotSum sum) { return sum.v; }
BI_INLINE I32x16 DotAddU8(I32x16 sum, I32x16 u, I32x16 s) {
  const int8x16_t flip = vdupq_n_s8(-128);
  return Quads<I32x16>(
      [&](int i) { return vdotq_s32(sum.v[i], veorq_s8(Bytes(u.v[i]), flip), Bytes(s.v[i])); });
}

#else

struct DotSum {  // sixteen pairs of 16-bit sums: 2 * 15 * 127 * kDotU4Steps < 2^15
  int16x8_t v[4];
};
BI_INLINE int8x16_t Bytes(int32x4_t x) { return vreinterpretq_s8_s32(x); }
BI_INLINE int16x8_t DotPairs(int8x16_t a, int8x16_t b) {
  return vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)),
                    vmull_s8(vget_high_s8(a), vget_high_s8(b)));
}
BI_INLINE DotSum DotZero() {
  return Quads<DotSum>([&](int) { return vdupq_n_s16(0); });
}
BI_INLINE DotSum DotAddU4(DotSum sum, I32x16 u, I32x16 s) {
  return Quads<DotSum>(
      [&](int i) { return vaddq_s16(sum.v[i], DotPairs(Bytes(u.v[i]), Bytes(s.v[i]))); });
}
BI_INLINE I32x16 DotTotal(DotSum sum) {
  return Quads<I32x16>([&](int i) { return vpaddlq_s16(sum.v[i]); });
}
// -128 * 127 * 2 fits 16 bits.
BI_INLINE I32x16 DotAddU8(I32x16 sum, I32x16 u, I32x16 s) {
  const int8x16_t flip = vdupq_n_s8(-128);
  return Quads<I32x16>([&](int i) {
    return vpadalq_s16(sum.v[i], DotPairs(veorq_s8(Bytes(u.v[i]), flip), Bytes(s.v[i])));
  });
}

#endif

}  // namespace batch_invariant::cpu::neon

#include "kernels/cpu/simd/common.h"

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_NEON_H_
