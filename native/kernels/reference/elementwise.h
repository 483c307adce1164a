// The definition of elementwise.f32 in plain loops, and the elementary functions that softmax and
// attention share.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_ELEMENTWISE_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_ELEMENTWISE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "batch_invariant/cpu/elementwise.h"

namespace batch_invariant::reference {

// c[0] + x * (c[1] + x * (...)), by fused multiply-adds.
template <size_t kTerms>
float Polynomial(float x, const float (&c)[kTerms]) {
  float sum = c[kTerms - 1];
  for (size_t i = kTerms - 1; i-- > 0;) sum = std::fma(sum, x, c[i]);
  return sum;
}

// e^x = 2^n * e^r with n = round(x / ln 2), e^r = 1 + r + r^2 q(r).
inline float Exp(float x) {
  static constexpr float kQ[] = {0x1.fffffcp-2f, 0x1.55549p-3f, 0x1.5558f4p-5f, 0x1.123a6cp-7f,
                                 0x1.6a2352p-10f};
  if (x != x) return x;
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  const float n = std::nearbyint(x * 0x1.715476p+0f);
  float r = std::fma(n, -0x1.62e4p-1f, x);
  r = std::fma(n, -0x1.7f7d1cp-20f, r);
  const float p = std::fma(std::fma(Polynomial(r, kQ), r, 1.0f), r, 1.0f);
  const int whole = static_cast<int>(n), half = whole >> 1;
  return std::ldexp(std::ldexp(p, half), whole - half);
}

inline float Sigmoid(float x) {
  const float e = Exp(-std::fabs(x));
  return (x < 0.0f ? e : 1.0f) / (e + 1.0f);
}

inline float Tanh(float x) {
  static constexpr float kP[] = {1.0f, 0x1.12051p-3f, 0x1.c9fe22p-9f, 0x1.596014p-16f,
                                 0x1.c9bd78p-27f};
  static constexpr float kQ[] = {1.0f, 0x1.de57dp-2f, 0x1.a7e202p-6f, 0x1.584906p-12f,
                                 0x1.a0ca06p-21f};
  x = x > 9.2f ? 9.2f : x;
  x = x < -9.2f ? -9.2f : x;
  const float square = x * x;
  const float y = (x * Polynomial(square, kP)) / Polynomial(square, kQ);
  return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}

inline float Erf(float x) {
  static constexpr float kQ[] = {0x1.06eba8p-3f, -0x1.812744p-2f,  0x1.ce2e1cp-4f, -0x1.b80ff2p-6f,
                                 0x1.54d42ap-8f, -0x1.aaa2d8p-11f, 0x1.5e0632p-14f};
  static constexpr float kP[] = {-0x1.62d8b2p-13f, 0x1.212626p+0f, 0x1.444d1ep-1f,
                                 0x1.bb4548p-4f,   -0x1.9aebbp-6f, 0x1.10625p-8f,
                                 -0x1.c45914p-12f, 0x1.5d71dep-16f};
  const float a = std::fabs(x);
  const float small = std::fma(Polynomial(x * x, kQ), x, x);
  const float large = std::copysign(1.0f - Exp(-Polynomial(a > 4.0f ? 4.0f : a, kP)), x);
  return a < 0.92f ? small : large;
}

inline float Unary(cpu::UnaryOp op, float x, float alpha) {
  switch (op) {
    case cpu::UnaryOp::kSigmoid:
      return Sigmoid(x);
    case cpu::UnaryOp::kTanh:
      return Tanh(x);
    case cpu::UnaryOp::kErf:
      return Erf(x);
    case cpu::UnaryOp::kExp:
      return Exp(x);
    case cpu::UnaryOp::kGelu:
      return (0.5f * x) * (1.0f + Erf(x * 0.70710678118654752f));
    case cpu::UnaryOp::kGeluTanh:
      return (0.5f * x) *
             (1.0f + Tanh(x * std::fma(0.035677408136300125f, x * x, 0.79788456080286536f)));
    case cpu::UnaryOp::kQuickGelu:
      return x * Sigmoid(alpha * x);
    case cpu::UnaryOp::kSilu:
      return x * Sigmoid(x);
  }
  return x;
}

inline void UnaryRows(const cpu::UnaryArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t i = 0; i < args.width; ++i) {
      const float x = args.x[r * args.width + i];
      args.y[r * args.width + i] =
          Unary(args.op, args.bias != nullptr ? x + args.bias[i] : x, args.alpha);
    }
  }
}

inline float Binary(cpu::BinaryOp op, float a, float b) {
  switch (op) {
    case cpu::BinaryOp::kAdd:
      return a + b;
    case cpu::BinaryOp::kSub:
      return a - b;
    case cpu::BinaryOp::kMul:
      return a * b;
    case cpu::BinaryOp::kDiv:
      return a / b;
  }
  return a;
}

inline void BinaryBroadcast(const cpu::BinaryArgs& args) {
  int64_t count = 1;
  for (const int64_t extent : args.shape) count *= extent;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, a = 0, b = 0;
    for (size_t axis = args.shape.size(); axis-- > 0;) {
      const int64_t index = rest % args.shape[axis];
      rest /= args.shape[axis];
      a += index * args.a_strides[axis];
      b += index * args.b_strides[axis];
    }
    args.y[i] = Binary(args.op, args.a[a], args.b[b]);
  }
}

inline void SiluMul(const cpu::SiluMulArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t i = 0; i < args.width; ++i) {
      const float gate = args.gate[r * args.gate_stride + i];
      args.y[r * args.y_stride + i] = (gate * Sigmoid(gate)) * args.up[r * args.up_stride + i];
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_ELEMENTWISE_H_
