// Gather (ONNX) and GatherBlockQuantized (com.microsoft) on CUDA.
#ifndef BATCH_INVARIANT_CUDA_GATHER_H_
#define BATCH_INVARIANT_CUDA_GATHER_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// Both enqueue on `stream`, allocate nothing, wait for nothing and can be captured in a graph. An
// index counts from the end when negative; one outside the axis gives zeros, since lengths of a
// graph's data are not known on the host. kInvalidArgument: a size or operand that does not fit.

// y[o, c, i] = data[o, indices[c], i], of shape [outer, count, inner].
struct GatherArgs {
  DataType type = DataType::kFloat32;
  DataType index_type = DataType::kInt64;  // or kInt32
  std::int64_t outer = 1;
  std::int64_t axis = 0;  // length of the gathered axis
  std::int64_t inner = 1;
  std::int64_t count = 0;
  const void* data = nullptr;
  const void* indices = nullptr;
  void* y = nullptr;
};
Status Gather(const GatherArgs& args, Stream stream);

// y[c, i] = (q[indices[c], i] - zero) * scale: rows of a matrix quantised along its rows in blocks;
// the difference is exact, the product is rounded once. Gather axis 0, quantise axis last.
struct GatherBlockQuantizedArgs {
  ElementType type = ElementType::kFloat32;
  DataType index_type = DataType::kInt64;  // or kInt32
  int bits = 4;                            // 4 (low half of a byte first) or 8
  bool is_signed = false;                  // int4 or int8 instead of uint4 or uint8
  std::int64_t rows = 0;
  std::int64_t width = 0;       // elements of a row
  std::int64_t block_size = 0;  // a power of two, at least 16
  std::int64_t count = 0;
  const void* data = nullptr;    // [rows, width * bits / 8], rows from whole bytes on
  const void* scales = nullptr;  // [rows, ceil(width / block_size)], element type
  // Packed like data, [rows, ceil(blocks * bits / 8)]; null: 0 when signed, else 2^(bits - 1).
  const void* zero_points = nullptr;
  const void* indices = nullptr;
  void* y = nullptr;  // [count, width]
};
Status GatherBlockQuantized(const GatherBlockQuantizedArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_GATHER_H_
