// com.microsoft.MultiHeadAttention: biases, past and new keys behind each other, the padding masks;
// then the attention core.
#include <cmath>
#include <string>

#include "kernels/cpu/attention/key_cache.h"
#include "kernels/cpu/dispatch/parallel_rows.h"

namespace batch_invariant::cpu {
namespace {

using Args = MultiHeadAttentionArgs;

Status Invalid(const char* what) {
  return Status::InvalidArgument(std::string("MultiHeadAttention: ") + what);
}

Status OutOfMemory() {
  return Status::OutOfMemory("MultiHeadAttention: no memory for masks and biases");
}

Status Check(const Args& args) {
  if (args.batch < 0 || args.sequence < 0 || args.kv_sequence < 0 || args.past_sequence < 0 ||
      args.head_size <= 0 || args.value_size <= 0 || args.num_heads <= 0) {
    return Invalid("a shape is out of range");
  }
  if (args.key_mask != KeyMask::kNone && args.mask == nullptr) {
    return Invalid("the key padding mask has no data");
  }
  if ((args.past_key == nullptr) != (args.past_value == nullptr) ||
      (args.present_key == nullptr) != (args.present_value == nullptr)) {
    return Invalid("key and value caches come in pairs");
  }
  if (args.past_sequence > 0 &&
      (args.past_key == nullptr || args.past_capacity < args.past_sequence)) {
    return Invalid("past_key and past_value hold fewer tokens than the past");
  }
  if (args.present_key != nullptr &&
      args.present_capacity < args.past_sequence + args.kv_sequence) {
    return Invalid("present_key and present_value are too short for past and new keys");
  }
  if (args.past_key != nullptr && args.past_key == args.present_key &&
      args.past_capacity != args.present_capacity) {
    return Invalid("a shared cache cannot have two lengths");
  }
  if (args.attention_bias != nullptr &&
      ((args.bias_batch != args.batch && args.bias_batch != 1) ||
       (args.bias_heads != args.num_heads && args.bias_heads != 1))) {
    return Invalid("attention_bias must be (batch or 1, num_heads or 1, sequence, total)");
  }
  return Status::Ok();
}

template <typename T>
T* Allocate(const Context& context, int64_t count) {
  return static_cast<T*>(context.scratch.allocate(
      context.scratch.self, sizeof(T) * static_cast<size_t>(std::max<int64_t>(count, 1))));
}

// query + query_bias, in scratch.
Status AddQueryBias(const Context& context, const Args& args, HeadView* query) {
  const int64_t width = args.num_heads * args.head_size;
  float* sum = Allocate<float>(context, args.batch * args.sequence * width);
  if (sum == nullptr) return OutOfMemory();
  const KeyCache cache = {args.batch,
                          args.num_heads,
                          args.head_size,
                          nullptr,
                          0,
                          0,
                          args.query,
                          args.query_bias,
                          args.sequence,
                          sum,
                          args.sequence};
  ParallelRows(context.parallel, args.batch * args.num_heads, args.sequence * args.head_size,
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   PutTogether(cache, i / args.num_heads, i % args.num_heads);
                 }
               });
  const int64_t head_stride = args.sequence * args.head_size;
  *query = {sum, args.num_heads * head_stride, head_stride, args.head_size};
  return Status::Ok();
}

// A filter value that leaves masked keys in: exp(-1000) is 0 in fp32, beside any score that a
// softmax of real data meets.
bool KeepsMaskedKeys(const Args& args) {
  return args.key_mask != KeyMask::kNone && args.mask_filter_value > -1000.0f;
}

bool IsMasked(const Args& args, int64_t total, int64_t b, int64_t query, int64_t key) {
  switch (args.key_mask) {
    case KeyMask::kNone:
      return false;
    case KeyMask::kLengths:
      return key >= args.mask[b];
    case KeyMask::kEndStart:
      return key >= args.mask[b] || key < args.mask[args.batch + b];
    case KeyMask::kKeys:
      return args.mask[b * total + key] == 0;
    case KeyMask::kQueries:
      return args.mask[(b * args.sequence + query) * total + key] == 0;
  }
  return false;
}

// The attention bias with the filter value of masked keys on it, in scratch.
Status AddFilter(const Context& context, const Args& args, int64_t total,
                 AttentionArgs* attention) {
  const int64_t heads = args.attention_bias != nullptr ? args.bias_heads : 1;
  const int64_t rows = args.batch * heads * args.sequence;
  float* sum = Allocate<float>(context, rows * total);
  if (sum == nullptr) return OutOfMemory();
  ParallelRows(context.parallel, rows, total, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / args.sequence / heads, head = row / args.sequence % heads;
      const int64_t query = row % args.sequence;
      const float* bias = nullptr;
      if (args.attention_bias != nullptr) {
        bias = args.attention_bias + b * attention->bias_batch_stride +
               head * attention->bias_head_stride + query * attention->bias_query_stride;
      }
      for (int64_t key = 0; key < total; ++key) {
        const float base = bias != nullptr ? bias[key] : 0.0f;
        sum[row * total + key] =
            IsMasked(args, total, b, query, key) ? base + args.mask_filter_value : base;
      }
    }
  });
  attention->bias = sum;
  attention->bias_query_stride = total;
  attention->bias_head_stride = heads == 1 ? 0 : args.sequence * total;
  attention->bias_batch_stride = heads * args.sequence * total;
  return Status::Ok();
}

// The masks of keys as bounds where they are bounds, otherwise as booleans of the core.
Status SetMask(const Context& context, const Args& args, int64_t total, int64_t* key_count,
               AttentionArgs* attention) {
  for (int64_t b = 0; b < args.batch; ++b) {
    key_count[b] = total;
    if (KeepsMaskedKeys(args)) continue;
    if (args.key_mask == KeyMask::kLengths || args.key_mask == KeyMask::kEndStart) {
      key_count[b] = std::clamp<int64_t>(args.mask[b], 0, total);
    }
  }
  if (KeepsMaskedKeys(args)) return AddFilter(context, args, total, attention);
  if (args.key_mask != KeyMask::kEndStart && args.key_mask != KeyMask::kKeys &&
      args.key_mask != KeyMask::kQueries) {
    return Status::Ok();
  }
  const int64_t rows = args.key_mask == KeyMask::kQueries ? args.sequence : 1;
  bool* mask = Allocate<bool>(context, args.batch * rows * total);
  if (mask == nullptr) return OutOfMemory();
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t i = b * rows * total; i < (b + 1) * rows * total; ++i) {
      mask[i] = args.key_mask == KeyMask::kEndStart ? i % total >= args.mask[args.batch + b]
                                                    : args.mask[i] != 0;
    }
  }
  attention->mask = mask;
  attention->mask_batch_stride = rows * total;
  attention->mask_query_stride = rows == 1 ? 0 : total;
  return Status::Ok();
}

}  // namespace

Status MultiHeadAttentionF32(const Context& context, const Args& args) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  const int64_t total = args.past_sequence + args.kv_sequence;
  const int64_t width = args.num_heads * args.value_size;
  AttentionArgs attention;
  attention.batch = args.batch;
  attention.query_heads = attention.kv_heads = args.num_heads;
  attention.queries = args.sequence;
  attention.keys = total;
  attention.head_size = args.head_size;
  attention.value_size = args.value_size;
  attention.output = {args.output, args.sequence * width, args.value_size, width};
  attention.causal = args.unidirectional;
  attention.scale =
      args.scale != 0.0f ? args.scale : 1.0f / std::sqrt(static_cast<float>(args.head_size));
  attention.bias_keys = total;
  if (args.attention_bias != nullptr) {
    attention.bias = args.attention_bias;
    attention.bias_query_stride = total;
    attention.bias_head_stride = args.bias_heads == 1 ? 0 : args.sequence * total;
    attention.bias_batch_stride =
        args.bias_batch == 1 ? 0 : args.bias_heads * args.sequence * total;
  }
  if (args.output_qk != nullptr) {
    attention.score_output = ScoreOutput::kScaled;
    attention.scores = args.output_qk;
    attention.score_keys = total;
  }

  int64_t* key_count = Allocate<int64_t>(context, 2 * args.batch);
  if (key_count == nullptr) return OutOfMemory();
  int64_t* query_start = key_count + args.batch;
  std::fill_n(query_start, args.batch, args.past_sequence);
  attention.key_count = key_count;
  attention.query_start = query_start;
  BATCH_INVARIANT_RETURN_IF_ERROR(SetMask(context, args, total, key_count, &attention));

  attention.query = args.query;
  if (args.query_bias != nullptr) {
    BATCH_INVARIANT_RETURN_IF_ERROR(AddQueryBias(context, args, &attention.query));
  }
  KeyCache cache = {args.batch,       args.num_heads,       args.head_size,
                    args.past_key,    args.past_sequence,   args.past_capacity,
                    args.key,         args.key_bias,        args.kv_sequence,
                    args.present_key, args.present_capacity};
  if (args.rounds_to_f16) {
    cache.rounds = FindKernels(ElementwiseKernelTable(), context.instruction_set);
    if (cache.rounds == nullptr) {
      return Status::Unsupported(
          "MultiHeadAttention: this library has no kernel for the instruction set asked for");
    }
  }
  KeyValueCaches caches = {cache, cache};
  caches.value.size = args.value_size;
  caches.value.past = args.past_value;
  caches.value.added = args.value;
  caches.value.bias = args.value_bias;
  caches.value.present = args.present_value;
  BATCH_INVARIANT_RETURN_IF_ERROR(caches.Place(context, &attention));
  return AttentionF32(context, attention);
}

}  // namespace batch_invariant::cpu
