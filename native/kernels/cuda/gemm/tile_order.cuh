// The order in which persistent blocks take output tiles.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_ORDER_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_ORDER_CUH_

#include <cuda_runtime.h>

namespace batch_invariant::cuda {

// `group` tiles along m, then along n, so that the blocks running at one time share both operands
// in L2 and a group's part of a stays there.
struct TileOrder {
  // Known when the kernel is launched.
  static constexpr bool kOnDevice = false;

  int tiles_m;
  int tiles_n;
  int batch;
  int group;

  __device__ __forceinline__ int count() const { return tiles_m * tiles_n * batch; }
  __device__ __forceinline__ void Locate(int index, int* batch_index, int* m, int* n) const {
    // Few rows: divisions would hold back the first copy.
    if (batch == 1 && tiles_m <= group) {
      *batch_index = 0;
      *n = tiles_m == 1 ? index : index / tiles_m;
      *m = index - *n * tiles_m;
      return;
    }
    const int per_batch = tiles_m * tiles_n;
    *batch_index = index / per_batch;
    index %= per_batch;
    const int first = index / (group * tiles_n) * group;
    const int height = min(group, tiles_m - first);
    index -= first * tiles_n;
    *m = first + index % height;
    *n = index / height;
  }

  // Whether each weight is read by one tile only.
  __device__ __forceinline__ bool ReadsOnce() const { return tiles_m == 1; }
  // Rows, weights and epilogue of the tiles m of `rows` rows.
  template <int kRows>
  __device__ __forceinline__ int FirstRow(int m) const {
    return m * kRows;
  }
  __device__ __forceinline__ const unsigned char* Weights(const unsigned char* packed, int) const {
    return packed;
  }
  template <typename Epilogue>
  __device__ __forceinline__ const Epilogue& EpilogueOf(const Epilogue& epilogue, int) const {
    return epilogue;
  }
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_ORDER_CUH_
