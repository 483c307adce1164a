// Elementwise ops on CUDA: one fixed sequence of operations an element, wherever it stands.
// fp16 and bf16 are computed in fp32 and rounded once, at the end; integers wrap.
// Elementary functions: native/kernels/cuda/elementwise/math.cuh.
#ifndef BATCH_INVARIANT_CUDA_ELEMENTWISE_H_
#define BATCH_INVARIANT_CUDA_ELEMENTWISE_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

inline constexpr const char* kElementwiseContract = "elementwise.cuda.v1";

// Every function below enqueues on `stream`, allocates nothing, waits for nothing and can be
// captured in a graph. kInvalidArgument: a negative size, a missing operand, ranks that differ or
// exceed 8. kUnsupported: a type that the op does not take. kDeviceError: the launch failed.

enum class UnaryOp : uint8_t {
  kSigmoid,  // e = exp(-|x|); r = 1 / (1 + e); x < 0 ? e * r : r
  kTanh,
  kErf,
  kExp,
  kLog,
  kSqrt,
  kReciprocal,
  kNeg,  // integers too
  kAbs,  // integers too
  kRelu,
  kCos,  // from double, rounded to fp32
  kSin,
  kFloor,
  kCeil,
  kGelu,       // (0.5 x) * (1 + erf(x * sqrt(1/2)))
  kGeluTanh,   // (0.5 x) * (1 + tanh(x * fma(0.044715 sqrt(2/pi), x*x, sqrt(2/pi))))
  kQuickGelu,  // x * sigmoid(alpha * x)
  kSilu,       // x * sigmoid(x)
  kSoftplus,   // max(x, 0) + log(1 + exp(-|x|))
  kNot,        // bool
};

// y = op(x), or op(x + bias) with the addition rounded in fp32: FastGelu is kGeluTanh with a bias.
// x and y are [rows, width] of `type`.
struct UnaryArgs {
  UnaryOp op = UnaryOp::kSigmoid;
  DataType type = DataType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float alpha = 1.702f;  // kQuickGelu only
  const void* x = nullptr;
  const void* bias = nullptr;  // [width], optional, floating-point types
  void* y = nullptr;           // may be x
};
Status Unary(const UnaryArgs& args, Stream stream);

enum class BinaryOp : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,  // integers: towards zero, 0 when the divisor is 0
  kMin,
  kMax,
  kMod,  // sign of the divisor for integers; fmod for floating point
  kEqual,
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kAnd,  // bool
  kOr,
  kXor,
};

// Whether the op's output is bool.
bool IsComparison(BinaryOp op);

// y = op(a, b) with broadcasting. `shape` is y's, y is contiguous; the strides (in elements, 0
// where an operand is broadcast) have shape's rank. `type` is the operands'; y is of it, or bool.
struct BinaryArgs {
  BinaryOp op = BinaryOp::kAdd;
  DataType type = DataType::kFloat32;
  std::span<const std::int64_t> shape;
  const void* a = nullptr;
  std::span<const std::int64_t> a_strides;
  const void* b = nullptr;
  std::span<const std::int64_t> b_strides;
  void* y = nullptr;  // may be an operand of the same type that is not broadcast
};
Status Binary(const BinaryArgs& args, Stream stream);

// y = base^exponent with broadcasting, contract pow (contract.h); y has the base's type. Types:
// fp32, fp16, bf16, fp64, int32, int64, the two independent of each other.
struct PowArgs {
  std::span<const std::int64_t> shape;
  DataType base_type = DataType::kFloat32;
  const void* base = nullptr;
  std::span<const std::int64_t> base_strides;
  DataType exponent_type = DataType::kFloat32;
  const void* exponent = nullptr;
  std::span<const std::int64_t> exponent_strides;
  void* y = nullptr;  // may be the base where that is not broadcast
};
Status Pow(const PowArgs& args, Stream stream);

// y = condition ? a : b with broadcasting; any type, copied as bytes.
struct WhereArgs {
  DataType type = DataType::kFloat32;
  std::span<const std::int64_t> shape;
  const void* condition = nullptr;  // bool
  std::span<const std::int64_t> condition_strides;
  const void* a = nullptr;
  std::span<const std::int64_t> a_strides;
  const void* b = nullptr;
  std::span<const std::int64_t> b_strides;
  void* y = nullptr;
};
Status Where(const WhereArgs& args, Stream stream);

// y[i] = x[i] converted: to fp16, bf16 and fp32 to nearest even; to integers towards zero, then
// wrapped; to bool: x != 0.
struct CastArgs {
  DataType from = DataType::kFloat32;
  DataType to = DataType::kFloat32;
  std::int64_t count = 0;
  const void* x = nullptr;
  void* y = nullptr;
};
Status Cast(const CastArgs& args, Stream stream);

// y = activation(gate) * up, in fp32 with one rounding; or, with `round_between`, the bytes of the
// separate ops of a graph: for SiLU T(T(sigmoid(gate)) * gate), then * up. Row r of gate, up and y
// starts at r * its stride, so that gate and up may be halves of one tensor.
struct GatedArgs {
  UnaryOp activation = UnaryOp::kSilu;  // kSilu, kGelu, kGeluTanh, kQuickGelu or kSigmoid
  ElementType type = ElementType::kFloat32;
  bool round_between = false;
  float alpha = 1.702f;      // kQuickGelu only
  bool interleaved = false;  // element i of a row of gate and of up lies at i / 8 * 16 + i % 8
  std::int64_t rows = 0;
  std::int64_t width = 0;
  const void* gate = nullptr;
  std::int64_t gate_stride = 0;
  const void* up = nullptr;
  std::int64_t up_stride = 0;
  void* y = nullptr;  // may be gate or up, with that stride
  std::int64_t y_stride = 0;
};
Status Gated(const GatedArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_ELEMENTWISE_H_
