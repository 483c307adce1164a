// Attention of opsets 23 and 24: past and new keys behind each other, then the attention core.
#include <cmath>
#include <limits>
#include <string>

#include "kernels/cpu/attention/key_cache.h"

namespace batch_invariant::cpu {
namespace {

Status Invalid(const char* what) {
  return Status::InvalidArgument(std::string("Attention: ") + what);
}

Status Check(const OnnxAttentionArgs& args) {
  if (args.batch < 0 || args.sequence < 0 || args.kv_sequence < 0 || args.past_sequence < 0 ||
      args.head_size <= 0 || args.value_size <= 0) {
    return Invalid("a shape is out of range");
  }
  if (args.q_num_heads <= 0 || args.kv_num_heads <= 0 ||
      args.q_num_heads % args.kv_num_heads != 0) {
    return Invalid("q_num_heads must be a multiple of kv_num_heads, both positive");
  }
  if ((args.past_key == nullptr) != (args.past_value == nullptr)) {
    return Invalid("past_key and past_value come together");
  }
  if (args.past_sequence > 0 && args.past_key == nullptr) {
    return Invalid("past_key has no data");
  }
  if (args.float_mask != nullptr && args.bool_mask != nullptr) {
    return Invalid("the mask cannot be both boolean and float");
  }
  if (args.qk_matmul_output_mode < 0 || args.qk_matmul_output_mode > 3) {
    return Invalid("qk_matmul_output_mode must be 0 to 3");
  }
  if (args.nonpad_kv_seqlen != nullptr) {
    if (args.past_sequence > 0) return Invalid("nonpad_kv_seqlen cannot come with a past");
    for (int64_t b = 0; b < args.batch; ++b) {
      if (args.nonpad_kv_seqlen[b] < 0 || args.nonpad_kv_seqlen[b] > args.kv_sequence) {
        return Invalid("nonpad_kv_seqlen must be 0 to the number of keys");
      }
    }
  }
  return Status::Ok();
}

ScoreOutput ScoreStage(int64_t mode) {
  constexpr ScoreOutput kStages[] = {ScoreOutput::kScaled, ScoreOutput::kCapped,
                                     ScoreOutput::kBiased, ScoreOutput::kSoftmax};
  return kStages[mode];
}

}  // namespace

Status OnnxAttentionF32(const Context& context, const OnnxAttentionArgs& args) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  const int64_t total = args.past_sequence + args.kv_sequence;
  AttentionArgs attention;
  attention.batch = args.batch;
  attention.query_heads = args.q_num_heads;
  attention.kv_heads = args.kv_num_heads;
  attention.queries = args.sequence;
  attention.keys = total;
  attention.head_size = args.head_size;
  attention.value_size = args.value_size;
  attention.query = args.query;
  attention.output = args.output;
  attention.causal = args.is_causal;
  attention.scale =
      args.scale != 0.0f ? args.scale : 1.0f / std::sqrt(static_cast<float>(args.head_size));
  attention.softcap = args.softcap;
  attention.bias = args.float_mask;
  attention.mask = args.bool_mask;
  attention.bias_batch_stride = attention.mask_batch_stride = args.mask_batch_stride;
  attention.bias_head_stride = attention.mask_head_stride = args.mask_head_stride;
  attention.bias_query_stride = attention.mask_query_stride = args.mask_query_stride;
  attention.bias_keys = args.mask_keys;
  if (args.qk_matmul_output != nullptr) {
    attention.score_output = ScoreStage(args.qk_matmul_output_mode);
    attention.scores = args.qk_matmul_output;
    attention.score_keys = total;
    attention.score_excluded = -std::numeric_limits<float>::infinity();
  }

  auto* counts = static_cast<int64_t*>(context.scratch.allocate(
      context.scratch.self, sizeof(int64_t) * static_cast<size_t>(2 * args.batch + 1)));
  if (counts == nullptr) return Status::OutOfMemory("Attention: no memory for lengths");
  int64_t* query_start = counts + args.batch;
  for (int64_t b = 0; b < args.batch; ++b) {
    const bool external = args.nonpad_kv_seqlen != nullptr;
    counts[b] = external ? args.nonpad_kv_seqlen[b] : total;
    query_start[b] = external ? counts[b] - args.sequence : args.past_sequence;
  }
  attention.key_count = counts;
  attention.query_start = query_start;

  const KeyCache cache = {args.batch,         args.kv_num_heads,  args.head_size, args.past_key,
                          args.past_sequence, args.past_sequence, args.key,       nullptr,
                          args.kv_sequence,   args.present_key,   total};
  KeyValueCaches caches = {cache, cache};
  caches.value.size = args.value_size;
  caches.value.past = args.past_value;
  caches.value.added = args.value;
  caches.value.present = args.present_value;
  BATCH_INVARIANT_RETURN_IF_ERROR(caches.Place(context, &attention));
  return AttentionF32(context, attention);
}

}  // namespace batch_invariant::cpu
