// Gated activations (batch_invariant/cuda/elementwise.h), eight neighbours a thread where rows
// allow it. One kernel an activation: a choice inside the loop would cost more than the arithmetic.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "batch_invariant/cuda/elementwise.h"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/elementwise/functions.cuh"
#include "kernels/cuda/elementwise/silu.cuh"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

template <typename T>
struct alignas(16) Eight {
  T x[kVector];
};

bool Aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <typename T, UnaryOp kActivation>
__device__ __forceinline__ T GatedElement(const GatedArgs& args, T gate, T up) {
  const float g = ToFloat(gate), u = ToFloat(up);
  if (args.round_between && kActivation == UnaryOp::kSilu) {
    return FromFloat<T>(SiluTimes<T>(g, u));
  }
  float activated = ApplyUnary(kActivation, g, args.alpha);
  if (args.round_between) activated = ToFloat(FromFloat<T>(activated));
  return FromFloat<T>(__fmul_rn(activated, u));
}

template <typename T, UnaryOp kActivation>
__global__ void __launch_bounds__(kThreads)
    GatedKernel(const __grid_constant__ GatedArgs args, bool vectors) {
  LaunchDependents();
  WaitForDependencies();
  const auto* gate = static_cast<const T*>(args.gate);
  const auto* up = static_cast<const T*>(args.up);
  auto* y = static_cast<T*>(args.y);
  const int width = static_cast<int>(args.width);
  const int pieces = vectors ? width / kVector : width;
  // Where the operands of a piece or an element lie in their rows.
  const auto place = [&](int i) {
    return !args.interleaved ? i : vectors ? 2 * i : i / kVector * 2 * kVector + i % kVector;
  };
  const int piece = blockIdx.x * kThreads + threadIdx.x;
  if (piece >= pieces) return;
  for (std::int64_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const T* g = gate + row * args.gate_stride;
    const T* u = up + row * args.up_stride;
    T* out = y + row * args.y_stride;
    if (vectors) {
      const Eight<T> vg = reinterpret_cast<const Eight<T>*>(g)[place(piece)];
      const Eight<T> vu = reinterpret_cast<const Eight<T>*>(u)[place(piece)];
      Eight<T> vy;
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        vy.x[j] = GatedElement<T, kActivation>(args, vg.x[j], vu.x[j]);
      reinterpret_cast<Eight<T>*>(out)[piece] = vy;
    } else {
      out[piece] = GatedElement<T, kActivation>(args, g[place(piece)], u[place(piece)]);
    }
  }
}

template <typename T>
Status LaunchGated(const GatedArgs& args, Stream stream) {
  const bool vectors = args.width % kVector == 0 && args.gate_stride % kVector == 0 &&
                       args.up_stride % kVector == 0 && args.y_stride % kVector == 0 &&
                       Aligned(args.gate) && Aligned(args.up) && Aligned(args.y);
  const std::int64_t pieces = vectors ? args.width / kVector : args.width;
  const dim3 grid(static_cast<unsigned>(CeilDiv(pieces, kThreads)),
                  static_cast<unsigned>(std::min<std::int64_t>(args.rows, 65535)));
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  const auto launch = [&](auto kernel) {
    return LaunchOverlapped(kernel, grid, kThreads, 0, CanOverlap(device), stream,
                            "gated activation", args, vectors);
  };
  switch (args.activation) {
    case UnaryOp::kSilu:
      return launch(GatedKernel<T, UnaryOp::kSilu>);
    case UnaryOp::kGelu:
      return launch(GatedKernel<T, UnaryOp::kGelu>);
    case UnaryOp::kGeluTanh:
      return launch(GatedKernel<T, UnaryOp::kGeluTanh>);
    case UnaryOp::kQuickGelu:
      return launch(GatedKernel<T, UnaryOp::kQuickGelu>);
    case UnaryOp::kSigmoid:
      return launch(GatedKernel<T, UnaryOp::kSigmoid>);
    default:
      return Status::Unsupported("gated activation: not an activation of gated layers");
  }
}

}  // namespace

Status Gated(const GatedArgs& args, Stream stream) {
  if (args.rows < 0 || args.width < 0 || args.width > std::numeric_limits<int>::max()) {
    return Status::InvalidArgument("gated activation: a size is out of range");
  }
  if (args.rows == 0 || args.width == 0) return Status::Ok();
  if (args.gate == nullptr || args.up == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("gated activation: an operand is missing");
  }
  if (args.interleaved && args.width % kVector != 0) {
    return Status::InvalidArgument("gated activation: interleaved rows are no groups of eight");
  }
  if (args.gate_stride < args.width || args.up_stride < args.width || args.y_stride < args.width) {
    return Status::InvalidArgument("gated activation: a stride is shorter than a row");
  }
  switch (args.type) {
    case ElementType::kFloat32:
      return LaunchGated<float>(args, stream);
    case ElementType::kFloat16:
      return LaunchGated<__half>(args, stream);
    case ElementType::kBFloat16:
      return LaunchGated<__nv_bfloat16>(args, stream);
  }
  return Status::Unsupported("gated activation: unknown element type");
}

}  // namespace batch_invariant::cuda
