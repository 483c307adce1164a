// RotaryEmbedding on CUDA (com.microsoft and opset 23; the adapters sort their argument orders).
#ifndef BATCH_INVARIANT_CUDA_ROTARY_H_
#define BATCH_INVARIANT_CUDA_ROTARY_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

inline constexpr const char* kRotaryContract = "rotary.cuda.v1";

// Which row of the caches token s of batch row b uses.
enum class RotaryPositions : uint8_t {
  kOffset,    // position_ids[0] + s            (position_ids is [1])
  kPerToken,  // position_ids[b * tokens + s]   (position_ids is [batch, tokens])
  kDirect,    // b * tokens + s                 (no position_ids; the caches are [batch, tokens,
              // half])
};

// The pair (u, v) of each head is (x[i], x[i + half]), or (x[2i], x[2i+1]) when interleaved, with
// half = rotary_dim / 2; i < half. In fp32 it becomes
//   u' = fma(u, cos, -(v * sin));   v' = fma(v, cos, u * sin)      the inner product rounded
// and is rounded to the element type once; elements from rotary_dim on are copied, and so is a
// token whose position lies outside the caches. Element (b, h, s, d) of x lies at b * x_batch + h *
// x_head + s * x_token + d; y likewise.
struct RotaryArgs {
  ElementType type = ElementType::kFloat32;
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  std::int64_t tokens = 0;
  std::int64_t head_size = 0;
  std::int64_t rotary_dim = 0;  // even, at most head_size
  bool interleaved = false;
  float scale = 1.0f;  // multiplies the rotated elements, rounded in fp32
  const void* x = nullptr;
  std::int64_t x_batch = 0, x_head = 0, x_token = 0;
  void* y = nullptr;  // may be x, with its strides
  std::int64_t y_batch = 0, y_head = 0, y_token = 0;
  RotaryPositions positions = RotaryPositions::kPerToken;
  const std::int64_t* position_ids = nullptr;
  const void* cos_cache = nullptr;  // [cache_rows, rotary_dim / 2]
  const void* sin_cache = nullptr;
  std::int64_t cache_rows = 0;  // batch * tokens for kDirect
};

// Enqueues on `stream`; allocates nothing, waits for nothing, can be captured in a graph.
// kInvalidArgument: a size or rotary_dim out of range, a missing operand.
Status Rotary(const RotaryArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_ROTARY_H_
