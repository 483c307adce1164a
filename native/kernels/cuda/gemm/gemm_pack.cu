// Weight packing: b [k, n] with any strides into the layout of packed_layout.h.
#include <algorithm>
#include <cstdint>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/gemm/packed_layout.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kTile = 32;

struct RowLayout {
  std::int64_t row;
  __device__ std::int64_t operator()(std::int64_t n, std::int64_t k) const { return n * row + k; }
};

struct TileLayout {
  std::int64_t tiles_k;
  __device__ std::int64_t operator()(std::int64_t n, std::int64_t k) const {
    return (n / kPackedColumns * tiles_k + k / kPackedK) * kPackedTile +
           n % kPackedColumns * kPackedK + k % kPackedK;
  }
};

// Word is an unsigned integer of the element's size: bits are moved, not numbers. rows x columns of
// b are copied, filled_k x filled_n written.
template <typename Word, typename Layout>
__global__ void PackWeights(const Word* b, std::int64_t row_stride, std::int64_t column_stride,
                            std::int64_t k, std::int64_t n, std::int64_t filled_k,
                            std::int64_t filled_n, Layout layout, Word* packed) {
  __shared__ Word tile[kTile][kTile + 1];
  const std::int64_t k0 = std::int64_t{blockIdx.x} * kTile;
  // The grid's second dimension is limited to 65535 blocks.
  for (std::int64_t n0 = std::int64_t{blockIdx.y} * kTile; n0 < filled_n;
       n0 += std::int64_t{gridDim.y} * kTile) {
    for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
      const std::int64_t row = k0 + i, column = n0 + threadIdx.x;
      tile[i][threadIdx.x] =
          row < k && column < n ? b[row * row_stride + column * column_stride] : Word{0};
    }
    __syncthreads();
    for (int i = threadIdx.y; i < kTile; i += blockDim.y) {
      const std::int64_t column = n0 + i, row = k0 + threadIdx.x;
      if (column < filled_n && row < filled_k) packed[layout(column, row)] = tile[threadIdx.x][i];
    }
    __syncthreads();
  }
}

// Columns of one of two matrices that alternate in groups of eight.
template <typename Layout>
struct AlternatingLayout {
  Layout layout;
  int offset;  // 0 or 8
  __device__ std::int64_t operator()(std::int64_t n, std::int64_t k) const {
    return layout(n / 8 * 16 + n % 8 + offset, k);
  }
};

template <typename Word, typename Layout>
Status Pack(std::int64_t k, std::int64_t n, std::int64_t filled_k, std::int64_t filled_n,
            const MatrixView& b, Layout layout, void* packed, Stream stream) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(filled_k, kTile)),
                  static_cast<unsigned>(std::min<std::int64_t>(CeilDiv(filled_n, kTile), 65535)));
  PackWeights<Word><<<grid, dim3(kTile, 8), 0, stream>>>(
      static_cast<const Word*>(b.data), b.row_stride, b.column_stride, k, n, filled_k, filled_n,
      layout, static_cast<Word*>(packed));
  return LaunchStatus("PackGemmWeights");
}

}  // namespace

std::size_t PackedGemmWeightBytes(ElementType type, std::int64_t k, std::int64_t n) {
  if (type == ElementType::kFloat32) return static_cast<std::size_t>(PackedF32Row(k) * n) * 4;
  return static_cast<std::size_t>(PackedTilesK(k) * PackedTilesN(n) * kPackedTile) * 2;
}

Status PackGemmWeights(ElementType type, std::int64_t k, std::int64_t n, const MatrixView& b,
                       void* packed, Stream stream) {
  if (k < 0 || n < 0) return Status::InvalidArgument("MatMul weights: a negative size");
  if (k == 0 || n == 0) return Status::Ok();
  if (b.data == nullptr || packed == nullptr) {
    return Status::InvalidArgument("MatMul weights: a missing buffer");
  }
  if (type == ElementType::kFloat32) {
    return Pack<std::uint32_t>(k, n, PackedF32Row(k), n, b, RowLayout{PackedF32Row(k)}, packed,
                               stream);
  }
  return Pack<std::uint16_t>(k, n, PackedTilesK(k) * kPackedK, PackedTilesN(n) * kPackedColumns, b,
                             TileLayout{PackedTilesK(k)}, packed, stream);
}

Status PackGatedGemmWeights(ElementType type, std::int64_t k, std::int64_t n,
                            const MatrixView& gate, const MatrixView& up, void* packed,
                            Stream stream) {
  if (k < 1 || n < 1 || n % 8 != 0) {
    return Status::InvalidArgument("gated MatMul weights: N is no multiple of 8, or K is 0");
  }
  if (gate.data == nullptr || up.data == nullptr || packed == nullptr) {
    return Status::InvalidArgument("gated MatMul weights: a missing buffer");
  }
  const auto pack = [&](const MatrixView& b, int offset) {
    if (type == ElementType::kFloat32) {
      const std::int64_t row = PackedF32Row(k);
      return Pack<std::uint32_t>(k, n, row, n, b, AlternatingLayout<RowLayout>{{row}, offset},
                                 packed, stream);
    }
    const std::int64_t tiles_k = PackedTilesK(k);
    return Pack<std::uint16_t>(k, n, tiles_k * kPackedK, n, b,
                               AlternatingLayout<TileLayout>{{tiles_k}, offset}, packed, stream);
  };
  BATCH_INVARIANT_RETURN_IF_ERROR(pack(gate, 0));
  return pack(up, 8);
}

}  // namespace batch_invariant::cuda
