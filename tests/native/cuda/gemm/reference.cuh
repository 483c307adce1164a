// The GEMM contracts as plainly as they can be written, for comparison with every kernel.
#ifndef BATCH_INVARIANT_TESTS_CUDA_GEMM_REFERENCE_CUH_
#define BATCH_INVARIANT_TESTS_CUDA_GEMM_REFERENCE_CUH_

#include <cstdint>

#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/mma.cuh"

namespace batch_invariant::cuda::test {

// fp32 sums before scaling. Strides in elements; k_begin..k_end is the part of K that is summed.
struct Product {
  std::int64_t m, n, k_begin, k_end;
  std::int64_t a_row, a_k, b_k, b_column;
};

// gemm.tc16: one warp an output tile of 16 x 8, straight from global memory.
template <typename T>
__global__ void ReferenceTensorCore(const T* a, const T* b, float* sums, Product p) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const std::int64_t tiles_n = (p.n + 7) / 8;
  const std::int64_t row0 = blockIdx.x / tiles_n * 16, column0 = blockIdx.x % tiles_n * 8;
  const auto read_a = [&](std::int64_t row, std::int64_t k) {
    return row < p.m && k < p.k_end ? a[row * p.a_row + k * p.a_k] : T(0.0f);
  };
  const auto read_b = [&](std::int64_t k, std::int64_t column) {
    return column < p.n && k < p.k_end ? b[k * p.b_k + column * p.b_column] : T(0.0f);
  };
  const auto pair = [](T low, T high) {
    const T both[2] = {low, high};
    std::uint32_t word;
    memcpy(&word, both, 4);
    return word;
  };
  float c[4] = {};
  for (std::int64_t k = p.k_begin; k < p.k_end; k += 16) {
    std::uint32_t fragment_a[4], fragment_b[2];
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = row0 + g + 8 * (i % 2), kk = k + 2 * t + 8 * (i / 2);
      fragment_a[i] = pair(read_a(row, kk), read_a(row, kk + 1));
    }
    for (int i = 0; i < 2; ++i) {
      const std::int64_t kk = k + 2 * t + 8 * i;
      fragment_b[i] = pair(read_b(kk, column0 + g), read_b(kk + 1, column0 + g));
    }
    MmaStep<T>(c, fragment_a, fragment_b[0], fragment_b[1]);
  }
  for (int i = 0; i < 4; ++i) {
    const std::int64_t row = row0 + g + 8 * (i / 2), column = column0 + 2 * t + i % 2;
    if (row < p.m && column < p.n) sums[row * p.n + column] = c[i] + 0.0f;
  }
}

// gemm.f32: one thread an output.
static __global__ void ReferenceF32(const float* a, const float* b, float* sums, Product p) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= p.m * p.n) return;
  const std::int64_t row = i / p.n, column = i % p.n;
  float acc = 0.0f;
  for (std::int64_t k = p.k_begin; k < p.k_end; ++k) {
    acc = fmaf(a[row * p.a_row + k * p.a_k], b[k * p.b_k + column * p.b_column], acc);
  }
  sums[i] = acc;
}

// In double, and the sum of |a b| that bounds its error.
template <typename T>
__global__ void ReferenceDouble(const T* a, const T* b, double* sums, double* magnitudes,
                                Product p) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= p.m * p.n) return;
  const std::int64_t row = i / p.n, column = i % p.n;
  double acc = 0.0, magnitude = 0.0;
  for (std::int64_t k = p.k_begin; k < p.k_end; ++k) {
    const double x = ToFloat(a[row * p.a_row + k * p.a_k]);
    const double y = ToFloat(b[k * p.b_k + column * p.b_column]);
    acc += x * y;
    magnitude += fabs(x * y);
  }
  sums[i] = acc;
  magnitudes[i] = magnitude;
}

// The end of both contracts.
template <typename T>
__global__ void ReferenceFinish(const float* sums, const T* c, std::int64_t c_row,
                                std::int64_t c_column, float alpha, float beta, std::int64_t m,
                                std::int64_t n, T* y, std::int64_t y_row) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= m * n) return;
  const std::int64_t row = i / n, column = i % n;
  float value = sums[i];
  if (c != nullptr) {
    value = fmaf(beta, ToFloat(c[row * c_row + column * c_column]), alpha * value);
  } else if (alpha != 1.0f) {
    value = alpha * value;
  }
  if (sizeof(T) == 4 && isnan(value)) value = __uint_as_float(0x7fc00000u);
  y[row * y_row + column] = FromFloat<T>(value);
}

template <typename T>
void ReferenceSums(const T* a, const T* b, float* sums, const Product& p) {
  if constexpr (sizeof(T) == 4) {
    ReferenceF32<<<static_cast<unsigned>((p.m * p.n + 127) / 128), 128>>>(a, b, sums, p);
  } else {
    const std::int64_t tiles = (p.m + 15) / 16 * ((p.n + 7) / 8);
    ReferenceTensorCore<<<static_cast<unsigned>(tiles), 32>>>(a, b, sums, p);
  }
}

template <typename T>
void Finish(const float* sums, const T* c, std::int64_t c_row, std::int64_t c_column, float alpha,
            float beta, std::int64_t m, std::int64_t n, T* y, std::int64_t y_row) {
  ReferenceFinish<<<static_cast<unsigned>((m * n + 255) / 256), 256>>>(sums, c, c_row, c_column,
                                                                       alpha, beta, m, n, y, y_row);
}

}  // namespace batch_invariant::cuda::test

#endif  // BATCH_INVARIANT_TESTS_CUDA_GEMM_REFERENCE_CUH_
