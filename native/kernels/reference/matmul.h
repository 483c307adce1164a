// The definition of contract gemm.f32, in plain loops.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "batch_invariant/cpu/matmul.h"

namespace batch_invariant::reference {

// A NaN has one form in every output.
inline float Canonical(float x) { return std::isnan(x) ? std::bit_cast<float>(0x7fc00000u) : x; }

// `args.b` must be given, not packed_b.
inline void MatMul(const cpu::MatMulArgs& args) {
  for (int64_t p = 0; p < args.batch; ++p) {
    const float* a = args.a.data + (args.a_offsets != nullptr ? args.a_offsets[p] : 0);
    const float* b = args.b.data + (args.b_offsets != nullptr ? args.b_offsets[p] : 0);
    float* y = args.y + p * args.y_batch_stride;
    for (int64_t i = 0; i < args.m; ++i) {
      for (int64_t j = 0; j < args.n; ++j) {
        float acc = 0.0f;
        for (int64_t k = 0; k < args.k; ++k) {
          acc = std::fma(a[i * args.a.row_stride + k * args.a.column_stride],
                         b[k * args.b.row_stride + j * args.b.column_stride], acc);
        }
        const bool has_c = args.c.data != nullptr && args.beta != 0.0f;
        if (args.alpha != 1.0f || has_c) acc = args.alpha * acc;
        if (has_c) {
          const float c = args.c.data[i * args.c.row_stride + j * args.c.column_stride];
          acc = std::fma(args.beta, c, acc);
        }
        y[i * args.y_row_stride + j] = Canonical(acc);
      }
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_H_
