// Row normalisations on CUDA: RMS (SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization,
// RMSNormalization-23) and mean/variance (LayerNormalization, SkipLayerNormalization).
//
// Contract norm.cuda, fp32 inside, for a row of `width` elements. First, where given,
//   s = (x + skip) + bias, each addition rounded in fp32, s rounded to the element type; s = x
//   without
// both. Then with S(.) the sum below and n = float(width)
//   RMS:    inv = 1 / sqrt(S(s*s) / n + epsilon);  y = (s * inv) * gamma
//   layer:  mean = S(s) / n;  d = s - mean;
//           inv = 1 / sqrt(S(d*d) / n + epsilon);  y = fma(d * inv, gamma, beta), or the product
//           alone when beta is null
// with y rounded to the element type once; gamma counts as 1 when null. With round_before_scale
// (ONNX RMSNormalization-23) s * inv is rounded to the element type first.
//   S adds P = 8 T partials: with R = ceil(width / 2048), T is 32 * ceil(width / (256 R)), at most
//   256. Element i goes to partial i mod P in ascending i (squares by fma). Partial 8 t + j: first
//   the eight j are added in halves (j + 4, + 2, + 1), then the t inside each 32 (t ^ 16, ^ 8, ^ 4,
//   ^ 2, ^ 1), then the groups of 32, filled up to 8 with zeros, in halves.
// T depends on the width alone. Divisions, square roots and reciprocals are correctly rounded.
#ifndef BATCH_INVARIANT_CUDA_NORM_H_
#define BATCH_INVARIANT_CUDA_NORM_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

inline constexpr const char* kNormContract = "norm.cuda.v1";

struct NormArgs {
  ElementType type = ElementType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float epsilon = 1e-5f;
  bool round_before_scale = false;  // RMS only

  const void* x = nullptr;      // [rows, width]
  const void* skip = nullptr;   // [skip_rows, width]; row r adds skip row r % skip_rows
  std::int64_t skip_rows = 0;   // divides rows
  const void* bias = nullptr;   // [width]
  const void* gamma = nullptr;  // [width]
  // Gamma is a constant: it may be read before kernels ahead in the stream have finished.
  bool gamma_is_ready = false;
  const void* beta = nullptr;  // [width]; layer only
  void* y = nullptr;           // [rows, width]; may be x
  float* mean = nullptr;       // [rows], optional; RMS writes 0
  float* inv_std = nullptr;    // [rows], optional: inv
  void* sum = nullptr;         // [rows, width], optional: s; may be x or skip (not broadcast)
};

// Enqueue on `stream`; allocate nothing, wait for nothing, can be captured in a graph.
// kInvalidArgument: a negative size, a missing operand, skip_rows that does not divide rows.
// kUnsupported: a size above 2^31 - 1. kDeviceError: the launch failed.
Status RmsNorm(const NormArgs& args, Stream stream);
Status LayerNorm(const NormArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_NORM_H_
