// MultiHeadAttention and Attention-23/24: bits of the plain loops over past and new keys put
// together, and the same bytes however the tokens are cut and padded.
#include <cmath>
#include <limits>

#include "batch_invariant/cpu/attention.h"
#include "batch_invariant/cpu/elementwise.h"
#include "cpu/support/support.h"
#include "kernels/reference/attention.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Heads of the small models below.
constexpr int64_t kHeads = 3, kSize = 24, kValueSize = 40;

// [batch, tokens, heads * size] as a view.
HeadView Tokens(const std::vector<float>& data, int64_t tokens, int64_t heads, int64_t size) {
  return {data.data(), tokens * heads * size, size, heads * size};
}
// [batch, heads, tokens, size] as a view.
HeadView Heads(const std::vector<float>& data, int64_t heads, int64_t tokens, int64_t size) {
  return {data.data(), heads * tokens * size, tokens * size, size};
}

// past [batch, heads, count, size] followed by added [batch, tokens, heads * size] (+ bias).
std::vector<float> Together(const std::vector<float>& past, int64_t count,
                            const std::vector<float>& added, int64_t tokens, int64_t batch,
                            int64_t heads, int64_t size, const float* bias) {
  std::vector<float> all;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const auto from = past.begin() + (b * heads + h) * count * size;
      all.insert(all.end(), from, from + count * size);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t d = 0; d < size; ++d) {
          const float x = added[((b * tokens + t) * heads + h) * size + d];
          all.push_back(bias != nullptr ? x + bias[h * size + d] : x);
        }
      }
    }
  }
  return all;
}

struct MultiHead {
  int64_t batch = 2, sequence = 5, kv_sequence = 5, past = 0;
  bool unidirectional = true, bias = false, present = true;
  bool half = false;         // as the op of fp16 tensors
  float filter = -10000.0f;  // above -1000 masked keys take part
  KeyMask key_mask = KeyMask::kNone;
  std::vector<float> query, key, value, query_bias, key_bias, value_bias, past_key, past_value;
  std::vector<float> attention_bias;
  std::vector<int32_t> mask;

  void Fill(Random& random) {
    query = random.Normal(batch * sequence * kHeads * kSize);
    key = random.Normal(batch * kv_sequence * kHeads * kSize);
    value = random.Normal(batch * kv_sequence * kHeads * kValueSize);
    query_bias = random.Normal(kHeads * kSize);
    key_bias = random.Normal(kHeads * kSize);
    value_bias = random.Normal(kHeads * kValueSize);
    past_key = random.Normal(batch * kHeads * past * kSize);
    past_value = random.Normal(batch * kHeads * past * kValueSize);
    past_key = Rounded(past_key);
    past_value = Rounded(past_value);
    const int64_t total = past + kv_sequence;
    mask.clear();
    if (key_mask == KeyMask::kLengths) {
      for (int64_t b = 0; b < batch; ++b) {
        mask.push_back(static_cast<int32_t>(random.Integer(1, total)));
      }
    } else if (key_mask == KeyMask::kEndStart) {
      for (int64_t b = 0; b < batch; ++b) mask.push_back(static_cast<int32_t>(total - b));
      for (int64_t b = 0; b < batch; ++b) mask.push_back(static_cast<int32_t>(b));
    } else {
      const int64_t rows = key_mask == KeyMask::kQueries ? sequence : 1;
      for (int64_t i = 0; i < batch * rows * total; ++i) {
        mask.push_back(random.Integer(0, 3) != 0);
      }
    }
  }

  std::vector<float> Run(const Context& context) const {
    std::vector<float> output = Poisoned(batch * sequence * kHeads * kValueSize);
    const int64_t total = past + kv_sequence;
    std::vector<float> present_key = Poisoned(batch * kHeads * total * kSize);
    std::vector<float> present_value = Poisoned(batch * kHeads * total * kValueSize);
    MultiHeadAttentionArgs args;
    args.batch = batch;
    args.sequence = sequence;
    args.kv_sequence = kv_sequence;
    args.past_sequence = args.past_capacity = past;
    args.head_size = kSize;
    args.value_size = kValueSize;
    args.num_heads = kHeads;
    args.unidirectional = unidirectional;
    args.query = Tokens(query, sequence, kHeads, kSize);
    args.key = Tokens(key, kv_sequence, kHeads, kSize);
    args.value = Tokens(value, kv_sequence, kHeads, kValueSize);
    if (bias) {
      args.query_bias = query_bias.data();
      args.key_bias = key_bias.data();
      args.value_bias = value_bias.data();
    }
    if (past > 0) {
      args.past_key = past_key.data();
      args.past_value = past_value.data();
    }
    args.key_mask = key_mask;
    args.mask_filter_value = filter;
    args.rounds_to_f16 = half;
    args.mask = mask.data();
    args.output = output.data();
    if (present) {
      args.present_key = present_key.data();
      args.present_value = present_value.data();
      args.present_capacity = total;
    }
    const Status status = MultiHeadAttentionF32(context, args);
    EXPECT_TRUE(status.ok()) << status.message;
    if (present) {
      EXPECT_TRUE(SameBits(AllKeys(), present_key));
      EXPECT_TRUE(SameBits(AllValues(), present_value));
    }
    return output;
  }

  // The past of an fp16 cache is fp16 already; rounding it once more changes nothing.
  std::vector<float> Rounded(std::vector<float> x) const {
    if (!half) return x;
    const Context scalar;
    std::vector<uint16_t> halves(x.size());
    const auto count = static_cast<int64_t>(x.size());
    EXPECT_TRUE(RoundToF16(scalar, count, x.data(), halves.data()).ok());
    EXPECT_TRUE(WidenF16(scalar, count, halves.data(), x.data()).ok());
    return x;
  }
  std::vector<float> AllKeys() const {
    return Rounded(Together(past_key, past, key, kv_sequence, batch, kHeads, kSize,
                            bias ? key_bias.data() : nullptr));
  }
  std::vector<float> AllValues() const {
    return Rounded(Together(past_value, past, value, kv_sequence, batch, kHeads, kValueSize,
                            bias ? value_bias.data() : nullptr));
  }

  std::vector<float> Reference() const {
    const int64_t total = past + kv_sequence;
    const auto keys = AllKeys(), values = AllValues();
    std::vector<float> queries = query, output(batch * sequence * kHeads * kValueSize);
    for (size_t i = 0; bias && i < queries.size(); ++i) {
      queries[i] += query_bias[i % query_bias.size()];
    }
    std::vector<int64_t> start(batch, past);
    std::vector<uint8_t> takes_part(batch * sequence * total);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < sequence; ++t) {
        for (int64_t j = 0; j < total; ++j) {
          bool yes = true;
          if (key_mask == KeyMask::kLengths) yes = j < mask[b];
          if (key_mask == KeyMask::kEndStart) yes = j < mask[b] && j >= mask[batch + b];
          if (key_mask == KeyMask::kKeys) yes = mask[b * total + j] != 0;
          if (key_mask == KeyMask::kQueries) yes = mask[(b * sequence + t) * total + j] != 0;
          takes_part[(b * sequence + t) * total + j] = yes;
        }
      }
    }
    AttentionArgs args;
    args.batch = batch;
    args.query_heads = args.kv_heads = kHeads;
    args.queries = sequence;
    args.keys = total;
    args.head_size = kSize;
    args.value_size = kValueSize;
    args.query = Tokens(queries, sequence, kHeads, kSize);
    args.key = Heads(keys, kHeads, total, kSize);
    args.value = Heads(values, kHeads, total, kValueSize);
    args.output = {output.data(), sequence * kHeads * kValueSize, kValueSize, kHeads * kValueSize};
    args.query_start = start.data();
    args.causal = unidirectional;
    args.scale = 1.0f / std::sqrt(static_cast<float>(kSize));
    args.mask = reinterpret_cast<const bool*>(takes_part.data());
    args.mask_batch_stride = sequence * total;
    args.mask_query_stride = total;
    args.bias_keys = total;
    std::vector<float> added(takes_part.size());
    if (filter > -1000.0f) {
      for (size_t i = 0; i < added.size(); ++i) added[i] = takes_part[i] != 0 ? 0.0f : filter;
      args.mask = nullptr;
      args.bias = added.data();
      args.bias_batch_stride = args.mask_batch_stride;
      args.bias_query_stride = total;
    }
    reference::Attention(args);
    return output;
  }
};

using MultiHeadAttentionTest = InstructionSetTest;

TEST_P(MultiHeadAttentionTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  for (KeyMask key_mask :
       {KeyMask::kNone, KeyMask::kLengths, KeyMask::kEndStart, KeyMask::kKeys, KeyMask::kQueries}) {
    for (int64_t past : {0, 7, 200}) {
      for (bool bias : {false, true}) {
        for (bool present : {false, true}) {
          MultiHead one;
          one.past = past;
          one.bias = bias;
          one.present = present;
          one.key_mask = key_mask;
          one.half = present != bias;
          if (past == 200) one.filter = -5.0f;
          one.unidirectional = past != 7;
          one.Fill(random);
          for (int threads : {1, 3}) {
            EXPECT_TRUE(SameBits(one.Reference(), one.Run(TestContext(GetParam(), threads))));
          }
        }
      }
    }
  }
}

TEST_P(MultiHeadAttentionTest, MaskedKeysMayHoldAnything) {
  // A batch padded on the left, as GPT-2 style hosts do: keys before `pad` are masked.
  Random random(2);
  MultiHead one;
  one.batch = 1;
  one.sequence = one.kv_sequence = 150;
  one.key_mask = KeyMask::kKeys;
  one.Fill(random);
  const int64_t pad = 20;
  for (int64_t j = 0; j < 150; ++j) one.mask[j] = j >= pad;
  const auto expected = one.Run(TestContext(GetParam()));
  for (int64_t i = 0; i < pad * kHeads * kSize; ++i) one.key[i] = kNan;
  for (int64_t i = 0; i < pad * kHeads * kValueSize; ++i) one.value[i] = kInfinity;
  const auto output = one.Run(TestContext(GetParam()));
  EXPECT_TRUE(SameBits(expected, output));
  const auto zeros = std::span(output).subspan(0, pad * kHeads * kValueSize);
  EXPECT_TRUE(SameBits(std::vector<float>(zeros.size(), 0.0f), zeros));
}

TEST_P(MultiHeadAttentionTest, DecodingGivesTheBytesOfThePrompt) {
  Random random(3);
  MultiHead whole;
  whole.batch = 1;
  whole.sequence = whole.kv_sequence = 150;
  whole.Fill(random);
  const auto expected = whole.Run(TestContext(GetParam()));
  MultiHead step = whole;
  step.sequence = step.kv_sequence = 1;
  const int64_t row = kHeads * kSize, value_row = kHeads * kValueSize;
  for (int64_t t : {1, 2, 127, 128, 129, 149}) {
    step.past = t;
    const std::vector<float> none;
    const auto first = [&](const std::vector<float>& x, int64_t w) {
      return std::vector<float>(x.begin(), x.begin() + t * w);
    };
    step.past_key = Together(none, 0, first(whole.key, row), t, 1, kHeads, kSize, nullptr);
    step.past_value =
        Together(none, 0, first(whole.value, value_row), t, 1, kHeads, kValueSize, nullptr);
    step.query.assign(whole.query.begin() + t * row, whole.query.begin() + (t + 1) * row);
    step.key.assign(whole.key.begin() + t * row, whole.key.begin() + (t + 1) * row);
    step.value.assign(whole.value.begin() + t * value_row,
                      whole.value.begin() + (t + 1) * value_row);
    for (int threads : {1, 4}) {
      EXPECT_TRUE(SameBits(std::span(expected).subspan(t * value_row, value_row),
                           step.Run(TestContext(GetParam(), threads))));
    }
  }
}

TEST_P(MultiHeadAttentionTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  MultiHeadAttentionArgs args;
  args.batch = args.sequence = args.kv_sequence = args.num_heads = 1;
  args.head_size = args.value_size = 8;
  args.key_mask = KeyMask::kLengths;
  EXPECT_EQ(MultiHeadAttentionF32(context, args).code, StatusCode::kInvalidArgument);
  args.key_mask = KeyMask::kNone;
  args.past_sequence = 4;
  EXPECT_EQ(MultiHeadAttentionF32(context, args).code, StatusCode::kInvalidArgument);
  AddCompared(2);
}

BI_INSTANTIATE_INSTRUCTION_SETS(MultiHeadAttentionTest);

using OnnxAttentionTest = InstructionSetTest;

TEST_P(OnnxAttentionTest, HasTheBitsOfThePlainLoops) {
  Random random(4);
  for (int trial = 0; trial < 80; ++trial) {
    const int64_t batch = random.Integer(1, 3), kv_heads = random.Integer(1, 2);
    const int64_t heads = kv_heads * random.Integer(1, 3);
    const int64_t sequence = random.Integer(1, 9), added = random.Integer(1, 150);
    const bool nonpad = random.Integer(0, 3) == 0;
    const int64_t past = nonpad ? 0 : random.Integer(0, 1) * random.Integer(1, 140);
    const int64_t total = past + added;
    const bool flat = random.Integer(0, 1) == 1;  // 3-D inputs
    const int64_t mode = random.Integer(-1, 3);
    const auto query = random.Normal(batch * sequence * heads * kSize);
    const auto key = random.Normal(batch * added * kv_heads * kSize);
    const auto value = random.Normal(batch * added * kv_heads * kValueSize);
    const auto past_key = random.Normal(batch * kv_heads * past * kSize);
    const auto past_value = random.Normal(batch * kv_heads * past * kValueSize);
    const int mask_kind = static_cast<int>(random.Integer(0, 2));
    const bool per_head = random.Integer(0, 1) == 1;
    const int64_t mask_keys =
        total - (random.Integer(0, 2) == 0 ? std::min<int64_t>(3, total - 1) : 0);
    auto float_mask = random.Normal(batch * (per_head ? heads : 1) * sequence * mask_keys);
    std::vector<uint8_t> bool_mask;
    for (float& m : float_mask) {
      bool_mask.push_back(m > -0.5f);
      if (m < -1.0f) m = -kInfinity;
    }
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < batch; ++b) lengths.push_back(random.Integer(0, added));

    std::vector<float> output = Poisoned(batch * heads * sequence * kValueSize);
    std::vector<float> present_key = Poisoned(batch * kv_heads * total * kSize);
    std::vector<float> present_value = Poisoned(batch * kv_heads * total * kValueSize);
    std::vector<float> scores = Poisoned(batch * heads * sequence * total);
    OnnxAttentionArgs args;
    args.batch = batch;
    args.sequence = sequence;
    args.kv_sequence = added;
    args.past_sequence = past;
    args.head_size = kSize;
    args.value_size = kValueSize;
    args.q_num_heads = heads;
    args.kv_num_heads = kv_heads;
    args.is_causal = random.Integer(0, 1) == 1;
    args.softcap = random.Integer(0, 1) == 1 ? 2.0f : 0.0f;
    args.query =
        flat ? Tokens(query, sequence, heads, kSize) : Heads(query, heads, sequence, kSize);
    args.key = flat ? Tokens(key, added, kv_heads, kSize) : Heads(key, kv_heads, added, kSize);
    args.value = flat ? Tokens(value, added, kv_heads, kValueSize)
                      : Heads(value, kv_heads, added, kValueSize);
    if (past > 0) {
      args.past_key = past_key.data();
      args.past_value = past_value.data();
    }
    if (mask_kind == 1) args.float_mask = float_mask.data();
    if (mask_kind == 2) args.bool_mask = reinterpret_cast<const bool*>(bool_mask.data());
    args.mask_keys = mask_keys;
    args.mask_query_stride = mask_keys;
    args.mask_head_stride = per_head ? sequence * mask_keys : 0;
    args.mask_batch_stride = (per_head ? heads : 1) * sequence * mask_keys;
    if (nonpad) args.nonpad_kv_seqlen = lengths.data();
    args.output = {output.data(), heads * sequence * kValueSize, sequence * kValueSize, kValueSize};
    if (past > 0) {
      args.present_key = present_key.data();
      args.present_value = present_value.data();
    }
    if (mode >= 0) {
      args.qk_matmul_output_mode = mode;
      args.qk_matmul_output = scores.data();
    }
    const TestContext context(GetParam(), static_cast<int>(random.Integer(1, 4)));
    const Status status = OnnxAttentionF32(context, args);
    ASSERT_TRUE(status.ok()) << status.message;

    const auto flatten = [&](const std::vector<float>& x, int64_t size) {
      if (flat) return x;
      std::vector<float> tokens(x.size());  // [batch, added, kv_heads, size]
      for (size_t i = 0; i < x.size(); ++i) {
        const int64_t d = i % size, t = i / size % added, h = i / size / added % kv_heads;
        const int64_t b = i / size / added / kv_heads;
        tokens[((b * added + t) * kv_heads + h) * size + d] = x[i];
      }
      return tokens;
    };
    const auto keys =
        Together(past_key, past, flatten(key, kSize), added, batch, kv_heads, kSize, nullptr);
    const auto values = Together(past_value, past, flatten(value, kValueSize), added, batch,
                                 kv_heads, kValueSize, nullptr);
    if (past > 0) {
      EXPECT_TRUE(SameBits(keys, present_key));
      EXPECT_TRUE(SameBits(values, present_value));
    }
    std::vector<float> expected(output.size()), expected_scores(scores.size());
    std::vector<int64_t> key_count, start;
    for (int64_t b = 0; b < batch; ++b) {
      key_count.push_back(nonpad ? lengths[b] : total);
      start.push_back(nonpad ? lengths[b] - sequence : past);
    }
    AttentionArgs core;
    core.batch = batch;
    core.query_heads = heads;
    core.kv_heads = kv_heads;
    core.queries = sequence;
    core.keys = total;
    core.head_size = kSize;
    core.value_size = kValueSize;
    core.query = args.query;
    core.key = Heads(keys, kv_heads, total, kSize);
    core.value = Heads(values, kv_heads, total, kValueSize);
    core.output = args.output;
    core.output.data = expected.data();
    core.key_count = key_count.data();
    core.query_start = start.data();
    core.causal = args.is_causal;
    core.softcap = args.softcap;
    core.scale = 1.0f / std::sqrt(static_cast<float>(kSize));
    core.bias = args.float_mask;
    core.mask = args.bool_mask;
    core.bias_batch_stride = core.mask_batch_stride = args.mask_batch_stride;
    core.bias_head_stride = core.mask_head_stride = args.mask_head_stride;
    core.bias_query_stride = core.mask_query_stride = args.mask_query_stride;
    core.bias_keys = mask_keys;
    if (mode >= 0) {
      constexpr ScoreOutput kStages[] = {ScoreOutput::kScaled, ScoreOutput::kCapped,
                                         ScoreOutput::kBiased, ScoreOutput::kSoftmax};
      core.score_output = kStages[mode];
      core.scores = expected_scores.data();
      core.score_keys = total;
      core.score_excluded = -kInfinity;
    }
    reference::Attention(core);
    EXPECT_TRUE(SameBits(expected, output)) << "trial " << trial;
    if (mode >= 0) {
      EXPECT_TRUE(SameBits(expected_scores, scores)) << "trial " << trial;
    }
  }
}

TEST_P(OnnxAttentionTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  OnnxAttentionArgs args;
  args.batch = args.sequence = args.kv_sequence = 1;
  args.head_size = args.value_size = 8;
  args.q_num_heads = 3;
  args.kv_num_heads = 2;
  EXPECT_EQ(OnnxAttentionF32(context, args).code, StatusCode::kInvalidArgument);
  args.kv_num_heads = 1;
  args.qk_matmul_output_mode = 4;
  EXPECT_EQ(OnnxAttentionF32(context, args).code, StatusCode::kInvalidArgument);
  args.qk_matmul_output_mode = 0;
  args.past_sequence = 1;
  EXPECT_EQ(OnnxAttentionF32(context, args).code, StatusCode::kInvalidArgument);
  AddCompared(3);
}

BI_INSTANTIATE_INSTRUCTION_SETS(OnnxAttentionTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
