// Pow (batch_invariant/cuda/elementwise.h): a thread an element, by the fp64 arithmetic that the
// CPU has too.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "batch_invariant/cuda/elementwise.h"
#include "kernels/common/power.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/dispatch.cuh"
#include "kernels/cuda/elementwise/functions.cuh"
#include "kernels/cuda/elementwise/views.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Base, typename Exponent>
__device__ __forceinline__ Base Element(Base base, Exponent exponent) {
  if constexpr (std::is_integral_v<Base> && std::is_integral_v<Exponent>) {
    return power::WholePower(base, static_cast<std::int64_t>(exponent));
  } else {
    return Narrow<Base>(power::Pow(Widen(base), static_cast<double>(Widen(exponent))));
  }
}

template <typename Base, typename Exponent>
__global__ void __launch_bounds__(kThreads)
    PowKernel(const Base* base, const Exponent* exponent, Base* y,
              const __grid_constant__ Views<2> views) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < views.count;
       i += stride) {
    std::int64_t offsets[2];
    views.Offsets(i, offsets);
    y[i] = Element(base[offsets[0]], exponent[offsets[1]]);
  }
}

template <typename Function>
Status DispatchNumber(DataType type, Function&& function) {
  if (type == DataType::kFloat64) return function(TypeTag<double>{});
  return DispatchArithmeticType("Pow", type, [&](auto tag) -> Status {
    if constexpr (std::is_same_v<typename decltype(tag)::type, bool>) {
      return Status::Unsupported("Pow: not defined for bool");
    } else {
      return function(tag);
    }
  });
}

}  // namespace

Status Pow(const PowArgs& args, Stream stream) {
  Views<2> views;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeViews("Pow", args.shape, {args.base_strides, args.exponent_strides}, &views));
  if (views.count == 0) return Status::Ok();
  if (args.base == nullptr || args.exponent == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("Pow: an operand is missing");
  }
  return DispatchNumber(args.base_type, [&](auto base_tag) {
    return DispatchNumber(args.exponent_type, [&](auto exponent_tag) {
      using Base = typename decltype(base_tag)::type;
      using Exponent = typename decltype(exponent_tag)::type;
      const auto blocks = static_cast<unsigned>(
          std::min<std::int64_t>(CeilDiv(views.count, kThreads), std::numeric_limits<int>::max()));
      PowKernel<<<blocks, kThreads, 0, stream>>>(static_cast<const Base*>(args.base),
                                                 static_cast<const Exponent*>(args.exponent),
                                                 static_cast<Base*>(args.y), views);
      return LaunchStatus("Pow");
    });
  });
}

}  // namespace batch_invariant::cuda
