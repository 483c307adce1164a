// Every op on what a model rarely asks of it: no rows, one row, no past, one key, one column, sizes
// that no block divides, operands at odd addresses, and NaN, Inf, -0 and subnormals anywhere. The
// bits are those of the plain loops, and nothing is written beside the outputs. One random case of
// each op after the other; ORT_BATCH_INVARIANT_FUZZ_CASES says how many.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "batch_invariant/cpu/attention.h"
#include "batch_invariant/cpu/elementwise.h"
#include "batch_invariant/cpu/matmul.h"
#include "batch_invariant/cpu/matmul_nbits.h"
#include "batch_invariant/cpu/norm.h"
#include "batch_invariant/cpu/reduce.h"
#include "batch_invariant/cpu/rotary.h"
#include "batch_invariant/cpu/softmax.h"
#include "cpu/support/support.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/matmul_nbits.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/reduce.h"
#include "kernels/reference/rotary.h"
#include "kernels/reference/softmax.h"

namespace batch_invariant::cpu::testing {
namespace {

// Elements at an odd address inside poison.
template <typename T>
class Array {
 public:
  Array(Random& random, int64_t count)
      : count_(count), begin_(kGuard + random.Integer(0, 15)), memory_(count + begin_ + kGuard) {
    std::fill(memory_.begin(), memory_.end(), Poison());
  }

  T* data() { return memory_.data() + begin_; }
  const T* data() const { return memory_.data() + begin_; }
  int64_t size() const { return count_; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(count_)}; }

  bool IsUntouchedBeside() const {
    const T poison = Poison();
    const auto same = [&](const T& x) { return std::memcmp(&x, &poison, sizeof(T)) == 0; };
    return std::all_of(memory_.begin(), memory_.begin() + begin_, same) &&
           std::all_of(memory_.begin() + begin_ + count_, memory_.end(), same);
  }

 private:
  static constexpr int64_t kGuard = 32;
  static T Poison() {
    if constexpr (sizeof(T) == sizeof(float)) return std::bit_cast<T>(kPoisonBits);
    return static_cast<T>(0x7dad);
  }

  int64_t count_, begin_;
  std::vector<T> memory_;
};
using Floats = Array<float>;

// One random case of one op.
class Case {
 public:
  Case(Random& random, const Context& context)
      : random(random), context(context), is_finite_(random.Integer(0, 2) == 0) {}

  // 0 and 1 more often than the sizes up to `most`.
  int64_t Extent(int64_t most) {
    const int64_t kind = random.Integer(0, 9);
    return kind == 0 ? 0 : kind <= 2 ? 1 : random.Integer(1, most);
  }
  int64_t Size(int64_t most) { return std::max<int64_t>(1, Extent(most)); }
  bool Coin() { return random.Integer(0, 1) == 1; }

  // In two cases of three, one element of eight is no everyday number.
  Floats Values(int64_t count) {
    static constexpr std::array<uint32_t, 14> kStrange = {
        0x7fc00000, 0xffc00001, 0x7f800001, 0x7f800000, 0xff800000, 0x80000000, 0x00000000,
        0x00000001, 0x807fffff, 0x7f7fffff, 0xff7fffff, 0x42b17218, 0xc2d00000, 0xc2ae0000};
    Floats values(random, count);
    const auto normal = random.Normal(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      const bool strange = !is_finite_ && random.Integer(0, 7) == 0;
      values.data()[i] =
          strange ? std::bit_cast<float>(kStrange[random.Integer(0, kStrange.size() - 1)])
                  : normal[i];
    }
    return values;
  }

  // run(y, is_reference) writes `count` elements to y. A NaN of those that is_computed(i) does not
  // name, which are copies, stays as it is.
  template <typename Run>
  void Compare(int64_t count, Run&& run) {
    Compare(count, run, [](int64_t) { return true; });
  }
  template <typename Run, typename IsComputed>
  void Compare(int64_t count, Run&& run, IsComputed&& is_computed) {
    Floats expected(random, count), actual(random, count);
    run(expected.data(), true);
    run(actual.data(), false);
    for (int64_t i = 0; i < count; ++i) {
      if (is_computed(i)) expected.data()[i] = reference::Canonical(expected.data()[i]);
    }
    EXPECT_TRUE(SameBits(expected.span(), actual.span()));
    EXPECT_TRUE(actual.IsUntouchedBeside()) << "something beside the output was written";
  }

  void ExpectOk(const Status& status) { EXPECT_TRUE(status.ok()) << status.message; }

  Random& random;
  const Context& context;

 private:
  const bool is_finite_;
};

void TryMatMul(Case& c) {
  MatMulArgs args;
  args.m = c.Extent(40);
  args.n = c.Extent(70);
  args.k = c.Extent(300);
  const Floats a = c.Values(args.m * args.k), b = c.Values(args.k * args.n);
  const Floats bias = c.Values(args.n);
  args.a = {a.data(), args.k, 1};
  if (c.Coin()) args.c = {bias.data(), 0, 1};
  args.y_row_stride = args.n;
  std::vector<float> packed = Poisoned(PackedMatMulBytes(args.k, args.n) / sizeof(float));
  const MatrixView view = {b.data(), args.n, 1};
  c.ExpectOk(PackMatMul(c.context, args.k, args.n, view, packed.data()));
  for (const bool is_packed : {false, true}) {
    c.Compare(args.m * args.n, [&](float* y, bool is_reference) {
      args.y = y;
      args.b = view;
      args.packed_b = nullptr;
      if (is_reference) return reference::MatMul(args);
      if (is_packed) {
        args.packed_b = packed.data();
        args.b.data = nullptr;
      }
      c.ExpectOk(MatMul(c.context, args));
    });
  }
}

void TryMatMulNBits(Case& c) {
  MatMulNBitsPlan plan;
  const int64_t bits = int64_t{2} << c.random.Integer(0, 2);
  const int64_t block = int64_t{16} << c.random.Integer(0, 2);
  const ZeroPoints zeros = c.Coin() ? ZeroPoints::kPacked : ZeroPoints::kDefault;
  c.ExpectOk(MakeMatMulNBitsPlan(c.Size(200), c.Size(40), bits, block, c.Coin() ? 4 : 0, zeros,
                                 &plan));
  MatMulNBitsArgs args;
  args.m = c.Extent(20);
  const auto b = c.random.Bytes(plan.n * plan.blocks() * block * bits / 8);
  const auto zero_points = c.random.Bytes(plan.n * ((plan.blocks() * bits + 7) / 8));
  const Floats scales = c.Values(plan.n * plan.blocks()), a = c.Values(args.m * plan.k);
  const Floats bias = c.Values(plan.n);
  const void* zero_data = zeros == ZeroPoints::kPacked ? zero_points.data() : nullptr;
  std::vector<uint8_t> packed(PackedMatMulNBitsBytes(plan));
  c.ExpectOk(PackMatMulNBits(c.context, plan, b.data(), scales.data(), zero_data, packed.data()));
  args.a = a.data();
  args.a_row_stride = plan.k;
  args.packed_b = packed.data();
  if (c.Coin()) args.bias = bias.data();
  args.y_row_stride = plan.n;
  c.Compare(args.m * plan.n, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::MatMulNBits(plan, {b.data(), scales.data(), zero_data}, args);
    c.ExpectOk(MatMulNBits(c.context, plan, args));
  });
}

void TryNorm(Case& c) {
  NormArgs args;
  args.rows = c.Extent(9);
  args.width = c.Extent(300);
  const Floats x = c.Values(args.rows * args.width), skip = c.Values(args.rows * args.width);
  const Floats bias = c.Values(args.width), gamma = c.Values(args.width),
               beta = c.Values(args.width);
  args.x = x.data();
  if (c.Coin()) {
    args.skip = skip.data();
    args.skip_rows = args.rows;
  }
  if (c.Coin()) args.bias = bias.data();
  if (c.Coin()) args.gamma = gamma.data();
  const bool layer = c.Coin();
  if (layer && c.Coin()) args.beta = beta.data();
  if (args.rows == 0) args.skip = nullptr;
  c.Compare(args.rows * args.width, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return layer ? reference::LayerNorm(args) : reference::RmsNorm(args);
    c.ExpectOk(layer ? LayerNormF32(c.context, args) : RmsNormF32(c.context, args));
  });
}

void TrySoftmax(Case& c) {
  SoftmaxArgs args;
  args.outer = c.Extent(5);
  args.length = c.Extent(300);
  args.inner = c.Coin() ? 1 : c.Extent(3);
  const Floats x = c.Values(args.outer * args.length * args.inner);
  const bool logarithm = c.Coin();
  args.x = x.data();
  c.Compare(x.size(), [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::Softmax(args, logarithm);
    c.ExpectOk(logarithm ? LogSoftmaxF32(c.context, args) : SoftmaxF32(c.context, args));
  });
}

void TryReduce(Case& c) {
  ReduceArgs args;
  args.op = static_cast<ReduceOp>(c.random.Integer(0, 5));
  args.rows = c.Extent(9);
  args.length = c.Extent(300);
  const Floats x = c.Values(args.rows * args.length);
  args.x = x.data();
  c.Compare(args.rows, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::Reduce(args);
    c.ExpectOk(ReduceF32(c.context, args));
  });
}

void TryUnary(Case& c) {
  UnaryArgs args;
  args.op = static_cast<UnaryOp>(c.random.Integer(0, 7));
  args.rows = c.Extent(5);
  args.width = c.Extent(300);
  const Floats x = c.Values(args.rows * args.width), bias = c.Values(args.width);
  args.x = x.data();
  if (c.Coin()) args.bias = bias.data();
  c.Compare(x.size(), [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::UnaryRows(args);
    c.ExpectOk(UnaryF32(c.context, args));
  });
}

void TryBinary(Case& c) {
  const std::array<int64_t, 3> shape = {c.Extent(3), c.Extent(4), c.Extent(70)};
  std::array<int64_t, 3> strides[2];
  for (auto& s : strides) {
    s = {c.Coin() * shape[1] * shape[2], c.Coin() * shape[2], c.Coin()};
  }
  const int64_t count = shape[0] * shape[1] * shape[2];
  const Floats a = c.Values(count), b = c.Values(count);
  BinaryArgs args = {static_cast<BinaryOp>(c.random.Integer(0, 3)), shape, a.data(), strides[0],
                     b.data(), strides[1]};
  c.Compare(count, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::BinaryBroadcast(args);
    c.ExpectOk(BinaryF32(c.context, args));
  });
}

void TrySiluMul(Case& c) {
  SiluMulArgs args;
  args.rows = c.Extent(5);
  args.width = args.y_stride = c.Extent(300);
  args.gate_stride = args.up_stride = 2 * args.width;
  const Floats both = c.Values(args.rows * 2 * args.width);
  args.gate = both.data();
  args.up = both.data() + args.width;
  c.Compare(args.rows * args.width, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::SiluMul(args);
    c.ExpectOk(SiluMulF32(c.context, args));
  });
}

void TryRotary(Case& c) {
  RotaryArgs args;
  args.batch = c.Extent(3);
  args.heads = c.Extent(3);
  args.tokens = c.Extent(5);
  args.head_size = 2 * c.Size(40);
  args.rotary_dim = 2 * c.random.Integer(0, args.head_size / 2);
  args.interleaved = c.Coin();
  args.cache_rows = 7;
  const int64_t count = args.batch * args.heads * args.tokens * args.head_size;
  const Floats x = c.Values(count), cosine = c.Values(7 * args.rotary_dim / 2),
               sine = c.Values(7 * args.rotary_dim / 2);
  std::vector<int64_t> positions(args.batch * args.tokens + 1);
  for (int64_t& position : positions) position = c.random.Integer(0, 6);
  args.x = x.data();
  args.x_batch = args.y_batch = args.heads * args.tokens * args.head_size;
  args.x_head = args.y_head = args.tokens * args.head_size;
  args.x_token = args.y_token = args.head_size;
  args.position_ids = positions.data();
  args.cos_cache = cosine.data();
  args.sin_cache = sine.data();
  c.Compare(count, [&](float* y, bool is_reference) {
    args.y = y;
    if (is_reference) return reference::Rotary(args);
    c.ExpectOk(RotaryF32(c.context, args));
  }, [&](int64_t i) { return i % args.head_size < args.rotary_dim; });
}

// What the attention ops have in common: queries, new keys and values [batch, tokens, heads, size],
// and past ones [batch, kv_heads, past, size].
struct Attending {
  int64_t batch, kv_heads, heads, queries, added, past, size, value_size;
  Floats query, key, value, past_key, past_value;

  Attending(Case& c, int64_t most_group, bool one_size)
      : batch(c.Extent(3)),
        kv_heads(c.Size(4)),
        heads(kv_heads * c.random.Integer(1, most_group)),
        queries(c.Extent(7)),
        added(queries),
        past(c.Extent(280)),
        size(2 * c.Size(20)),
        value_size(one_size ? size : c.Size(40)),
        query(c.Values(batch * queries * heads * size)),
        key(c.Values(batch * added * kv_heads * size)),
        value(c.Values(batch * added * kv_heads * value_size)),
        past_key(c.Values(batch * kv_heads * past * size)),
        past_value(c.Values(batch * kv_heads * past * value_size)) {}

  static HeadView ByTokens(const float* data, int64_t tokens, int64_t heads, int64_t size) {
    return {data, tokens * heads * size, size, heads * size};
  }
  HeadView Query() const { return ByTokens(query.data(), queries, heads, size); }
  HeadView Key() const { return ByTokens(key.data(), added, kv_heads, size); }
  HeadView Value() const { return ByTokens(value.data(), added, kv_heads, value_size); }
  int64_t outputs() const { return batch * queries * heads * value_size; }

  // [batch, kv_heads, past + added, size]
  std::vector<float> Together(const Floats& old, const Floats& fresh, int64_t width) const {
    std::vector<float> all;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < kv_heads; ++h) {
        const float* from = old.data() + (b * kv_heads + h) * past * width;
        all.insert(all.end(), from, from + past * width);
        for (int64_t t = 0; t < added; ++t) {
          from = fresh.data() + ((b * added + t) * kv_heads + h) * width;
          all.insert(all.end(), from, from + width);
        }
      }
    }
    return all;
  }

  void ReferenceOverAll(const AttentionArgs& args, float* y) const {
    Reference(Together(past_key, key, size), Together(past_value, value, value_size), args, y);
  }

  // Attention over past and new keys.
  void Reference(const std::vector<float>& keys, const std::vector<float>& values,
                 AttentionArgs args, float* y) const {
    const int64_t total = past + added;
    args.batch = batch;
    args.query_heads = heads;
    args.kv_heads = kv_heads;
    args.queries = queries;
    args.keys = total;
    args.head_size = size;
    args.value_size = value_size;
    args.key = {keys.data(), kv_heads * total * size, total * size, size};
    args.value = {values.data(), kv_heads * total * value_size, total * value_size, value_size};
    args.output = {y, queries * heads * value_size, value_size, heads * value_size};
    const std::vector<int64_t> start(batch, past);
    args.query_start = start.data();
    args.scale = 1.0f / std::sqrt(static_cast<float>(size));
    reference::Attention(args);
  }
};

void TryAttention(Case& c) {
  const Attending a(c, 3, false);
  const int64_t total = a.past + a.added;
  const auto keys = a.Together(a.past_key, a.key, a.size);
  const auto values = a.Together(a.past_value, a.value, a.value_size);
  const Floats bias = c.Values(a.queries * total), sinks = c.Values(a.heads);
  std::vector<uint8_t> mask = c.random.Bytes(a.queries * total);
  for (uint8_t& byte : mask) byte &= 1;
  AttentionArgs common;
  common.query = a.Query();
  common.causal = c.Coin();
  common.softcap = c.Coin() ? 3.0f : 0.0f;
  if (c.Coin()) common.window_left = c.random.Integer(0, 150);
  if (c.Coin()) common.bias = bias.data();
  if (c.Coin()) common.mask = reinterpret_cast<const bool*>(mask.data());
  common.bias_query_stride = common.mask_query_stride = common.bias_keys = total;
  if (c.Coin()) common.sink = sinks.data();
  c.Compare(a.outputs(), [&](float* y, bool is_reference) {
    if (is_reference) return a.Reference(keys, values, common, y);
    AttentionArgs args = common;
    args.batch = a.batch;
    args.query_heads = a.heads;
    args.kv_heads = a.kv_heads;
    args.queries = a.queries;
    args.keys = total;
    args.head_size = a.size;
    args.value_size = a.value_size;
    args.key = {keys.data(), a.kv_heads * total * a.size, total * a.size, a.size};
    args.value = {values.data(), a.kv_heads * total * a.value_size, total * a.value_size,
                  a.value_size};
    args.output = {y, a.queries * a.heads * a.value_size, a.value_size, a.heads * a.value_size};
    const std::vector<int64_t> start(a.batch, a.past);
    args.query_start = start.data();
    args.scale = 1.0f / std::sqrt(static_cast<float>(a.size));
    c.ExpectOk(AttentionF32(c.context, args));
  });
}

// Shapes and operands of an op that puts past and new keys behind each other.
template <typename Args>
void SetOperands(const Attending& a, Args* args) {
  args->batch = a.batch;
  args->sequence = a.queries;
  args->kv_sequence = a.added;
  args->past_sequence = a.past;
  args->head_size = a.size;
  args->value_size = a.value_size;
  args->query = a.Query();
  args->key = a.Key();
  args->value = a.Value();
  if (a.past > 0) {
    args->past_key = a.past_key.data();
    args->past_value = a.past_value.data();
  }
}

void TryMultiHeadAttention(Case& c) {
  const Attending a(c, 1, false);
  const Floats bias = c.Values(a.queries * (a.past + a.added));
  MultiHeadAttentionArgs args;
  SetOperands(a, &args);
  args.past_capacity = a.past;
  args.num_heads = a.heads;
  args.unidirectional = c.Coin();
  AttentionArgs common;
  common.query = a.Query();
  common.causal = args.unidirectional;
  common.bias_query_stride = common.bias_keys = a.past + a.added;
  if (c.Coin()) {
    args.attention_bias = common.bias = bias.data();
    args.bias_batch = args.bias_heads = 1;
  }
  c.Compare(a.outputs(), [&](float* y, bool is_reference) {
    if (is_reference) return a.ReferenceOverAll(common, y);
    args.output = y;
    c.ExpectOk(MultiHeadAttentionF32(c.context, args));
  });
}

void TryOnnxAttention(Case& c) {
  const Attending a(c, 3, false);
  OnnxAttentionArgs args;
  SetOperands(a, &args);
  args.q_num_heads = a.heads;
  args.kv_num_heads = a.kv_heads;
  args.is_causal = c.Coin();
  args.softcap = c.Coin() ? 3.0f : 0.0f;
  AttentionArgs common;
  common.query = a.Query();
  common.causal = args.is_causal;
  common.softcap = args.softcap;
  c.Compare(a.outputs(), [&](float* y, bool is_reference) {
    if (is_reference) return a.ReferenceOverAll(common, y);
    args.output = {y, a.queries * a.heads * a.value_size, a.value_size, a.heads * a.value_size};
    c.ExpectOk(OnnxAttentionF32(c.context, args));
  });
}

// As an fp16 cache holds them.
std::vector<uint16_t> Halves(std::span<const float> x) {
  Context scalar;
  std::vector<uint16_t> halves(x.size());
  EXPECT_TRUE(RoundToF16(scalar, static_cast<int64_t>(x.size()), x.data(), halves.data()).ok());
  return halves;
}
std::vector<float> Widened(std::span<const uint16_t> x) {
  Context scalar;
  std::vector<float> wide(x.size());
  EXPECT_TRUE(WidenF16(scalar, static_cast<int64_t>(x.size()), x.data(), wide.data()).ok());
  return wide;
}

// With a cache of fp32 or fp16, shared or not, of more slots than tokens.
void TryGroupQueryAttention(Case& c) {
  const Attending a(c, 3, true);
  const int64_t total = a.past + a.added, capacity = total + c.random.Integer(0, 40);
  const bool is_half = c.Coin(), is_shared = c.Coin(), has_rotary = c.Coin();
  const int64_t half_size = a.size / 2;
  const Floats cosine = c.Values(total * half_size), sine = c.Values(total * half_size);
  const Floats sinks = c.Values(a.heads);
  GroupQueryAttentionArgs args;
  args.batch = a.batch;
  args.sequence = a.queries;
  args.head_size = a.size;
  args.num_heads = a.heads;
  args.kv_num_heads = a.kv_heads;
  args.do_rotary = has_rotary;
  args.query = a.query.data();
  args.key = a.key.data();
  args.value = a.value.data();
  const std::vector<int32_t> seqlens_k(a.batch + 1, static_cast<int32_t>(total - 1));
  args.seqlens_k = seqlens_k.data();
  args.total_sequence_length = total;
  args.cos_cache = cosine.data();
  args.sin_cache = sine.data();
  args.cache_rows = total;
  args.cache_width = half_size;
  if (c.Coin()) args.head_sink = sinks.data();
  if (c.Coin()) args.softcap = 3.0f;

  // What the op does before it attends, by plain loops.
  Floats query = a.query, key = a.key;
  for (int64_t i = 0; has_rotary && i < a.batch * a.queries; ++i) {
    const int64_t row = (a.past + i % a.queries) * half_size;
    const auto rotate = [&](float* heads, int64_t count) {
      for (int64_t h = 0; h < count; ++h, heads += a.size) {
        reference::RotateHead(heads, cosine.data() + row, sine.data() + row, a.size, a.size, false,
                              heads);
      }
    };
    rotate(query.data() + i * a.heads * a.size, a.heads);
    rotate(key.data() + i * a.kv_heads * a.size, a.kv_heads);
  }
  std::vector<float> keys = a.Together(a.past_key, key, a.size);
  std::vector<float> values = a.Together(a.past_value, a.value, a.size);
  if (is_half) {
    keys = Widened(Halves(keys));
    values = Widened(Halves(values));
  }

  // The past in slots of `slots` tokens.
  const auto cache_of = [&](const Floats& past, int64_t slots) {
    std::vector<float> cache(a.batch * a.kv_heads * slots * a.size, 3.0f);
    for (int64_t h = 0; h < a.batch * a.kv_heads; ++h) {
      std::copy_n(past.data() + h * a.past * a.size, a.past * a.size,
                  cache.data() + h * slots * a.size);
    }
    return cache;
  };
  const int64_t past_slots = is_shared ? capacity : a.past;
  std::vector<float> past_key = cache_of(a.past_key, past_slots);
  std::vector<float> past_value = cache_of(a.past_value, past_slots);
  std::vector<uint16_t> half_past_key = Halves(past_key), half_past_value = Halves(past_value);
  std::vector<float> present_key = Poisoned(a.batch * a.kv_heads * capacity * a.size);
  std::vector<float> present_value = present_key;
  std::vector<uint16_t> half_present_key(present_key.size(), 0x7dad);
  std::vector<uint16_t> half_present_value = half_present_key;
  if (past_slots > 0) {
    if (is_half) {
      args.past_key = half_past_key.data();
      args.past_value = half_past_value.data();
    } else {
      args.past_key = past_key.data();
      args.past_value = past_value.data();
    }
    args.past_capacity = past_slots;
  }
  if (is_half) {
    args.present_key = half_present_key.data();
    args.present_value = half_present_value.data();
  } else {
    args.present_key = present_key.data();
    args.present_value = present_value.data();
  }
  args.present_capacity = capacity;
  if (is_shared) {
    args.present_key = args.past_key;
    args.present_value = args.past_value;
  }
  AttentionArgs common;
  common.query = Attending::ByTokens(query.data(), a.queries, a.heads, a.size);
  common.causal = true;
  common.softcap = args.softcap;
  common.sink = args.head_sink;
  c.Compare(a.outputs(), [&](float* y, bool is_reference) {
    if (is_reference) return a.Reference(keys, values, common, y);
    args.output = y;
    c.ExpectOk(GroupQueryAttentionF32(c.context, args));
  });
  if (!is_half || a.outputs() == 0) return;
  const auto& stored = is_shared ? half_past_key : half_present_key;
  const auto expected = Halves(keys);
  for (int64_t h = 0; h < a.batch * a.kv_heads; ++h) {
    EXPECT_TRUE(SameBits(std::span(expected).subspan(h * total * a.size, total * a.size),
                         std::span(stored).subspan(h * capacity * a.size, total * a.size)));
  }
}

struct Op {
  const char* name;
  void (*run)(Case& c);
};
constexpr Op kOps[] = {{"MatMul", &TryMatMul},
                       {"MatMulNBits", &TryMatMulNBits},
                       {"Norm", &TryNorm},
                       {"Softmax", &TrySoftmax},
                       {"Reduce", &TryReduce},
                       {"Unary", &TryUnary},
                       {"Binary", &TryBinary},
                       {"SiluMul", &TrySiluMul},
                       {"Rotary", &TryRotary},
                       {"Attention", &TryAttention},
                       {"MultiHeadAttention", &TryMultiHeadAttention},
                       {"OnnxAttention", &TryOnnxAttention},
                       {"GroupQueryAttention", &TryGroupQueryAttention}};

using HostileTest = InstructionSetTest;

TEST_P(HostileTest, EveryOpHasTheBitsOfThePlainLoops) {
  const int cases = FuzzCases(60) * static_cast<int>(std::size(kOps));
  for (int i = 0; i < cases && !HasFailure(); ++i) {
    const Op& op = kOps[i % std::size(kOps)];
    SCOPED_TRACE(std::string(op.name) + ", case " + std::to_string(i));
    Random random(1000 + i);
    const TestContext context(GetParam(), static_cast<int>(random.Integer(1, 3)));
    Case c(random, context);
    op.run(c);
  }
}

BI_INSTANTIATE_INSTRUCTION_SETS(HostileTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
