// Included once by each probe_<set>.cc, after that set's SIMD header.
#include "cpu/simd/probe.h"
#include "kernels/cpu/simd/math.h"

namespace batch_invariant::cpu::BI_SIMD {

#define BI_UNARY(Function) +[](const float* x, float* y) { Store(y, Function(Load(x))); }
#define BI_BINARY(Function) \
  +[](const float* a, const float* b, float* y) { Store(y, Function(Load(a), Load(b))); }
#define BI_COMPARISON(Function)                                           \
  +[](const float* a, const float* b, float* y) {                         \
    Store(y, Select(Function(Load(a), Load(b)), Splat(1.0f), ZeroF32())); \
  }

static void Integers(const int32_t* pa, const int32_t* pb, int32_t* y) {
  const I32x16 a = LoadI32(pa), b = LoadI32(pb), one = Splat(int32_t{1}), zero = ZeroI32();
  Store(y, Add(a, b));
  Store(y + 16, Sub(a, b));
  Store(y + 32, Mul(a, b));
  Store(y + 48, Xor(And(a, b), Or(a, b)));
  Store(y + 64, Max(a, b));
  Store(y + 80, Min(a, b));
  Store(y + 96, ShiftLeft<5>(a));
  Store(y + 112, Add(ShiftRight<5>(a), ShiftRight<0>(b)));
  Store(y + 128, ShiftRightSigned<5>(a));
  Store(y + 144, Add(Select(Greater(a, b), one, zero), Select(Equal(a, b), a, zero)));
}

static int32_t DotLaneSum(const int8_t* s) {
  return int32_t{s[0]} + int32_t{s[1]} + int32_t{s[2]} + int32_t{s[3]};
}

static void DotU4(const uint8_t* u, const int8_t* s, int steps, int32_t* y) {
  I32x16 total = ZeroI32();
  for (int first = 0; first < steps; first += kDotU4Steps) {
    DotSum sum = DotZero();
    for (int i = first; i < steps && i - first < kDotU4Steps; ++i) {
      sum = DotAddU4(sum, LoadI32(u + 64 * i), LoadI32(s + 64 * i));
    }
    total = Add(total, DotTotal(sum));
  }
  Store(y, total);
}

static void DotU8(const uint8_t* u, const int8_t* s, int steps, int32_t* y) {
  I32x16 sum = ZeroI32();
  for (int i = 0; i < steps; ++i) {
    sum = DotAddU8(sum, LoadI32(u + 64 * i), LoadI32(s + 64 * i));
  }
  Store(y, sum);
  for (int i = 0; i < steps; ++i) {
    for (int lane = 0; lane < 16; ++lane) {
      y[lane] += kDotU8Offset * DotLaneSum(s + 64 * i + 4 * lane);
    }
  }
}

static void TransposeMatrix(const float* x, float* y) {
  F32x16 rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = Load(x + 16 * i);
  Transpose(rows);
  for (int i = 0; i < 16; ++i) Store(y + 16 * i, rows[i]);
}

extern const SimdProbe kSimdProbe;
const SimdProbe kSimdProbe = {
    kInstructionSet,
    BI_UNARY(Exp),
    BI_UNARY(Exp2),
    BI_UNARY(Sigmoid),
    BI_UNARY(Tanh),
    BI_UNARY(Erf),
    BI_UNARY(RoundNearestEven),
    BI_UNARY(Sqrt),
    BI_UNARY(Canonical),
    +[](const float* x, float* y) { Store(y, ToF32(ToI32(Load(x)))); },
    +[](const float* x, float* y) {
      Store(y, Select(IsNegative(Load(x)), Splat(1.0f), ZeroF32()));
    },
    BI_BINARY(Add),
    BI_BINARY(Sub),
    BI_BINARY(Mul),
    BI_BINARY(Div),
    BI_BINARY(Max),
    BI_BINARY(Min),
    BI_COMPARISON(Less),
    BI_COMPARISON(LessEqual),
    BI_COMPARISON(Equal),
    BI_BINARY(CopySign),
    +[](const float* a, const float* b, const float* c, float* y) {
      Store(y, Fma(Load(a), Load(b), Load(c)));
    },
    +[](const float* x) { return ReduceAdd(Load(x)); },
    +[](const float* x) { return ReduceMax(Load(x)); },
    TransposeMatrix,
    +[](const float* x, float* y, int count) { StorePartial(y, LoadPartial(x, count), count); },
    +[](const float* x, float* y, int count) { Store(y, LoadPartial(x, count)); },
    +[](const uint16_t* x, float* y) { Store(y, LoadF16(x)); },
    +[](const uint16_t* x, float* y) { Store(y, LoadBf16(x)); },
    +[](const float* x, uint16_t* y) { StoreF16(y, Load(x)); },
    +[](const float* x, uint16_t* y) { StoreBf16(y, Load(x)); },
    +[](const uint8_t* x, int32_t* y) { Store(y, LoadU8(x)); },
    +[](const int32_t* x, int8_t* y) { StoreI8(y, LoadI32(x)); },
    Integers,
    DotU4,
    DotU8,
};

#undef BI_UNARY
#undef BI_BINARY
#undef BI_COMPARISON

}  // namespace batch_invariant::cpu::BI_SIMD
