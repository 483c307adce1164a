// Plain C entry points of the attention ops for attention.py.
#include <cstdint>
#include <cstdio>

#include "batch_invariant/cuda/attention.h"

namespace {

using batch_invariant::Status;
using batch_invariant::cuda::AttentionArgs;
using batch_invariant::cuda::ElementType;
using batch_invariant::cuda::GroupQueryAttentionArgs;
using batch_invariant::cuda::Stream;

// One attention problem; the layout is repeated in attention.py.
struct Problem {
  std::int32_t bfloat16, batch, tokens, heads, kv_heads, head_size, total, capacity, window,
      whole_op;
  void *query, *key_cache, *value_cache, *output, *last_key, *cosines, *sines, *workspace;
  std::int64_t workspace_bytes;
};

GroupQueryAttentionArgs WholeOp(const Problem& p) {
  GroupQueryAttentionArgs args;
  args.type = p.bfloat16 ? ElementType::kBFloat16 : ElementType::kFloat16;
  args.batch = p.batch;
  args.tokens = p.tokens;
  args.heads = p.heads;
  args.kv_heads = p.kv_heads;
  args.head_size = p.head_size;
  args.total_sequence_length = p.total;
  args.query = p.query;
  args.past_key = args.present_key = p.key_cache;
  args.past_value = args.present_value = p.value_cache;
  args.past_capacity = args.present_capacity = p.capacity;
  args.seqlens_k = static_cast<const std::int32_t*>(p.last_key);
  args.rotary = true;
  args.rotary_dim = p.head_size;
  args.rotary_positions = p.capacity;
  args.cos_cache = p.cosines;
  args.sin_cache = p.sines;
  args.local_window_size = p.window;
  args.output = p.output;
  return args;
}

// Attention alone, over the first heads * head_size columns of the packed query.
AttentionArgs Core(const Problem& p) {
  AttentionArgs args;
  args.type = p.bfloat16 ? ElementType::kBFloat16 : ElementType::kFloat16;
  args.batch = p.batch;
  args.tokens = p.tokens;
  args.heads = p.heads;
  args.kv_heads = p.kv_heads;
  args.head_size = p.head_size;
  args.key_capacity = p.capacity;
  const std::int64_t d = p.head_size, width = (p.heads + 2 * p.kv_heads) * d;
  const std::int64_t slots = p.capacity;
  args.query = {p.query, p.tokens * width, d, width};
  args.key = {p.key_cache, p.kv_heads * slots * d, slots * d, d};
  args.value = {p.value_cache, p.kv_heads * slots * d, slots * d, d};
  args.output = p.output;
  args.output_strides = {nullptr, p.tokens * p.heads * d, d, p.heads * d};
  args.last_key = static_cast<const std::int32_t*>(p.last_key);
  args.window = p.window;
  return args;
}

std::int64_t Report(const Status& status, std::int64_t value) {
  if (status.ok()) return value;
  std::fprintf(stderr, "%s\n", status.message.c_str());
  return -1;
}

}  // namespace

extern "C" std::int64_t BenchmarkWorkspaceBytes(const Problem* p) {
  std::size_t bytes = 0;
  const Status status = p->whole_op ? GroupQueryAttentionWorkspaceBytes(WholeOp(*p), &bytes)
                                    : AttentionWorkspaceBytes(Core(*p), &bytes);
  return Report(status, static_cast<std::int64_t>(bytes));
}

extern "C" std::int64_t BenchmarkRun(const Problem* p, void* stream) {
  const auto bytes = static_cast<std::size_t>(p->workspace_bytes);
  const Status status =
      p->whole_op
          ? GroupQueryAttention(WholeOp(*p), p->workspace, bytes, static_cast<Stream>(stream))
          : Attention(Core(*p), p->workspace, bytes, static_cast<Stream>(stream));
  return Report(status, 0);
}
