// Attention on CUDA: com.microsoft GroupQueryAttention as a whole, and the core that it and the
// other attention ops share.
//
// Contract attention.tc16 (fp16, bf16) and attention.f32 (fp32; not the CPU's bytes). For one row
// (one token of one query head), over the keys j it may see:
//   1. Keys come in blocks of 128 at absolute positions 0, 128, 256, ... A block without a key that
//      the row may see leaves the state untouched, bit for bit.
//   2. dot_j = q . k_j by gemm.tc16 over the head size (fp32 accumulator from +0, K ascending in
//      tensor-core steps of 16; fp32 tensors: ascending fma).
//      Plain:   y_j = dot_j and c = scale * log2 e, rounded once
//      General: with a softcap or a bias, and where c is not positive (fp16, bf16):
//               z = dot_j * scale; z = softcap * tanh(z / softcap); z = z + bias_j;
//               y_j = z * log2 e, each step rounded, and c = 1
//   3. mb = rint(max_j (c y_j)), an integer, so that every rescaling below is by a power of two.
//      fp16, bf16: p_j = 2^x for x = fma(y_j, c, -mb) by the device's ex2.approx.ftz.f32 (relative
//      error 2^-22), one function of x wherever it runs on a device; like the sums of its tensor
//      cores it may differ from one generation of GPUs to the next.
//      fp32: x = max(c y_j - mb, -125), each step rounded, and p_j = 2^x = ldexp(P(x - rint(x)),
//      rint(x)) with, in fp32 fma, P(f) = ((((c5 f + c4) f + c3) f + c2) f + c1) f + 1
//      c1..c5 = 0x1.62e42ap-1, 0x1.ebf9bcp-3, 0x1.c6b754p-5, 0x1.3cea98p-7, 0x1.5bba34p-10
//      (relative error 9.2e-8), which also step 6 uses.
//      p_j is then rounded to the element type. A key that the row may not see, or whose bias is
//      -Inf, has p_j = 0 and its value vector counts as 0, NaN or not.
//   4. lb = sum_j p_j and ab = sum_j p_j v_j by gemm.tc16 over the 128 keys, each from +0.
//   5. Blocks merge in ascending order into (m, l, acc), which starts as (-Inf, +0, +0):
//      m' = max(m, mb); a = 2^(m - m'); b = 2^(mb - m') (0 below 2^-126);
//      l = fma(lb, b, l * a); acc = fma(ab, b, acc * a).
//   6. A sink s (head_sink, or 0 for smooth_softmax) merges last as a block with mb = rint(s log2
//   e),
//      lb = 2^(s log2 e - mb) and ab = 0. out = acc * (1 / l), rounded to the element type; 0 when
//      the row sees no key; NaN when m is NaN or +Inf.
// Walking the blocks in one thread block or spreading them over the device gives the same bytes.
#ifndef BATCH_INVARIANT_CUDA_ATTENTION_H_
#define BATCH_INVARIANT_CUDA_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// The contract id of an element type.
const char* AttentionContract(ElementType type);

// Where the elements of a [batch, head, token, head_size] tensor lie: element (b, h, t, d) is
// data[b * batch_stride + h * head_stride + t * token_stride + d], strides in elements.
struct HeadTensor {
  const void* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t token_stride = 0;
};

// Attention of `tokens` query tokens a sequence over keys and values that are already in memory.
// Sequence b has total = min(last_key[b] + 1, key_capacity) keys (key_capacity where last_key is
// null). Query token i stands at position total - tokens + i, or at i when from_start is true;
// tokens beyond `total` are padding, and their output is 0.
struct AttentionArgs {
  ElementType type = ElementType::kFloat32;
  int batch = 0;
  int tokens = 0;  // query tokens a sequence
  int heads = 0;   // query heads, a multiple of kv_heads
  int kv_heads = 0;
  int head_size = 0;     // a multiple of 8, at most 256
  int key_capacity = 0;  // keys the buffers hold; an upper bound of every length

  HeadTensor query, key, value;
  void* output = nullptr;  // laid out by output_strides.{batch,head,token}_stride; .data is unused
  HeadTensor output_strides;

  const std::int32_t* last_key = nullptr;  // [batch] on the device: keys of the sequence, less one
  bool from_start = false;

  float scale = 0.0f;    // 0: 1 / sqrt(head_size)
  float softcap = 0.0f;  // 0: none
  bool causal = true;
  int window = -1;  // the newest `window` keys up to and with the token itself; -1: all of them

  const void* bias = nullptr;  // element type; (b, h, t, j) at b * bias_batch_stride + ... + j
  std::int64_t bias_batch_stride = 0;
  std::int64_t bias_head_stride = 0;
  std::int64_t bias_token_stride = 0;
  int bias_keys = 0;                // length of the last axis; later keys have no bias
  const void* head_sink = nullptr;  // [heads], element type
  bool smooth_softmax = false;
};

// Bytes of scratch that Attention needs, from shapes and upper bounds alone.
Status AttentionWorkspaceBytes(const AttentionArgs& args, std::size_t* bytes);

// Enqueues the op. Allocates nothing, waits for nothing, reads lengths on the device, can be
// captured in a graph. All pointers 16-byte aligned, strides multiples of 8 elements.
// kInvalidArgument: a shape, stride or operand that contradicts the above. kUnsupported: a head
// size or device that is not served. kDeviceError: the launch failed.
Status Attention(const AttentionArgs& args, void* workspace, std::size_t workspace_bytes,
                 Stream stream);

// com.microsoft GroupQueryAttention. Tokens of sequence b: past = 0 when `tokens` equals
// `total_sequence_length` (the first prompt; seqlens_k[b] + 1 of them are valid, the rest is
// padding on the right), else past = seqlens_k[b] + 1 - tokens. New keys and values go to positions
// past, past + 1, ... of the present buffers.
struct GroupQueryAttentionArgs {
  ElementType type = ElementType::kFloat32;
  int batch = 0;
  int tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_size = 0;
  int total_sequence_length = 0;  // the longest total of the batch

  // [batch, tokens, heads * head_size]; or, with null key and value, the packed
  // [batch, tokens, (heads + 2 * kv_heads) * head_size].
  const void* query = nullptr;
  const void* key = nullptr;    // [batch, tokens, kv_heads * head_size]
  const void* value = nullptr;  // [batch, tokens, kv_heads * head_size]

  // [batch, kv_heads, past_capacity, head_size]; null: no past. May be the present buffers.
  const void* past_key = nullptr;
  const void* past_value = nullptr;
  int past_capacity = 0;
  // [batch, kv_heads, present_capacity, head_size]; null (both): kept in the workspace.
  void* present_key = nullptr;
  void* present_value = nullptr;
  int present_capacity = 0;

  const std::int32_t* seqlens_k = nullptr;  // [batch] on the device: total length - 1

  bool rotary = false;
  bool rotary_interleaved = false;
  int rotary_dim = 0;        // twice the caches' width; elements from there on are not rotated
  int rotary_positions = 0;  // rows of the caches; a position outside them is not rotated
  const void* cos_cache = nullptr;  // [rotary_positions, rotary_dim / 2]
  const void* sin_cache = nullptr;
  const std::int64_t* position_ids = nullptr;  // [batch, tokens]; null: the slot in the cache

  const void* q_norm_weight = nullptr;  // [head_size]; both or none
  const void* k_norm_weight = nullptr;
  float qk_norm_epsilon = 1e-6f;

  float scale = 0.0f;
  float softcap = 0.0f;
  bool causal = true;
  int local_window_size = -1;
  const void* attention_bias = nullptr;  // [bias_batch, bias_heads, tokens, total_sequence_length]
  int bias_batch = 1;                    // 1 or batch
  int bias_heads = 1;                    // 1 or heads
  const void* head_sink = nullptr;       // [heads]
  bool smooth_softmax = false;

  void* output = nullptr;  // [batch, tokens, heads * head_size]
};

// The query and key of a token before attention, in fp32 with one rounding to the element type:
//   norm:   inv = 1 / sqrt(S / head_size + epsilon); x = (x * inv) * weight, where S adds the
//   squares:
//           chunks of 8 elements by ascending fma, then the 32 chunk sums (0 beyond the head) in
//           halves (s[c] += s[c + 16], +8, +4, +2, +1)
//   rotary: u' = fma(u, cos, -(v * sin)); v' = fma(v, cos, u * sin), the inner product rounded; the
//           pair is (x[i], x[i + rotary_dim / 2]), or (x[2i], x[2i + 1]) when interleaved
Status GroupQueryAttentionWorkspaceBytes(const GroupQueryAttentionArgs& args, std::size_t* bytes);
Status GroupQueryAttention(const GroupQueryAttentionArgs& args, void* workspace,
                           std::size_t workspace_bytes, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_ATTENTION_H_
