// The definition of RotaryF32 in plain loops.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_ROTARY_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_ROTARY_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "batch_invariant/cpu/rotary.h"

namespace batch_invariant::reference {

// One head: x and y have head_size elements and may be the same.
inline void RotateHead(const float* x, const float* cosine, const float* sine, int64_t head_size,
                       int64_t rotary_dim, bool interleaved, float* y) {
  const int64_t half = rotary_dim / 2;
  const std::vector<float> in(x, x + head_size);
  for (int64_t i = 0; i < half; ++i) {
    const int64_t first = interleaved ? 2 * i : i;
    const int64_t second = interleaved ? 2 * i + 1 : i + half;
    const float u = in[first], v = in[second];
    y[first] = std::fma(u, cosine[i], -(v * sine[i]));
    y[second] = std::fma(v, cosine[i], u * sine[i]);
  }
  for (int64_t i = rotary_dim; i < head_size; ++i) y[i] = in[i];
}

inline void Rotary(const cpu::RotaryArgs& args) {
  const int64_t half = args.rotary_dim / 2;
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t s = 0; s < args.tokens; ++s) {
      int64_t position = b * args.tokens + s;
      if (args.positions == cpu::RotaryPositions::kOffset) position = args.position_ids[0] + s;
      if (args.positions == cpu::RotaryPositions::kPerToken) position = args.position_ids[position];
      for (int64_t h = 0; h < args.heads; ++h) {
        RotateHead(args.x + b * args.x_batch + h * args.x_head + s * args.x_token,
                   args.cos_cache + position * half, args.sin_cache + position * half,
                   args.head_size, args.rotary_dim, args.interleaved,
                   args.y + b * args.y_batch + h * args.y_head + s * args.y_token);
      }
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_ROTARY_H_
