// Row normalisations in fp32, contract norm.f32: RMS (SimplifiedLayerNormalization,
// RMSNormalization, SkipSimplifiedLayerNormalization) and mean/variance (LayerNormalization,
// SkipLayerNormalization).
#ifndef BATCH_INVARIANT_CPU_NORM_H_
#define BATCH_INVARIANT_CPU_NORM_H_

#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

// One call normalises `rows` rows of `width` elements. First, where given,
//   s = (x + skip) + bias                        each addition rounded; s = x without both
// then, with T(.) the tree of norm.f32 over the row and n = float(width),
//   RMS:    inv = 1 / sqrt(T(s*s) / n + epsilon);                     y = (s * inv) * gamma
//   layer:  mean = T(s) / n;  d = s - mean;
//           inv = 1 / sqrt(T(d*d) / n + epsilon);                     y = fma(d * inv, gamma, beta)
// with beta left out (plain multiplication) when it is null, and gamma = 1 when that is null.
// Divisions and square roots are correctly rounded. A row holding NaN or Inf gives NaN (or what the
// formula gives) in that row alone.
struct NormArgs {
  int64_t rows = 0;
  int64_t width = 0;
  float epsilon = 1e-5f;
  const float* x = nullptr;      // [rows, width]
  const float* skip = nullptr;   // [skip_rows, width]; row r adds skip row r % skip_rows
  int64_t skip_rows = 0;         // rows, or the length of a broadcast skip
  const float* bias = nullptr;   // [width], added before the norm
  const float* gamma = nullptr;  // [width]
  const float* beta = nullptr;   // [width]
  float* y = nullptr;            // [rows, width]; may be x
  float* mean = nullptr;         // [rows], optional; RMS writes 0
  float* inv_std = nullptr;      // [rows], optional: inv
  float* sum = nullptr;          // [rows, width], optional: s; may be x or skip (not broadcast)
};

// kInvalidArgument: a negative size, a missing operand, skip_rows that does not divide rows.
Status RmsNormF32(const Context& context, const NormArgs& args);
Status LayerNormF32(const Context& context, const NormArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_NORM_H_
