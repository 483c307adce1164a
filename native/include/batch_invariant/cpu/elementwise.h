// Elementwise fp32 ops, contract elementwise.f32: the same operations for every element wherever it
// stands, so that a tail is computed like any other part.
#ifndef BATCH_INVARIANT_CPU_ELEMENTWISE_H_
#define BATCH_INVARIANT_CPU_ELEMENTWISE_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

enum class UnaryOp : uint8_t {
  kSigmoid,    // e = exp(-|x|); x < 0 ? e / (1 + e) : 1 / (1 + e)
  kTanh,       // x p(x^2) / q(x^2), held to [-1, 1]
  kErf,        // odd; a polynomial for small |x|, else 1 - exp(-p(|x|))
  kExp,        // the library's polynomial
  kGelu,       // (0.5 x) * (1 + erf(x * sqrt(1/2)))
  kGeluTanh,   // (0.5 x) * (1 + tanh(x * fma(0.044715*sqrt(2/pi), x*x, sqrt(2/pi))))
  kQuickGelu,  // x * sigmoid(alpha * x)
  kSilu,       // x * sigmoid(x)
};

// y = op(x), or op(x + bias), the addition rounded. x and y are [rows, width]; FastGelu is
// kGeluTanh and BiasGelu is kGelu, each with a bias.
struct UnaryArgs {
  UnaryOp op = UnaryOp::kSigmoid;
  int64_t rows = 0;
  int64_t width = 0;
  float alpha = 1.702f;  // kQuickGelu only
  const float* x = nullptr;
  const float* bias = nullptr;  // [width], optional
  float* y = nullptr;           // may be x
};

// kInvalidArgument: a negative size or a missing operand.
Status UnaryF32(const Context& context, const UnaryArgs& args);

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv };

// y = op(a, b) with broadcasting. `shape` is y's, y is contiguous; the strides (in elements, 0
// where an operand is broadcast) have shape's rank, which may be 0 (a scalar).
struct BinaryArgs {
  BinaryOp op = BinaryOp::kAdd;
  std::span<const int64_t> shape;
  const float* a = nullptr;
  std::span<const int64_t> a_strides;
  const float* b = nullptr;
  std::span<const int64_t> b_strides;
  float* y = nullptr;  // may be an operand that is not broadcast
};

// kInvalidArgument: a negative size, a missing operand, strides of another rank than shape's.
Status BinaryF32(const Context& context, const BinaryArgs& args);

// y = (gate * sigmoid(gate)) * up: the bytes of Sigmoid, Mul, Mul done one after the other.
// Row r of gate, up and y starts at r * its stride, so that gate and up may be halves of one
// tensor.
struct SiluMulArgs {
  int64_t rows = 0;
  int64_t width = 0;
  const float* gate = nullptr;
  int64_t gate_stride = 0;
  const float* up = nullptr;
  int64_t up_stride = 0;
  float* y = nullptr;  // may be gate or up, with that stride
  int64_t y_stride = 0;
};

// kInvalidArgument: a negative size, a missing operand, a stride below width.
Status SiluMulF32(const Context& context, const SiluMulArgs& args);

// fp16 to fp32, exact, and back, to nearest even; a NaN becomes 0x7e00.
// kInvalidArgument: a negative count or a missing operand.
Status WidenF16(const Context& context, int64_t count, const uint16_t* x, float* y);
Status RoundToF16(const Context& context, int64_t count, const float* x, uint16_t* y);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_ELEMENTWISE_H_
