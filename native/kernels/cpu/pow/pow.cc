// Pow: the fp64 arithmetic of kernels/common/power.h. How the operands lie decides about the spread
// over threads, and whether a run takes the square, which is a product of its own, or the lanes of
// pow_body.h, which give the bytes of that arithmetic.
#include "batch_invariant/cpu/pow.h"

#include <type_traits>

#include "kernels/common/power.h"
#include "kernels/cpu/elementwise/broadcast_runs.h"
#include "kernels/cpu/pow/pow_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(PowKernels, kPowKernels, PowKernelTable)

namespace {

// What an element costs, beside an exponential.
constexpr int64_t kCost = 4;

template <typename Base, typename Exponent>
Base Element(Base base, Exponent exponent) {
  if constexpr (std::is_integral_v<Base> && std::is_integral_v<Exponent>) {
    return power::WholePower(base, static_cast<int64_t>(exponent));
  } else {
    return power::Pow(base, static_cast<double>(exponent));
  }
}

// Sixteens by lanes, what these leave one by one.
void ToOnePower(const PowKernels& kernels, const float* base, double exponent, float* y,
                int64_t length) {
  const bool is_whole = power::IsWhole(exponent), is_odd = power::IsOdd(exponent);
  for (int64_t i = 0; i < length;) {
    i += kernels.to_one_power(base + i, exponent, is_whole, is_odd, y + i, length - i);
    for (const int64_t end = std::min(length, i + 16); i < end; ++i) {
      y[i] = power::Pow(base[i], exponent);
    }
  }
}

template <typename Base, typename Exponent>
void Run(const PowKernels& kernels, const Base* base, bool base_is_run, const Exponent* exponent,
         bool exponent_is_run, Base* y, int64_t length) {
  if constexpr (std::is_floating_point_v<Base>) {
    // What norms are written with. Pow gives this product too, its NaN aside.
    if (base_is_run && !exponent_is_run && *exponent == Exponent{2}) {
      for (int64_t i = 0; i < length; ++i) {
        const Base square = base[i] * base[i];
        y[i] = square == square ? square : static_cast<Base>(power::QuietNan());
      }
      return;
    }
  }
  if constexpr (std::is_same_v<Base, float>) {
    const auto one = static_cast<double>(*exponent);
    if (base_is_run && !exponent_is_run && power::Magnitude(one) < power::Infinity()) {
      ToOnePower(kernels, base, one, y, length);
      return;
    }
  }
  for (int64_t i = 0; i < length; ++i) {
    y[i] = Element(base[base_is_run ? i : 0], exponent[exponent_is_run ? i : 0]);
  }
}

template <typename Function>
Status Dispatch(NumberType type, Function&& function) {
  switch (type) {
    case NumberType::kFloat32:
      return function(float{});
    case NumberType::kFloat64:
      return function(double{});
    case NumberType::kInt32:
      return function(int32_t{});
    case NumberType::kInt64:
      return function(int64_t{});
  }
  return Status::Unsupported("Pow: unknown element type");
}

}  // namespace

Status Pow(const Context& context, const PowArgs& args) {
  BroadcastRuns runs;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeBroadcastRuns(args.shape, args.base_strides, args.exponent_strides, &runs));
  const PowKernels* kernels = FindKernels(PowKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported("Pow: this library has no kernel for the instruction set asked for");
  }
  if (runs.count == 0) return Status::Ok();
  if (args.base == nullptr || args.exponent == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("Pow: an operand has no data");
  }
  return Dispatch(args.base_type, [&](auto base_tag) {
    return Dispatch(args.exponent_type, [&](auto exponent_tag) {
      const auto* base = static_cast<const decltype(base_tag)*>(args.base);
      const auto* exponent = static_cast<const decltype(exponent_tag)*>(args.exponent);
      auto* y = static_cast<decltype(base_tag)*>(args.y);
      ForEachRun(
          context.parallel, runs, kCost, [&](int64_t b, int64_t e, int64_t out, int64_t length) {
            Run(*kernels, base + b, runs.a_is_run, exponent + e, runs.b_is_run, y + out, length);
          });
      return Status::Ok();
    });
  });
}

}  // namespace batch_invariant::cpu
