// Rotary position embedding in fp32 (RotaryEmbedding of com.microsoft and of opset 23).
#ifndef BATCH_INVARIANT_CPU_ROTARY_H_
#define BATCH_INVARIANT_CPU_ROTARY_H_

#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

// Which row of the caches token s of batch row b uses.
enum class RotaryPositions : uint8_t {
  kOffset,    // position_ids[0] + s            (position_ids is [1])
  kPerToken,  // position_ids[b * tokens + s]   (position_ids is [batch, tokens])
  kDirect,    // b * tokens + s                 (no position_ids; the caches are [batch, tokens,
              // half])
};

// The pair (u, v) of each head is (x[i], x[i + half]), or (x[2i], x[2i+1]) when interleaved, with
// half = rotary_dim / 2; i < half. It becomes
//   u' = fma(u, cos, -(v * sin));   v' = fma(v, cos, u * sin)      the inner product rounded
// and elements from rotary_dim on are copied. Element (b, h, s, d) of x lies at
// b * x_batch + h * x_head + s * x_token + d; y likewise.
struct RotaryArgs {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t head_size = 0;
  int64_t rotary_dim = 0;  // even, at most head_size
  bool interleaved = false;
  const float* x = nullptr;
  int64_t x_batch = 0, x_head = 0, x_token = 0;
  float* y = nullptr;  // may be x, with its strides
  int64_t y_batch = 0, y_head = 0, y_token = 0;
  RotaryPositions positions = RotaryPositions::kPerToken;
  const int64_t* position_ids = nullptr;
  const float* cos_cache = nullptr;  // [cache_rows, rotary_dim / 2]
  const float* sin_cache = nullptr;
  int64_t cache_rows = 0;  // batch * tokens for kDirect
};

// kInvalidArgument: a size or rotary_dim out of range, a missing operand, a position outside the
// caches.
Status RotaryF32(const Context& context, const RotaryArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_ROTARY_H_
