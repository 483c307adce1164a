// Operations that are the same sequence of simpler ones on every instruction set. Included at the
// end of each SIMD header; see simd.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_COMMON_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_COMMON_H_

namespace batch_invariant::cpu::BI_SIMD {

BI_INLINE F32x16 Abs(F32x16 a) { return FromBits(And(BitsOf(a), Splat(int32_t{0x7fffffff}))); }
BI_INLINE F32x16 Negate(F32x16 a) {
  return FromBits(Xor(BitsOf(a), Splat(static_cast<int32_t>(0x80000000u))));
}
BI_INLINE F32x16 NegativeAbs(F32x16 a) {
  return FromBits(Or(BitsOf(a), Splat(static_cast<int32_t>(0x80000000u))));
}
BI_INLINE F32x16 CopySign(F32x16 magnitude, F32x16 sign) {
  const I32x16 bit = Splat(static_cast<int32_t>(0x80000000u));
  return FromBits(Or(BitsOf(Abs(magnitude)), And(BitsOf(sign), bit)));
}
BI_INLINE F32x16 Canonical(F32x16 a) {
  return Select(IsNan(a), FromBits(Splat(int32_t{0x7fc00000})), a);
}

BI_INLINE F32x16 LoadBf16(const uint16_t* p) { return FromBits(ShiftLeft<16>(LoadU16(p))); }
BI_INLINE void StoreBf16(uint16_t* p, F32x16 x) {
  const I32x16 bits = BitsOf(x);
  const I32x16 odd = And(ShiftRight<16>(bits), Splat(int32_t{1}));
  const I32x16 rounded = ShiftRight<16>(Add(Add(bits, Splat(int32_t{0x7fff})), odd));
  const I32x16 quiet = Or(ShiftRight<16>(bits), Splat(int32_t{0x40}));
  StoreU16(p, Select(IsNan(x), quiet, rounded));
}

// Parts of a vector of 16-bit values, through memory.
BI_INLINE F32x16 LoadF16Partial(const uint16_t* p, int count) {
  uint16_t part[16] = {};
  for (int i = 0; i < count; ++i) part[i] = p[i];
  return LoadF16(part);
}
BI_INLINE F32x16 LoadBf16Partial(const uint16_t* p, int count) {
  uint16_t part[16] = {};
  for (int i = 0; i < count; ++i) part[i] = p[i];
  return LoadBf16(part);
}
BI_INLINE void StoreF16Partial(uint16_t* p, F32x16 x, int count) {
  uint16_t part[16];
  StoreF16(part, x);
  for (int i = 0; i < count; ++i) p[i] = part[i];
}
BI_INLINE void StoreBf16Partial(uint16_t* p, F32x16 x, int count) {
  uint16_t part[16];
  StoreBf16(part, x);
  for (int i = 0; i < count; ++i) p[i] = part[i];
}

// The largest lane; NaN if any lane is NaN. The order of comparison cannot be seen: of two zeros
// the positive one is larger here.
BI_INLINE float ReduceMax(F32x16 a) {
  // As integers, floats of one sign order like their magnitudes; flipping the magnitude of negative
  // ones orders all of them, positive NaN above everything.
  const I32x16 bits = BitsOf(Canonical(a));
  const I32x16 flip = ShiftRight<1>(ShiftRightSigned<31>(bits));
  int32_t largest = ReduceMax(Xor(bits, flip));
  largest ^= static_cast<int32_t>(static_cast<uint32_t>(largest >> 31) >> 1);
  float result;
  memcpy(&result, &largest, sizeof(result));
  return result;
}

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_COMMON_H_
