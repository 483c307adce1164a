// Unary, Binary, Where and Cast (batch_invariant/cuda/elementwise.h). One thread computes an
// element, or eight neighbours where operands lie in one piece; no element depends on another.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "batch_invariant/cuda/elementwise.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/dispatch.cuh"
#include "kernels/cuda/elementwise/functions.cuh"
#include "kernels/cuda/elementwise/views.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

template <typename T>
struct alignas(sizeof(T) * kVector > 16 ? 16 : sizeof(T) * kVector) Eight {
  T x[kVector];
};

bool Aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

unsigned GridOf(std::int64_t items) {
  return static_cast<unsigned>(
      std::min<std::int64_t>(CeilDiv(items, kThreads), std::numeric_limits<int>::max()));
}

__device__ __forceinline__ std::int64_t ThreadIndex() {
  return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}
__device__ __forceinline__ std::int64_t ThreadCount() { return std::int64_t{gridDim.x} * kThreads; }

// ---- Unary ----

template <typename T>
__device__ __forceinline__ T UnaryElement(const UnaryArgs& args, T x, std::int64_t index) {
  if constexpr (kIsFloat<T>) {
    float value = ToFloat(x);
    if (args.bias != nullptr) {
      value = __fadd_rn(value, ToFloat(static_cast<const T*>(args.bias)[index % args.width]));
    }
    return FromFloat<T>(ApplyUnary(args.op, value, args.alpha));
  } else {
    return ApplyUnaryInteger(args.op, x);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    UnaryKernel(const __grid_constant__ UnaryArgs args, std::int64_t count, std::int64_t vectors) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  for (std::int64_t i = ThreadIndex(); i < vectors; i += ThreadCount()) {
    Eight<T> v = reinterpret_cast<const Eight<T>*>(x)[i];
#pragma unroll
    for (int j = 0; j < kVector; ++j) v.x[j] = UnaryElement(args, v.x[j], i * kVector + j);
    reinterpret_cast<Eight<T>*>(y)[i] = v;
  }
  for (std::int64_t i = vectors * kVector + ThreadIndex(); i < count; i += ThreadCount()) {
    y[i] = UnaryElement(args, x[i], i);
  }
}

bool TakesIntegers(UnaryOp op) {
  return op == UnaryOp::kNeg || op == UnaryOp::kAbs || op == UnaryOp::kRelu;
}

// ---- Binary ----

template <typename T, typename Out>
__device__ __forceinline__ Out BinaryElement(BinaryOp op, T a, T b) {
  if constexpr (std::is_same_v<Out, bool> && !std::is_same_v<T, bool>) {
    return ApplyComparison(op, Widen(a), Widen(b));
  } else if constexpr (std::is_same_v<T, bool>) {
    return ApplyComparison(op, static_cast<int>(a), static_cast<int>(b));
  } else {
    return Narrow<T>(ApplyArithmetic(op, Widen(a), Widen(b)));
  }
}

template <typename T, typename Out>
__global__ void __launch_bounds__(kThreads)
    BinaryFlatKernel(BinaryOp op, const T* a, bool a_one, const T* b, bool b_one, Out* y,
                     std::int64_t count, std::int64_t vectors) {
  for (std::int64_t i = ThreadIndex(); i < vectors; i += ThreadCount()) {
    Eight<T> va, vb;
    if (a_one) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) va.x[j] = a[0];
    } else {
      va = reinterpret_cast<const Eight<T>*>(a)[i];
    }
    if (b_one) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) vb.x[j] = b[0];
    } else {
      vb = reinterpret_cast<const Eight<T>*>(b)[i];
    }
    Eight<Out> vy;
#pragma unroll
    for (int j = 0; j < kVector; ++j) vy.x[j] = BinaryElement<T, Out>(op, va.x[j], vb.x[j]);
    reinterpret_cast<Eight<Out>*>(y)[i] = vy;
  }
  for (std::int64_t i = vectors * kVector + ThreadIndex(); i < count; i += ThreadCount()) {
    y[i] = BinaryElement<T, Out>(op, a[a_one ? 0 : i], b[b_one ? 0 : i]);
  }
}

template <typename T, typename Out>
__global__ void __launch_bounds__(kThreads)
    BinaryKernel(BinaryOp op, const T* a, const T* b, Out* y,
                 const __grid_constant__ Views<2> views) {
  for (std::int64_t i = ThreadIndex(); i < views.count; i += ThreadCount()) {
    std::int64_t offsets[2];
    views.Offsets(i, offsets);
    y[i] = BinaryElement<T, Out>(op, a[offsets[0]], b[offsets[1]]);
  }
}

template <typename T, typename Out>
Status LaunchBinary(const BinaryArgs& args, const Views<2>& views, Stream stream) {
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  auto* y = static_cast<Out*>(args.y);
  if (views.Flat()) {
    const bool a_one = views.strides[0][0] == 0, b_one = views.strides[1][0] == 0;
    const bool vectors = (a_one || Aligned(a)) && (b_one || Aligned(b)) && Aligned(y);
    const std::int64_t whole = vectors ? views.count / kVector : 0;
    BinaryFlatKernel<T, Out><<<GridOf(vectors ? whole + 1 : views.count), kThreads, 0, stream>>>(
        args.op, a, a_one, b, b_one, y, views.count, whole);
  } else {
    BinaryKernel<T, Out><<<GridOf(views.count), kThreads, 0, stream>>>(args.op, a, b, y, views);
  }
  return LaunchStatus("elementwise binary op");
}

// ---- Where ----

template <typename Word>
__global__ void __launch_bounds__(kThreads)
    WhereKernel(const bool* condition, const Word* a, const Word* b, Word* y,
                const __grid_constant__ Views<3> views) {
  for (std::int64_t i = ThreadIndex(); i < views.count; i += ThreadCount()) {
    std::int64_t offsets[3];
    views.Offsets(i, offsets);
    y[i] = condition[offsets[0]] ? a[offsets[1]] : b[offsets[2]];
  }
}

// ---- Cast ----

template <typename To, typename From>
__device__ __forceinline__ To Convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (kIsFloat<From> && kIsFloat<To>) {
    return FromFloat<To>(ToFloat(x));
  } else if constexpr (kIsFloat<From>) {
    const float value = ToFloat(x);
    if constexpr (std::is_same_v<To, bool>) {
      return value != 0.0f;
    } else if constexpr (std::is_same_v<To, double>) {
      return value;
    } else if constexpr (std::is_same_v<To, std::uint64_t>) {
      return value >= 0x1p+63f ? static_cast<std::uint64_t>(value)
                               : static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
    } else {
      return static_cast<To>(static_cast<std::int64_t>(value));
    }
  } else if constexpr (std::is_same_v<From, double> && !kIsFloat<To>) {
    if constexpr (std::is_same_v<To, bool>) {
      return x != 0.0;
    } else if constexpr (std::is_same_v<To, std::uint64_t>) {
      return x >= 0x1p+63 ? static_cast<std::uint64_t>(x)
                          : static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
    } else {
      return static_cast<To>(static_cast<std::int64_t>(x));
    }
  } else if constexpr (std::is_same_v<To, float>) {
    return static_cast<float>(x);
  } else if constexpr (std::is_same_v<To, __half>) {
    return __double2half(static_cast<double>(x));
  } else if constexpr (std::is_same_v<To, __nv_bfloat16>) {
    return __double2bfloat16(static_cast<double>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else {
    return static_cast<To>(x);
  }
}

template <typename From, typename To>
__global__ void __launch_bounds__(kThreads)
    CastKernel(const From* x, To* y, std::int64_t count, std::int64_t vectors) {
  for (std::int64_t i = ThreadIndex(); i < vectors; i += ThreadCount()) {
    const Eight<From> from = reinterpret_cast<const Eight<From>*>(x)[i];
    Eight<To> to;
#pragma unroll
    for (int j = 0; j < kVector; ++j) to.x[j] = Convert<To>(from.x[j]);
    reinterpret_cast<Eight<To>*>(y)[i] = to;
  }
  for (std::int64_t i = vectors * kVector + ThreadIndex(); i < count; i += ThreadCount()) {
    y[i] = Convert<To>(x[i]);
  }
}

}  // namespace

bool IsComparison(BinaryOp op) { return op >= BinaryOp::kEqual; }

Status Unary(const UnaryArgs& args, Stream stream) {
  if (args.rows < 0 || args.width < 0) {
    return Status::InvalidArgument("elementwise unary op: a size is negative");
  }
  const std::int64_t count = args.rows * args.width;
  if (count == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("elementwise unary op: x or y is missing");
  }
  return DispatchArithmeticType("elementwise unary op", args.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool served = std::is_same_v<T, bool> ? args.op == UnaryOp::kNot
                        : kIsFloat<T>           ? args.op != UnaryOp::kNot
                                                : TakesIntegers(args.op);
    if (!served) return Status::Unsupported("elementwise unary op: not defined for this type");
    const std::int64_t whole = Aligned(args.x) && Aligned(args.y) ? count / kVector : 0;
    UnaryKernel<T><<<GridOf(whole > 0 ? whole : count), kThreads, 0, stream>>>(args, count, whole);
    return LaunchStatus("elementwise unary op");
  });
}

Status Binary(const BinaryArgs& args, Stream stream) {
  Views<2> views;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeViews("elementwise binary op", args.shape, {args.a_strides, args.b_strides}, &views));
  if (views.count == 0) return Status::Ok();
  if (args.a == nullptr || args.b == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("elementwise binary op: an operand is missing");
  }
  return DispatchArithmeticType("elementwise binary op", args.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>) {
      if (args.op < BinaryOp::kAnd && args.op != BinaryOp::kEqual) {
        return Status::Unsupported("elementwise binary op: not defined for bool");
      }
      return LaunchBinary<bool, bool>(args, views, stream);
    } else {
      if (args.op >= BinaryOp::kAnd) {
        return Status::Unsupported("elementwise binary op: defined for bool only");
      }
      return IsComparison(args.op) ? LaunchBinary<T, bool>(args, views, stream)
                                   : LaunchBinary<T, T>(args, views, stream);
    }
  });
}

Status Where(const WhereArgs& args, Stream stream) {
  Views<3> views;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeViews(
      "Where", args.shape, {args.condition_strides, args.a_strides, args.b_strides}, &views));
  if (views.count == 0) return Status::Ok();
  if (args.condition == nullptr || args.a == nullptr || args.b == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("Where: an operand is missing");
  }
  return DispatchElementSize(SizeOf(args.type), [&](auto tag) {
    using Word = typename decltype(tag)::type;
    WhereKernel<Word><<<GridOf(views.count), kThreads, 0, stream>>>(
        static_cast<const bool*>(args.condition), static_cast<const Word*>(args.a),
        static_cast<const Word*>(args.b), static_cast<Word*>(args.y), views);
    return LaunchStatus("Where");
  });
}

Status Cast(const CastArgs& args, Stream stream) {
  if (args.count < 0) return Status::InvalidArgument("Cast: the count is negative");
  if (args.count == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("Cast: x or y is missing");
  }
  return DispatchType(args.from, [&](auto from) {
    return DispatchType(args.to, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      const std::int64_t whole = Aligned(args.x) && Aligned(args.y) ? args.count / kVector : 0;
      CastKernel<From, To><<<GridOf(whole > 0 ? whole : args.count), kThreads, 0, stream>>>(
          static_cast<const From*>(args.x), static_cast<To*>(args.y), args.count, whole);
      return LaunchStatus("Cast");
    });
  });
}

}  // namespace batch_invariant::cuda
