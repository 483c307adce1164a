// Runs of elementwise ops, contract elementwise.f32: every element goes through the same
// sixteen-lane code, those of a short end too. Free: where runs begin and end, and how they are
// spread over threads.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_BODY_H_

#include "kernels/cpu/elementwise/activation_body.h"
#include "kernels/cpu/elementwise/elementwise_kernels.h"
#include "kernels/cpu/reduce/tree_body.h"

namespace batch_invariant::cpu::BI_SIMD {

template <typename Function>
BI_INLINE void UnaryRunOf(const float* x, const float* bias, float* y, int64_t length,
                          Function function) {
  if (bias == nullptr) {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      StoreRow(whole, y + i, Canonical(function(LoadRow(whole, x + i, count))), count);
    });
  } else {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      const F32x16 sum = Add(LoadRow(whole, x + i, count), LoadRow(whole, bias + i, count));
      StoreRow(whole, y + i, Canonical(function(sum)), count);
    });
  }
}

// finish(whole, i, count, sigmoid(argument(whole, i, count))) for i = 0, 16, 32, ... Two vectors
// whose arguments are all moderate go together, which gives the same bits.
template <typename Argument, typename Finish>
static BI_NOINLINE void SigmoidOfAny(int64_t i, int64_t length, Argument argument, Finish finish) {
  for (; i + 16 <= length; i += 16) {
    finish(Whole<true>{}, i, 16, Sigmoid(argument(Whole<true>{}, i, 16)));
  }
  if (i == length) return;
  const int count = static_cast<int>(length - i);
  finish(Whole<false>{}, i, count, Sigmoid(argument(Whole<false>{}, i, count)));
}
template <typename Argument, typename Finish>
BI_INLINE void SigmoidRunOf(int64_t length, Argument argument, Finish finish) {
  const F32x16 least = Splat(kLeastModerate);
  int64_t i = 0;
  for (; i + 32 <= length; i += 32) {
    F32x16 x[2] = {argument(Whole<true>{}, i, 16), argument(Whole<true>{}, i + 16, 16)};
    if (!All(And(LessEqual(least, NegativeAbs(x[0])), LessEqual(least, NegativeAbs(x[1]))))) {
      SigmoidOfAny(i, i + 32, argument, finish);
      continue;
    }
    SigmoidOfModerate(x);
    finish(Whole<true>{}, i, 16, x[0]);
    finish(Whole<true>{}, i + 16, 16, x[1]);
  }
  if (i < length) SigmoidOfAny(i, length, argument, finish);
}

// y = outer(s, sigmoid(inner(s))), s = x + bias.
template <typename Inner, typename Outer>
BI_INLINE void SigmoidUnaryRunOf(const float* x, const float* bias, float* y, int64_t length,
                                 Inner inner, Outer outer) {
  const auto sum = [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    const F32x16 value = LoadRow(whole, x + i, count);
    return bias == nullptr ? value : Add(value, LoadRow(whole, bias + i, count));
  };
  SigmoidRunOf(
      length,
      [=](auto whole, int64_t i, int count)
          BI_INLINE_LAMBDA { return inner(sum(whole, i, count)); },
      [=](auto whole, int64_t i, int count, F32x16 sigmoid) BI_INLINE_LAMBDA {
        StoreRow(whole, y + i, Canonical(outer(sum(whole, i, count), sigmoid)), count);
      });
}

static void UnaryRun(UnaryOp op, float alpha, const float* x, const float* bias, float* y,
                     int64_t length) {
  switch (op) {
    case UnaryOp::kSigmoid:
      return SigmoidUnaryRunOf(
          x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return v; },
          [](F32x16, F32x16 sigmoid) BI_INLINE_LAMBDA { return sigmoid; });
    case UnaryOp::kTanh:
      return UnaryRunOf(x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return Tanh(v); });
    case UnaryOp::kErf:
      return UnaryRunOf(x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return Erf(v); });
    case UnaryOp::kExp:
      return UnaryRunOf(x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return Exp(v); });
    case UnaryOp::kGelu:
      return UnaryRunOf(x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return GeluErf(v); });
    case UnaryOp::kGeluTanh:
      return UnaryRunOf(x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return GeluTanh(v); });
    case UnaryOp::kQuickGelu:
      return SigmoidUnaryRunOf(
          x, bias, y, length, [=](F32x16 v) BI_INLINE_LAMBDA { return Mul(Splat(alpha), v); },
          [](F32x16 v, F32x16 sigmoid) BI_INLINE_LAMBDA { return Mul(v, sigmoid); });
    case UnaryOp::kSilu:
      return SigmoidUnaryRunOf(
          x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return v; },
          [](F32x16 v, F32x16 sigmoid) BI_INLINE_LAMBDA { return Mul(v, sigmoid); });
  }
}

// An operand is either a run of its own or one element for the whole run.
template <typename Function>
BI_INLINE void BinaryRunOf(const float* a, bool a_is_run, const float* b, bool b_is_run, float* y,
                           int64_t length, Function function) {
  const F32x16 a_value = Splat(*a), b_value = Splat(*b);
  if (a_is_run && b_is_run) {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      const F32x16 out = function(LoadRow(whole, a + i, count), LoadRow(whole, b + i, count));
      StoreRow(whole, y + i, Canonical(out), count);
    });
  } else if (a_is_run) {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      const F32x16 out = function(LoadRow(whole, a + i, count), b_value);
      StoreRow(whole, y + i, Canonical(out), count);
    });
  } else if (b_is_run) {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      const F32x16 out = function(a_value, LoadRow(whole, b + i, count));
      StoreRow(whole, y + i, Canonical(out), count);
    });
  } else {
    const F32x16 out = Canonical(function(a_value, b_value));
    ForEach16(length,
              [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA { StoreRow(whole, y + i, out, count); });
  }
}

static void BinaryRun(BinaryOp op, const float* a, bool a_is_run, const float* b, bool b_is_run,
                      float* y, int64_t length) {
  if (length == 0) return;
  switch (op) {
    case BinaryOp::kAdd:
      return BinaryRunOf(a, a_is_run, b, b_is_run, y, length,
                         [](F32x16 u, F32x16 v) BI_INLINE_LAMBDA { return Add(u, v); });
    case BinaryOp::kSub:
      return BinaryRunOf(a, a_is_run, b, b_is_run, y, length,
                         [](F32x16 u, F32x16 v) BI_INLINE_LAMBDA { return Sub(u, v); });
    case BinaryOp::kMul:
      return BinaryRunOf(a, a_is_run, b, b_is_run, y, length,
                         [](F32x16 u, F32x16 v) BI_INLINE_LAMBDA { return Mul(u, v); });
    case BinaryOp::kDiv:
      return BinaryRunOf(a, a_is_run, b, b_is_run, y, length,
                         [](F32x16 u, F32x16 v) BI_INLINE_LAMBDA { return Div(u, v); });
  }
}

static void SiluMulRun(const float* gate, const float* up, float* y, int64_t length) {
  SigmoidRunOf(
      length,
      [=](auto whole, int64_t i, int count)
          BI_INLINE_LAMBDA { return LoadRow(whole, gate + i, count); },
      [=](auto whole, int64_t i, int count, F32x16 sigmoid) BI_INLINE_LAMBDA {
        const F32x16 silu = Mul(LoadRow(whole, gate + i, count), sigmoid);
        StoreRow(whole, y + i, Canonical(Mul(silu, LoadRow(whole, up + i, count))), count);
      });
}

static void WidenF16Run(const uint16_t* x, float* y, int64_t length) {
  ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    if constexpr (whole.value) {
      Store(y + i, LoadF16(x + i));
    } else {
      StorePartial(y + i, LoadF16Partial(x + i, count), count);
    }
  });
}

static void RoundToF16Run(const float* x, uint16_t* y, int64_t length) {
  ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    const F32x16 value = Canonical(LoadRow(whole, x + i, count));
    if constexpr (whole.value) {
      StoreF16(y + i, value);
    } else {
      StoreF16Partial(y + i, value, count);
    }
  });
}

extern const ElementwiseKernels kElementwiseKernels;
const ElementwiseKernels kElementwiseKernels = {kInstructionSet, UnaryRun,    BinaryRun,
                                                SiluMulRun,      WidenF16Run, RoundToF16Run};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_BODY_H_
