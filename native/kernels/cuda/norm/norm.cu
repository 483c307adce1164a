#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "batch_invariant/cuda/norm.h"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/norm/norm_kernel.cuh"
#include "kernels/cuda/norm/norm_rows_kernel.cuh"

namespace batch_invariant::cuda {
namespace {

bool Aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

Status Check(const NormArgs& args, const char* name) {
  const std::string op = name;
  if (args.rows < 0 || args.width < 0) {
    return Status::InvalidArgument(op + ": a size is negative");
  }
  if (args.rows > 0 && args.width > 0 && (args.x == nullptr || args.y == nullptr)) {
    return Status::InvalidArgument(op + ": x or y is missing");
  }
  if (args.skip != nullptr &&
      (args.skip_rows < 1 || (args.rows > 0 && args.rows % args.skip_rows != 0))) {
    return Status::InvalidArgument(op + ": skip has " + std::to_string(args.skip_rows) +
                                   " rows, which do not divide the input's " +
                                   std::to_string(args.rows));
  }
  if (args.rows > std::numeric_limits<std::int32_t>::max() ||
      args.width > std::numeric_limits<std::int32_t>::max() / 2) {
    return Status::Unsupported(op + ": a size is above what one launch covers");
  }
  return Status::Ok();
}

template <typename T, bool kLayer>
Status Launch(const NormArgs& args, const char* name, Stream stream) {
  const int threads = RowThreads(args.width);
  const dim3 block(threads, RowsAtOnce(threads));
  const std::int64_t groups = CeilDiv(args.rows, block.y);
  const bool vectors = args.width % kRowVector == 0 && Aligned(args.x) && Aligned(args.skip) &&
                       Aligned(args.bias) && Aligned(args.gamma) && Aligned(args.beta) &&
                       Aligned(args.y) && Aligned(args.sum);
  const std::int64_t chunks = CeilDiv(args.width, std::int64_t{threads} * kRowVector);
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  const auto launch = [&](auto kernel, std::int64_t grid, auto... more) {
    return LaunchOverlapped(kernel, dim3(static_cast<unsigned>(grid)), block, 0, CanOverlap(device),
                            stream, name, args, more...);
  };
  const auto launch_rows = [&](auto count) {
    constexpr int kChunks = count.value;
    const std::int64_t resident = device.multiprocessors * NormRowsBlocks<T, kChunks>();
    return launch(NormRowsKernel<T, kChunks, kLayer>, std::min(groups, resident));
  };
  if (vectors && chunks <= 1) return launch_rows(std::integral_constant<int, 1>{});
  if (vectors && chunks <= 2) return launch_rows(std::integral_constant<int, 2>{});
  if constexpr (sizeof(T) == 2) {
    if (vectors && chunks <= 3) return launch_rows(std::integral_constant<int, 3>{});
    if (vectors && chunks <= 4) return launch_rows(std::integral_constant<int, 4>{});
  }
  if (chunks <= 2) return launch(NormKernel<T, 2, kLayer>, groups, vectors);
  if constexpr (sizeof(T) == 4) {
    if (chunks <= 4) return launch(NormKernel<T, 4, kLayer>, groups, vectors);
  }
  return launch(NormKernel<T, 0, kLayer>, groups, vectors);
}

template <bool kLayer>
Status Run(const NormArgs& args, const char* name, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args, name));
  if (args.rows == 0 || args.width == 0) return Status::Ok();
  switch (args.type) {
    case ElementType::kFloat32:
      return Launch<float, kLayer>(args, name, stream);
    case ElementType::kFloat16:
      return Launch<__half, kLayer>(args, name, stream);
    case ElementType::kBFloat16:
      return Launch<__nv_bfloat16, kLayer>(args, name, stream);
  }
  return Status::Unsupported("norm: unknown element type");
}

}  // namespace

Status RmsNorm(const NormArgs& args, Stream stream) {
  return Run<false>(args, "RMS normalisation", stream);
}

Status LayerNorm(const NormArgs& args, Stream stream) {
  return Run<true>(args, "layer normalisation", stream);
}

}  // namespace batch_invariant::cuda
