// Plain C++: sixteen lanes are an array. The definition that the other SIMD headers are tested
// against; see simd.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_SCALAR_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_SCALAR_H_

#include <math.h>

#include "batch_invariant/cpu/context.h"
#include "kernels/cpu/simd/simd.h"

#define BI_SIMD scalar

namespace batch_invariant::cpu::scalar {

inline constexpr InstructionSet kInstructionSet = InstructionSet::kScalar;
inline constexpr int kVectorRegisters = 4;  // of sixteen lanes
inline constexpr int kTransposedRows = 16;

struct F32x16 {
  float v[16];
};
struct I32x16 {
  int32_t v[16];
};
struct Mask16 {
  bool v[16];
};
struct DotSum {
  I32x16 v;
};

BI_INLINE int32_t Bits(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
BI_INLINE float Float(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

template <typename Vector, typename Function>
BI_INLINE Vector Lanes(Function function) {
  Vector result;
  for (int i = 0; i < 16; ++i) result.v[i] = function(i);
  return result;
}

// Masks.
BI_INLINE Mask16 FirstLanes(int count) {
  return Lanes<Mask16>([&](int i) { return i < count; });
}
BI_INLINE Mask16 And(const Mask16& a, const Mask16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] && b.v[i]; });
}
BI_INLINE Mask16 Or(const Mask16& a, const Mask16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] || b.v[i]; });
}
BI_INLINE bool All(const Mask16& a) {
  bool all = true;
  for (int i = 0; i < 16; ++i) all = all && a.v[i];
  return all;
}
BI_INLINE bool Any(const Mask16& a) {
  bool any = false;
  for (int i = 0; i < 16; ++i) any = any || a.v[i];
  return any;
}

// Floating point: memory.
BI_INLINE F32x16 Splat(float x) {
  return Lanes<F32x16>([&](int) { return x; });
}
BI_INLINE F32x16 ZeroF32() { return Splat(0.0f); }
BI_INLINE F32x16 Load(const float* p) {
  return Lanes<F32x16>([&](int i) { return p[i]; });
}
BI_INLINE F32x16 LoadPartial(const float* p, int count) {
  return Lanes<F32x16>([&](int i) { return i < count ? p[i] : 0.0f; });
}
BI_INLINE void Store(float* p, const F32x16& x) {
  for (int i = 0; i < 16; ++i) p[i] = x.v[i];
}
BI_INLINE void StorePartial(float* p, const F32x16& x, int count) {
  for (int i = 0; i < 16 && i < count; ++i) p[i] = x.v[i];
}

// Floating point: arithmetic. fmaf, sqrtf and rintf are exact or correctly rounded by definition.
BI_INLINE F32x16 Add(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] + b.v[i]; });
}
BI_INLINE F32x16 Sub(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] - b.v[i]; });
}
BI_INLINE F32x16 Mul(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] * b.v[i]; });
}
BI_INLINE F32x16 Div(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] / b.v[i]; });
}
BI_INLINE F32x16 Fma(const F32x16& a, const F32x16& b, const F32x16& c) {
  return Lanes<F32x16>([&](int i) { return ::fmaf(a.v[i], b.v[i], c.v[i]); });
}
BI_INLINE F32x16 Max(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
BI_INLINE F32x16 Min(const F32x16& a, const F32x16& b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
BI_INLINE F32x16 Sqrt(const F32x16& a) {
  return Lanes<F32x16>([&](int i) { return ::sqrtf(a.v[i]); });
}
BI_INLINE F32x16 RoundNearestEven(const F32x16& a) {
  return Lanes<F32x16>([&](int i) { return ::rintf(a.v[i]); });
}
BI_INLINE Mask16 Less(const F32x16& a, const F32x16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] < b.v[i]; });
}
BI_INLINE Mask16 LessEqual(const F32x16& a, const F32x16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] <= b.v[i]; });
}
BI_INLINE Mask16 Equal(const F32x16& a, const F32x16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] == b.v[i]; });
}
BI_INLINE Mask16 IsNan(const F32x16& a) {
  return Lanes<Mask16>([&](int i) { return a.v[i] != a.v[i]; });
}
BI_INLINE Mask16 IsNegative(const F32x16& a) {
  return Lanes<Mask16>([&](int i) { return __builtin_signbit(a.v[i]) != 0; });
}
BI_INLINE F32x16 Select(const Mask16& mask, const F32x16& yes, const F32x16& no) {
  return Lanes<F32x16>([&](int i) { return mask.v[i] ? yes.v[i] : no.v[i]; });
}

// Integers. Sums and products wrap, so they are taken unsigned.
BI_INLINE I32x16 Splat(int32_t x) {
  return Lanes<I32x16>([&](int) { return x; });
}
BI_INLINE I32x16 ZeroI32() { return Splat(int32_t{0}); }
BI_INLINE I32x16 LoadI32(const void* p) {
  I32x16 result;
  memcpy(result.v, p, sizeof(result.v));
  return result;
}
BI_INLINE void Store(int32_t* p, const I32x16& x) { memcpy(p, x.v, sizeof(x.v)); }
BI_INLINE I32x16 LoadU8(const uint8_t* p) {
  return Lanes<I32x16>([&](int i) { return int32_t{p[i]}; });
}
BI_INLINE I32x16 Add(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i]));
  });
}
BI_INLINE I32x16 Sub(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i]));
  });
}
BI_INLINE I32x16 Mul(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) * static_cast<uint32_t>(b.v[i]));
  });
}
BI_INLINE I32x16 And(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] & b.v[i]; });
}
BI_INLINE I32x16 Or(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] | b.v[i]; });
}
BI_INLINE I32x16 Xor(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] ^ b.v[i]; });
}
BI_INLINE I32x16 Max(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
BI_INLINE I32x16 Min(const I32x16& a, const I32x16& b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
template <int kBits>
BI_INLINE I32x16 ShiftLeft(const I32x16& a) {
  return Lanes<I32x16>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << kBits); });
}
template <int kBits>
BI_INLINE I32x16 ShiftRight(const I32x16& a) {  // zeros enter
  return Lanes<I32x16>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> kBits); });
}
template <int kBits>
BI_INLINE I32x16 ShiftRightSigned(const I32x16& a) {
  return Lanes<I32x16>([&](int i) { return a.v[i] >> kBits; });
}
BI_INLINE Mask16 Greater(const I32x16& a, const I32x16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] > b.v[i]; });
}
BI_INLINE Mask16 Equal(const I32x16& a, const I32x16& b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] == b.v[i]; });
}

// Conversions.
BI_INLINE I32x16 BitsOf(const F32x16& a) {
  return Lanes<I32x16>([&](int i) { return Bits(a.v[i]); });
}
BI_INLINE F32x16 FromBits(const I32x16& a) {
  return Lanes<F32x16>([&](int i) { return Float(a.v[i]); });
}
BI_INLINE I32x16 Select(const Mask16& mask, const I32x16& yes, const I32x16& no) {
  return Lanes<I32x16>([&](int i) { return mask.v[i] ? yes.v[i] : no.v[i]; });
}
BI_INLINE I32x16 ToI32(const F32x16& a) {
  return Lanes<I32x16>([&](int i) {
    const bool fits = a.v[i] > -2147483648.0f && a.v[i] < 2147483648.0f;
    return fits ? static_cast<int32_t>(::rintf(a.v[i])) : INT32_MIN;
  });
}
BI_INLINE F32x16 ToF32(const I32x16& a) {
  return Lanes<F32x16>([&](int i) { return static_cast<float>(a.v[i]); });
}

BI_INLINE float HalfToFloat(uint16_t half) {
  const int32_t sign = static_cast<int32_t>(uint32_t{half} << 16) & INT32_MIN;
  const int32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) {
    const int32_t quiet = magnitude > 0x7c00 ? 0x400000 : 0;
    return Float(sign | 0x7f800000 | ((magnitude & 0x3ff) << 13) | quiet);
  }
  if (magnitude < 0x400) {  // zero or subnormal: magnitude * 2^-24
    return Float(sign | Bits(static_cast<float>(magnitude) * 0x1p-24f));
  }
  return Float(sign | ((magnitude << 13) + (112 << 23)));
}
BI_INLINE uint16_t FloatToHalf(float x) {
  const int32_t sign = (Bits(x) >> 16) & 0x8000;
  const int32_t magnitude = Bits(x) & 0x7fffffff;
  int32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  } else if (magnitude >= 0x47800000) {
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {
    // Adding 0.5, whose last place is 2^-24, rounds to a multiple of the smallest subnormal half.
    half = Bits(Float(magnitude) + 0.5f) - Bits(0.5f);
  } else {
    half = (magnitude - (112 << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}
BI_INLINE F32x16 LoadF16(const uint16_t* p) {
  return Lanes<F32x16>([&](int i) { return HalfToFloat(p[i]); });
}
BI_INLINE void StoreF16(uint16_t* p, const F32x16& x) {
  for (int i = 0; i < 16; ++i) p[i] = FloatToHalf(x.v[i]);
}
BI_INLINE I32x16 LoadU16(const uint16_t* p) {
  return Lanes<I32x16>([&](int i) { return int32_t{p[i]}; });
}
BI_INLINE void StoreU16(uint16_t* p, const I32x16& x) {  // lanes of 0..65535
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint16_t>(x.v[i]);
}
BI_INLINE void StoreI8(int8_t* p, const I32x16& x) {  // lanes of -128..127
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(x.v[i]);
}

// Reductions and rearrangement.
BI_INLINE float ReduceAdd(const F32x16& a) {
  F32x16 p = a;
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) p.v[i] += p.v[i + half];
  }
  return p.v[0];
}
BI_INLINE int32_t ReduceAdd(const I32x16& a) {
  uint32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += static_cast<uint32_t>(a.v[i]);
  return static_cast<int32_t>(sum);
}
BI_INLINE int32_t ReduceMax(const I32x16& a) {
  int32_t largest = a.v[0];
  for (int i = 1; i < 16; ++i) largest = a.v[i] > largest ? a.v[i] : largest;
  return largest;
}
BI_INLINE void Transpose(F32x16 (&rows)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = x;
    }
  }
}

BI_INLINE void StoreTransposed(const F32x16 (&rows)[kTransposedRows], int count, float* out) {
  for (int i = 0; i < 16; ++i) {
    for (int r = 0; r < kTransposedRows; ++r) out[i * count + r] = rows[r].v[i];
  }
}

BI_INLINE void Prefetch(const void*) {}

// Integer dot products.
inline constexpr int kDotU4Steps = 1 << 16;
inline constexpr int kDotU8Offset = 0;
BI_INLINE I32x16 DotAddU8(const I32x16& sum, const I32x16& u, const I32x16& s) {
  return Lanes<I32x16>([&](int i) {
    int32_t total = sum.v[i];
    for (int byte = 0; byte < 4; ++byte) {
      const int32_t x = (u.v[i] >> (8 * byte)) & 0xff;
      total += x * static_cast<int8_t>((s.v[i] >> (8 * byte)) & 0xff);
    }
    return total;
  });
}
BI_INLINE DotSum DotZero() { return {ZeroI32()}; }
BI_INLINE DotSum DotAddU4(const DotSum& sum, const I32x16& u, const I32x16& s) {
  return {DotAddU8(sum.v, u, s)};
}
BI_INLINE I32x16 DotTotal(const DotSum& sum) { return sum.v; }

}  // namespace batch_invariant::cpu::scalar

#include "kernels/cpu/simd/common.h"

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_SCALAR_H_
