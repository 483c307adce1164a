// Puts past and new keys (or values) behind each other, for the ops whose core reads one buffer.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ATTENTION_KEY_CACHE_H_
#define BATCH_INVARIANT_KERNELS_CPU_ATTENTION_KEY_CACHE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "batch_invariant/cpu/attention.h"
#include "kernels/cpu/elementwise/elementwise_kernels.h"

namespace batch_invariant::cpu {

struct KeyCache {
  int64_t batch, heads, size;
  const float* past;  // [batch, heads, past_capacity, size]; null: no past
  int64_t past_count, past_capacity;
  HeadView added;
  const float* bias;  // [heads * size] added to the new ones; null: none
  int64_t added_count;
  float* present;  // [batch, heads, present_capacity, size]; null: not wanted
  int64_t present_capacity;
  const ElementwiseKernels* rounds = nullptr;  // the new ones, to fp16 values; null: not
};

// x to the nearest fp16 values.
inline void RoundAsF16(const ElementwiseKernels& kernels, float* x, int64_t count) {
  uint16_t half[128];
  for (int64_t i = 0; i < count; i += 128) {
    const int64_t some = std::min<int64_t>(128, count - i);
    kernels.round_to_f16(x + i, half, some);
    kernels.widen_f16(half, x + i, some);
  }
}

// `view` is where to read all past_count + added_count of them: the new ones in place when nothing
// has to be put together, otherwise present or scratch, which becomes the cache's present.
inline Status PlaceTogether(const Context& context, KeyCache* cache, HeadView* view) {
  const bool nothing_past = cache->past == nullptr || cache->past_count == 0;
  if (cache->present == nullptr && nothing_past && cache->bias == nullptr &&
      cache->rounds == nullptr) {
    *view = cache->added;
    return Status::Ok();
  }
  if (cache->present == nullptr) {
    cache->present_capacity = cache->past_count + cache->added_count;
    cache->present = static_cast<float*>(context.scratch.allocate(
        context.scratch.self, sizeof(float) * static_cast<size_t>(std::max<int64_t>(
                                                  1, cache->batch * cache->heads *
                                                         cache->present_capacity * cache->size))));
    if (cache->present == nullptr) {
      return Status::OutOfMemory("attention: no memory for keys and values");
    }
  }
  const int64_t head_stride = cache->present_capacity * cache->size;
  *view = {cache->present, cache->heads * head_stride, head_stride, cache->size};
  return Status::Ok();
}

// Those of one head. Slots behind them become zeros, unless past and present are one buffer.
inline void PutTogether(const KeyCache& cache, int64_t batch, int64_t head) {
  if (cache.present == nullptr) return;
  const int64_t i = batch * cache.heads + head;
  const bool shared = cache.past == cache.present;
  float* slot = cache.present + i * cache.present_capacity * cache.size;
  if (!shared && cache.past != nullptr && cache.past_count > 0) {
    std::memcpy(slot, cache.past + i * cache.past_capacity * cache.size,
                sizeof(float) * static_cast<size_t>(cache.past_count * cache.size));
  }
  slot += cache.past_count * cache.size;
  for (int64_t t = 0; t < cache.added_count; ++t, slot += cache.size) {
    const float* from = cache.added.data + batch * cache.added.batch_stride +
                        head * cache.added.head_stride + t * cache.added.token_stride;
    for (int64_t d = 0; d < cache.size; ++d) {
      slot[d] = cache.bias != nullptr ? from[d] + cache.bias[head * cache.size + d] : from[d];
    }
    if (cache.rounds != nullptr) RoundAsF16(*cache.rounds, slot, cache.size);
  }
  const int64_t total = cache.past_count + cache.added_count;
  if (!shared) std::fill_n(slot, (cache.present_capacity - total) * cache.size, 0.0f);
}

// The keys and values of an attention, which asks for them head by head: a head's are then still
// near when it reads them.
struct KeyValueCaches {
  KeyCache key, value;

  // Must outlive the attention.
  Status Place(const Context& context, AttentionArgs* attention) {
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceTogether(context, &key, &attention->key));
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceTogether(context, &value, &attention->value));
    attention->fetch = [](const void* self, int64_t batch, int64_t head) {
      const auto* caches = static_cast<const KeyValueCaches*>(self);
      PutTogether(caches->key, batch, head);
      PutTogether(caches->value, batch, head);
    };
    attention->fetch_self = this;
    return Status::Ok();
  }
};

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_ATTENTION_KEY_CACHE_H_
