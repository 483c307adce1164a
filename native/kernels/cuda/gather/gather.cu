// Gather and GatherBlockQuantized (batch_invariant/cuda/gather.h), one thread an element or 16
// bytes.
#include <algorithm>
#include <limits>

#include "batch_invariant/cuda/gather.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/dispatch.cuh"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

unsigned GridOf(std::int64_t items) {
  return static_cast<unsigned>(
      std::min<std::int64_t>(CeilDiv(items, kThreads), std::numeric_limits<int>::max()));
}

// -1 when outside the axis.
__device__ __forceinline__ std::int64_t IndexAt(const void* indices, DataType type, std::int64_t at,
                                                std::int64_t axis) {
  std::int64_t index = type == DataType::kInt64 ? static_cast<const std::int64_t*>(indices)[at]
                                                : static_cast<const std::int32_t*>(indices)[at];
  if (index < 0) index += axis;
  return index < axis ? index : -1;
}

template <typename Word>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const __grid_constant__ GatherArgs args, std::int64_t words) {
  const auto* data = static_cast<const Word*>(args.data);
  auto* y = static_cast<Word*>(args.y);
  const std::int64_t total = args.outer * args.count * words;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < total;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t piece = i / words, word = i - piece * words;
    const std::int64_t outer = piece / args.count;
    const std::int64_t index =
        IndexAt(args.indices, args.index_type, piece - outer * args.count, args.axis);
    y[i] = index < 0 ? Word{} : data[(outer * args.axis + index) * words + word];
  }
}

__device__ __forceinline__ int Quantised(const std::uint8_t* row, std::int64_t element, int bits,
                                         bool is_signed) {
  if (bits == 8) {
    return is_signed ? static_cast<std::int8_t>(row[element]) : static_cast<int>(row[element]);
  }
  const int value = row[element / 2] >> (element % 2 * 4) & 0xf;
  return is_signed && value >= 8 ? value - 16 : value;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatherBlockQuantizedKernel(const __grid_constant__ GatherBlockQuantizedArgs args) {
  const std::int64_t blocks = (args.width + args.block_size - 1) / args.block_size;
  const std::int64_t row_bytes = (args.width * args.bits + 7) / 8;
  const std::int64_t zero_bytes = (blocks * args.bits + 7) / 8;
  const std::int64_t total = args.count * args.width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < total;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t c = i / args.width, element = i - c * args.width;
    const std::int64_t row = IndexAt(args.indices, args.index_type, c, args.rows);
    float value = 0.0f;
    if (row >= 0) {
      const std::int64_t block = element / args.block_size;
      int zero = args.is_signed ? 0 : 1 << (args.bits - 1);
      if (args.zero_points != nullptr) {
        zero = Quantised(static_cast<const std::uint8_t*>(args.zero_points) + row * zero_bytes,
                         block, args.bits, args.is_signed);
      }
      const int q = Quantised(static_cast<const std::uint8_t*>(args.data) + row * row_bytes,
                              element, args.bits, args.is_signed);
      value = __fmul_rn(static_cast<float>(q - zero),
                        ToFloat(static_cast<const T*>(args.scales)[row * blocks + block]));
    }
    static_cast<T*>(args.y)[i] = FromFloat<T>(value);
  }
}

bool IsIndexType(DataType type) { return type == DataType::kInt32 || type == DataType::kInt64; }

}  // namespace

Status Gather(const GatherArgs& args, Stream stream) {
  if (args.outer < 0 || args.axis < 0 || args.inner < 0 || args.count < 0) {
    return Status::InvalidArgument("Gather: a size is negative");
  }
  if (!IsIndexType(args.index_type)) {
    return Status::InvalidArgument("Gather: indices must be int32 or int64");
  }
  if (args.outer * args.inner * args.count == 0) return Status::Ok();
  if ((args.data == nullptr && args.axis > 0) || args.indices == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("Gather: an operand is missing");
  }
  const std::int64_t size = SizeOf(args.type), bytes = size * args.inner;
  const bool wide = bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(args.data) % 16 == 0 &&
                    reinterpret_cast<std::uintptr_t>(args.y) % 16 == 0;
  const std::int64_t word = wide ? 16 : size;
  return DispatchWordSize(word, [&](auto tag) {
    using Word = typename decltype(tag)::type;
    const std::int64_t words = bytes / word;
    GatherKernel<Word>
        <<<GridOf(args.outer * args.count * words), kThreads, 0, stream>>>(args, words);
    return LaunchStatus("Gather");
  });
}

Status GatherBlockQuantized(const GatherBlockQuantizedArgs& args, Stream stream) {
  if (args.rows < 0 || args.width < 0 || args.count < 0) {
    return Status::InvalidArgument("GatherBlockQuantized: a size is negative");
  }
  if (args.bits != 4 && args.bits != 8) {
    return Status::Unsupported("GatherBlockQuantized: " + std::to_string(args.bits) +
                               " bits; 4 and 8 are served");
  }
  if (args.block_size < 16 || (args.block_size & (args.block_size - 1)) != 0) {
    return Status::InvalidArgument("GatherBlockQuantized: block size " +
                                   std::to_string(args.block_size) +
                                   " is not a power of two from 16 on");
  }
  if (!IsIndexType(args.index_type)) {
    return Status::InvalidArgument("GatherBlockQuantized: indices must be int32 or int64");
  }
  if (args.count * args.width == 0) return Status::Ok();
  if (args.data == nullptr || args.scales == nullptr || args.indices == nullptr ||
      args.y == nullptr) {
    return Status::InvalidArgument("GatherBlockQuantized: an operand is missing");
  }
  const unsigned grid = GridOf(args.count * args.width);
  switch (args.type) {
    case ElementType::kFloat32:
      GatherBlockQuantizedKernel<float><<<grid, kThreads, 0, stream>>>(args);
      break;
    case ElementType::kFloat16:
      GatherBlockQuantizedKernel<__half><<<grid, kThreads, 0, stream>>>(args);
      break;
    case ElementType::kBFloat16:
      GatherBlockQuantizedKernel<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(args);
      break;
  }
  return LaunchStatus("GatherBlockQuantized");
}

}  // namespace batch_invariant::cuda
