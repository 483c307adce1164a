// The self-test's data, made on the device, and its comparison. Everything is enqueued on a stream.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_DATA_H_
#define BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_DATA_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/matmul_nbits.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// A matrix of pseudo-random numbers, normal and times `scale`. Columns from `period` on repeat the
// first ones up to 2 * period, negated in even rows where `cancels`; what follows is 0 there. The
// product of two rows, one of a matrix that cancels and one of a matrix that does not, is then the
// rounding error of its sum.
struct CancellingMatrix {
  ElementType type = ElementType::kFloat32;
  void* data = nullptr;  // element (row, column) at row * row_stride + column * column_stride
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_stride = 0, column_stride = 1;
  std::int64_t period = 0;
  bool cancels = false;
  float scale = 1.0f;
  std::uint32_t seed = 0;
};
Status Fill(const CancellingMatrix& matrix, Stream stream);

// Weights of a MatMulNBits node of 4 or 8 bits that cancel likewise; period is a multiple of the
// block size. `zero_points` is null for ZeroPoints::kDefault.
Status FillNBits(const MatMulNBitsPlan& plan, std::int64_t period, float scale, std::uint32_t seed,
                 void* b, void* scales, void* zero_points, Stream stream);

// out[i] = first + i * step.
Status FillSequence(std::int32_t* out, int count, int first, int step, Stream stream);

// Adds to *different how many of `count` elements of 2 or 4 bytes differ in any bit.
Status CountDifferent(const void* x, const void* y, std::int64_t count, std::size_t element_bytes,
                      std::uint32_t* different, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_SELF_TEST_DATA_H_
