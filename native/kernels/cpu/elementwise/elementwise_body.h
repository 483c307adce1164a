// Runs of elementwise ops, contract elementwise.f32: every element goes through the same
// sixteen-lane code, those of a short end too. Free: where runs begin and end, and how they are
// spread over threads.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_BODY_H_

#include "kernels/cpu/elementwise/activation_body.h"
#include "kernels/cpu/elementwise/elementwise_kernels.h"
#include "kernels/cpu/reduce/tree_body.h"

namespace batch_invariant::cpu::BI_SIMD {

// y = finish(whole, i, count, f(argument(whole, i, count))), canonical, for i = 0, 16, 32, ..., f
// being a function of simd/math.h. Groups of vectors whose arguments are all moderate go side by
// side; finish of those is canonical already. The rest goes one by one.
template <typename Function, typename Argument, typename Finish>
static BI_NOINLINE void RunOfAny(int64_t i, int64_t end, Argument argument, float* y,
                                 Finish finish) {
  const auto one = [=](auto whole, int64_t at, int count) BI_INLINE_LAMBDA {
    const F32x16 value = Function::Of(argument(whole, at, count));
    StoreRow(whole, y + at, Canonical(finish(whole, at, count, value)), count);
  };
  for (; i + 16 <= end; i += 16) one(Whole<true>{}, i, 16);
  if (i < end) one(Whole<false>{}, i, static_cast<int>(end - i));
}
template <typename Function, typename Argument, typename Finish>
BI_INLINE void RunOf(int64_t length, Argument argument, float* y, Finish finish) {
  constexpr int kVectors = Function::kSideBySide;
  constexpr int kStep = 16 * kVectors;
  int64_t i = 0;
  for (; i + kStep <= length; i += kStep) {
    F32x16 x[kVectors];
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) x[v] = argument(Whole<true>{}, i + 16 * v, 16);
    Mask16 moderate = Function::IsModerate(x[0]);
    BI_UNROLL
    for (int v = 1; v < kVectors; ++v) moderate = And(moderate, Function::IsModerate(x[v]));
    if (!All(moderate)) {
      RunOfAny<Function>(i, i + kStep, argument, y, finish);
      continue;
    }
    Function::OfModerate(x);
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Store(y + i + 16 * v, finish(Whole<true>{}, i + 16 * v, 16, x[v]));
    }
  }
  if (i < length) RunOfAny<Function>(i, length, argument, y, finish);
}

// y = outer(s, f(inner(s))), s = x + bias.
template <typename Function, typename Inner, typename Outer>
BI_INLINE void UnaryRunOf(const float* x, const float* bias, float* y, int64_t length, Inner inner,
                          Outer outer) {
  const auto run = [=](auto sum) BI_INLINE_LAMBDA {
    RunOf<Function>(
        length,
        [=](auto whole, int64_t i, int count)
            BI_INLINE_LAMBDA { return inner(sum(whole, i, count)); },
        y,
        [=](auto whole, int64_t i, int count, F32x16 value)
            BI_INLINE_LAMBDA { return outer(sum(whole, i, count), value); });
  };
  if (bias == nullptr) {
    run([=](auto whole, int64_t i, int count)
            BI_INLINE_LAMBDA { return LoadRow(whole, x + i, count); });
  } else {
    run([=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      return Add(LoadRow(whole, x + i, count), LoadRow(whole, bias + i, count));
    });
  }
}
template <typename Function>
BI_INLINE void UnaryRunOf(const float* x, const float* bias, float* y, int64_t length) {
  UnaryRunOf<Function>(
      x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return v; },
      [](F32x16, F32x16 value) BI_INLINE_LAMBDA { return value; });
}

static void UnaryRun(UnaryOp op, float alpha, const float* x, const float* bias, float* y,
                     int64_t length) {
  const auto times = [](F32x16 v, F32x16 gate) BI_INLINE_LAMBDA { return Mul(v, gate); };
  switch (op) {
    case UnaryOp::kSigmoid:
      return UnaryRunOf<SigmoidFunction>(x, bias, y, length);
    case UnaryOp::kTanh:
      return UnaryRunOf<TanhFunction>(x, bias, y, length);
    case UnaryOp::kErf:
      return UnaryRunOf<ErfFunction>(x, bias, y, length);
    case UnaryOp::kExp:
      return UnaryRunOf<ExpFunction>(x, bias, y, length);
    case UnaryOp::kGelu:
      return UnaryRunOf<ErfFunction>(x, bias, y, length, GeluErfArgument, GeluFrom);
    case UnaryOp::kGeluTanh:
      return UnaryRunOf<TanhFunction>(x, bias, y, length, GeluTanhArgument, GeluFrom);
    case UnaryOp::kQuickGelu:
      return UnaryRunOf<SigmoidFunction>(
          x, bias, y, length, [=](F32x16 v) BI_INLINE_LAMBDA { return Mul(Splat(alpha), v); },
          times);
    case UnaryOp::kSilu:
      return UnaryRunOf<SigmoidFunction>(
          x, bias, y, length, [](F32x16 v) BI_INLINE_LAMBDA { return v; }, times);
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
  RunOf<SigmoidFunction>(
      length,
      [=](auto whole, int64_t i, int count)
          BI_INLINE_LAMBDA { return LoadRow(whole, gate + i, count); },
      y,
      [=](auto whole, int64_t i, int count, F32x16 sigmoid) BI_INLINE_LAMBDA {
        const F32x16 silu = Mul(LoadRow(whole, gate + i, count), sigmoid);
        return Canonical(Mul(silu, LoadRow(whole, up + i, count)));  // `up` may be anything
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
