// The elementwise ops on one element.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_FUNCTIONS_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_FUNCTIONS_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "batch_invariant/cuda/elementwise.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/elementwise/math.cuh"

namespace batch_invariant::cuda {

template <typename T>
inline constexpr bool kIsFloat =
    std::is_same_v<T, float> || std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

// The type an element is computed in.
template <typename T>
using Computed = std::conditional_t<kIsFloat<T>, float, T>;

template <typename T>
__device__ __forceinline__ Computed<T> Widen(T x) {
  if constexpr (kIsFloat<T>) {
    return ToFloat(x);
  } else {
    return x;
  }
}

template <typename T>
__device__ __forceinline__ T Narrow(Computed<T> x) {
  if constexpr (kIsFloat<T>) {
    return FromFloat<T>(x);
  } else {
    return x;
  }
}

__device__ __forceinline__ float ApplyUnary(UnaryOp op, float x, float alpha) {
  switch (op) {
    case UnaryOp::kSigmoid:
      return Sigmoid(x);
    case UnaryOp::kTanh:
      return Tanh(x);
    case UnaryOp::kErf:
      return Erf(x);
    case UnaryOp::kExp:
      return Exp(x);
    case UnaryOp::kLog:
      return Log(x);
    case UnaryOp::kSqrt:
      return __fsqrt_rn(x);
    case UnaryOp::kReciprocal:
      return __frcp_rn(x);
    case UnaryOp::kNeg:
      return -x;
    case UnaryOp::kAbs:
      return fabsf(x);
    case UnaryOp::kRelu:
      return x > 0.0f || x != x ? x : 0.0f;
    case UnaryOp::kCos:
      return static_cast<float>(cos(static_cast<double>(x)));
    case UnaryOp::kSin:
      return static_cast<float>(sin(static_cast<double>(x)));
    case UnaryOp::kFloor:
      return floorf(x);
    case UnaryOp::kCeil:
      return ceilf(x);
    case UnaryOp::kGelu: {
      const float erf = Erf(__fmul_rn(x, 0x1.6a09e6p-1f));
      return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, erf));
    }
    case UnaryOp::kGeluTanh: {
      constexpr float kRoot = 0x1.988454p-1f;   // sqrt(2 / pi)
      constexpr float kCubic = 0x1.2444f6p-5f;  // 0.044715 sqrt(2 / pi)
      const float inner = __fmul_rn(x, __fmaf_rn(kCubic, __fmul_rn(x, x), kRoot));
      return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, Tanh(inner)));
    }
    case UnaryOp::kQuickGelu:
      return __fmul_rn(x, Sigmoid(__fmul_rn(alpha, x)));
    case UnaryOp::kSilu:
      return __fmul_rn(x, Sigmoid(x));
    case UnaryOp::kSoftplus:
      return __fadd_rn(x > 0.0f || x != x ? x : 0.0f, Log(__fadd_rn(1.0f, Exp(-fabsf(x)))));
    case UnaryOp::kNot:
      break;
  }
  return x;
}

template <typename T>
__device__ __forceinline__ T ApplyUnaryInteger(UnaryOp op, T x) {
  using Bits = std::make_unsigned_t<std::conditional_t<std::is_same_v<T, bool>, int, T>>;
  switch (op) {
    case UnaryOp::kNeg:
      return static_cast<T>(Bits{0} - static_cast<Bits>(x));
    case UnaryOp::kAbs:
      return x < T{0} ? static_cast<T>(Bits{0} - static_cast<Bits>(x)) : x;
    case UnaryOp::kRelu:
      return x < T{0} ? T{0} : x;
    case UnaryOp::kNot:
      return static_cast<T>(!x);
    default:
      return x;
  }
}

// Ops whose result has the operands' type.
template <typename C>
__device__ __forceinline__ C ApplyArithmetic(BinaryOp op, C a, C b) {
  if constexpr (std::is_same_v<C, float>) {
    switch (op) {
      case BinaryOp::kAdd:
        return __fadd_rn(a, b);
      case BinaryOp::kSub:
        return __fsub_rn(a, b);
      case BinaryOp::kMul:
        return __fmul_rn(a, b);
      case BinaryOp::kDiv:
        return __fdiv_rn(a, b);
      case BinaryOp::kMin:
        return a != a || a < b ? a : b;
      case BinaryOp::kMax:
        return a != a || a > b ? a : b;
      case BinaryOp::kMod:
        return fmodf(a, b);
      default:
        return a;
    }
  } else {
    switch (op) {
      case BinaryOp::kAdd:
        return static_cast<C>(a + b);
      case BinaryOp::kSub:
        return static_cast<C>(a - b);
      case BinaryOp::kMul:
        return static_cast<C>(a * b);
      case BinaryOp::kDiv:
        return b == C{0} ? C{0} : static_cast<C>(a / b);
      case BinaryOp::kMin:
        return a < b ? a : b;
      case BinaryOp::kMax:
        return a > b ? a : b;
      case BinaryOp::kMod: {
        if (b == C{0}) return C{0};
        const C r = static_cast<C>(a % b);
        return r != C{0} && (r < C{0}) != (b < C{0}) ? static_cast<C>(r + b) : r;
      }
      default:
        return a;
    }
  }
}

// Ops whose result is bool.
template <typename C>
__device__ __forceinline__ bool ApplyComparison(BinaryOp op, C a, C b) {
  switch (op) {
    case BinaryOp::kEqual:
      return a == b;
    case BinaryOp::kLess:
      return a < b;
    case BinaryOp::kLessOrEqual:
      return a <= b;
    case BinaryOp::kGreater:
      return a > b;
    case BinaryOp::kGreaterOrEqual:
      return a >= b;
    case BinaryOp::kAnd:
      return a != C{0} && b != C{0};
    case BinaryOp::kOr:
      return a != C{0} || b != C{0};
    case BinaryOp::kXor:
      return (a != C{0}) != (b != C{0});
    default:
      return false;
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_FUNCTIONS_CUH_
