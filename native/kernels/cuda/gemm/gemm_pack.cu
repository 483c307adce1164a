// Weight packing: b [k, n] with any strides -> rows of K, padded with zeros to 16 bytes.
#include <algorithm>
#include <cstdint>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kTile = 32;

std::int64_t PackedRow(ElementType type, std::int64_t k) {
  const std::int64_t per_vector = 16 / static_cast<std::int64_t>(ElementSize(type));
  return CeilDiv(k, per_vector) * per_vector;
}

// Word is an unsigned integer of the element's size: bits are moved, not numbers.
template <typename Word>
__global__ void PackWeights(const Word* b, std::int64_t row_stride, std::int64_t column_stride,
                            std::int64_t k, std::int64_t n, std::int64_t packed_row, Word* packed) {
  __shared__ Word tile[kTile][kTile + 1];
  const std::int64_t k0 = std::int64_t{blockIdx.x} * kTile;
  // The grid's second dimension is limited to 65535 blocks.
  for (std::int64_t n0 = std::int64_t{blockIdx.y} * kTile; n0 < n;
       n0 += std::int64_t{gridDim.y} * kTile) {
    for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
      const std::int64_t row = k0 + i, column = n0 + threadIdx.x;
      tile[i][threadIdx.x] =
          row < k && column < n ? b[row * row_stride + column * column_stride] : Word{0};
    }
    __syncthreads();
    for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
      const std::int64_t column = n0 + i, row = k0 + threadIdx.x;
      if (column < n && row < packed_row) packed[column * packed_row + row] = tile[threadIdx.x][i];
    }
    __syncthreads();
  }
}

}  // namespace

bool GemmWeightsNeedPacking(ElementType type, const MatrixView& b) {
  const std::int64_t per_vector = 16 / static_cast<std::int64_t>(ElementSize(type));
  return b.row_stride != 1 || b.column_stride % per_vector != 0 ||
         reinterpret_cast<std::uintptr_t>(b.data) % 16 != 0;
}

std::size_t PackedGemmWeightBytes(ElementType type, std::int64_t k, std::int64_t n) {
  return static_cast<std::size_t>(PackedRow(type, k) * n) * ElementSize(type);
}

Status PackGemmWeights(ElementType type, std::int64_t k, std::int64_t n, const MatrixView& b,
                       void* packed, Stream stream) {
  if (k < 0 || n < 0) return Status::InvalidArgument("MatMul weights: a negative size");
  if (k == 0 || n == 0) return Status::Ok();
  if (b.data == nullptr || packed == nullptr) {
    return Status::InvalidArgument("MatMul weights: a missing buffer");
  }
  const std::int64_t packed_row = PackedRow(type, k);
  const dim3 grid(static_cast<unsigned>(CeilDiv(packed_row, kTile)),
                  static_cast<unsigned>(std::min<std::int64_t>(CeilDiv(n, kTile), 65535)));
  const dim3 block(kTile, 8);
  if (type == ElementType::kFloat32) {
    PackWeights<<<grid, block, 0, stream>>>(static_cast<const std::uint32_t*>(b.data), b.row_stride,
                                            b.column_stride, k, n, packed_row,
                                            static_cast<std::uint32_t*>(packed));
  } else {
    PackWeights<<<grid, block, 0, stream>>>(static_cast<const std::uint16_t*>(b.data), b.row_stride,
                                            b.column_stride, k, n, packed_row,
                                            static_cast<std::uint16_t*>(packed));
  }
  return LaunchStatus("PackGemmWeights");
}

MatrixView PackedGemmWeights(ElementType type, std::int64_t k, const void* packed) {
  return {packed, 1, PackedRow(type, k)};
}

}  // namespace batch_invariant::cuda
