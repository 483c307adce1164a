// The attention core: bits of the plain loops on every instruction set; a query's bytes depend on
// its own row and keys alone.
#include "batch_invariant/cpu/attention.h"

#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/reference/attention.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Contiguous [batch, heads, tokens, size] operands and everything optional, drawn at random.
struct Problem {
  int64_t batch = 1, query_heads = 4, kv_heads = 2, queries = 5, keys = 300;
  int64_t head_size = 64, value_size = 64;
  std::vector<float> query, key, value, bias, sink;
  std::vector<uint8_t> mask;
  std::vector<int64_t> key_count, query_count, query_start;
  bool causal = true, use_bias = false, use_mask = false, use_sink = false, sink_is_zero = false;
  int64_t window_left = -1, window_right = -1;
  float softcap = 0.0f;
  ScoreOutput score_output = ScoreOutput::kNone;

  void Fill(Random& random) {
    query = random.Normal(batch * query_heads * queries * head_size);
    key = random.Normal(batch * kv_heads * keys * head_size);
    value = random.Normal(batch * kv_heads * keys * value_size);
    bias = random.Normal(batch * query_heads * queries * keys);
    sink = random.Normal(query_heads);
    mask.resize(bias.size());
    for (uint8_t& m : mask) m = random.Integer(0, 4) != 0;
    key_count.clear();
    query_count.clear();
    query_start.clear();
    for (int64_t b = 0; b < batch; ++b) {
      key_count.push_back(b == 0 ? keys : random.Integer(std::min(queries, keys), keys));
      query_count.push_back(b == 0 ? queries : random.Integer(0, queries));
      query_start.push_back(std::max<int64_t>(0, key_count[b] - queries));
    }
  }

  AttentionArgs Args(std::vector<float>& output, std::vector<float>& scores) const {
    output = Poisoned(batch * query_heads * queries * value_size);
    scores =
        Poisoned(score_output == ScoreOutput::kNone ? 0 : batch * query_heads * queries * keys);
    AttentionArgs args;
    args.batch = batch;
    args.query_heads = query_heads;
    args.kv_heads = kv_heads;
    args.queries = queries;
    args.keys = keys;
    args.head_size = head_size;
    args.value_size = value_size;
    args.query = {query.data(), query_heads * queries * head_size, queries * head_size, head_size};
    args.key = {key.data(), kv_heads * keys * head_size, keys * head_size, head_size};
    args.value = {value.data(), kv_heads * keys * value_size, keys * value_size, value_size};
    args.output = {output.data(), query_heads * queries * value_size, queries * value_size,
                   value_size};
    args.key_count = key_count.data();
    args.query_count = query_count.data();
    args.query_start = query_start.data();
    args.causal = causal;
    args.window_left = window_left;
    args.window_right = window_right;
    args.scale = 0.125f;
    args.softcap = softcap;
    args.bias_keys = keys;
    if (use_bias) {
      args.bias = bias.data();
      args.bias_batch_stride = query_heads * queries * keys;
      args.bias_head_stride = queries * keys;
      args.bias_query_stride = keys;
    }
    if (use_mask) {
      args.mask = reinterpret_cast<const bool*>(mask.data());
      args.mask_batch_stride = query_heads * queries * keys;
      args.mask_head_stride = queries * keys;
      args.mask_query_stride = keys;
    }
    if (use_sink) args.sink = sink.data();
    args.sink_is_zero = sink_is_zero;
    args.score_output = score_output;
    args.score_keys = keys;
    args.scores = scores.data();
    return args;
  }
};

struct Result {
  std::vector<float> output, scores;
};

Result Evaluate(const Context& context, const Problem& problem) {
  Result result;
  const Status status = AttentionF32(context, problem.Args(result.output, result.scores));
  EXPECT_TRUE(status.ok()) << status.message;
  return result;
}

Result Reference(const Problem& problem, reference::BlockRule rule = {}) {
  Result result;
  reference::Attention(problem.Args(result.output, result.scores), rule);
  for (auto* values : {&result.output, &result.scores}) {
    for (float& value : *values) value = std::isnan(value) ? kNan : value;
  }
  return result;
}

using AttentionTest = InstructionSetTest;

TEST_P(AttentionTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  for (int trial = 0; trial < 150; ++trial) {
    Problem problem;
    problem.batch = random.Integer(1, 3);
    problem.kv_heads = random.Integer(1, 3);
    problem.query_heads = problem.kv_heads * random.Integer(1, 8);
    problem.queries = random.Integer(1, 20);
    problem.keys = random.Integer(0, 400);
    problem.head_size = random.Integer(0, 1) ? 64 : random.Integer(1, 96);
    problem.value_size = random.Integer(0, 1) ? problem.head_size : random.Integer(1, 80);
    problem.causal = random.Integer(0, 3) != 0;
    problem.use_bias = random.Integer(0, 2) == 0;
    problem.use_mask = random.Integer(0, 2) == 0;
    problem.use_sink = random.Integer(0, 3) == 0;
    problem.sink_is_zero = !problem.use_sink && random.Integer(0, 3) == 0;
    problem.softcap = random.Integer(0, 2) == 0 ? 3.0f : 0.0f;
    problem.window_left = random.Integer(0, 2) == 0 ? random.Integer(0, 200) : -1;
    problem.window_right = random.Integer(0, 5) == 0 ? random.Integer(0, 100) : -1;
    problem.score_output = static_cast<ScoreOutput>(random.Integer(0, 4));
    problem.Fill(random);
    if (trial % 5 == 0 && !problem.bias.empty()) {
      for (size_t i = 0; i < problem.bias.size(); i += 2) problem.bias[i] = -kInfinity;
    }
    if (trial % 7 == 0 && !problem.key.empty()) problem.key[problem.key.size() / 2] = kNan;
    if (trial % 7 == 1 && !problem.value.empty())
      problem.value[problem.value.size() / 2] = kInfinity;
    const Result expected = Reference(problem);
    const Result actual =
        Evaluate(TestContext(GetParam(), static_cast<int>(random.Integer(1, 4))), problem);
    EXPECT_TRUE(SameBits(expected.output, actual.output)) << "trial " << trial;
    EXPECT_TRUE(SameBits(expected.scores, actual.scores)) << "trial " << trial;
  }
}

TEST_P(AttentionTest, LongPrefillAndSplitDecodeHaveTheBitsOfThePlainLoops) {
  Random random(2);
  for (int64_t queries : {1, 2, 7, 150}) {
    Problem problem;
    problem.query_heads = 7;
    problem.kv_heads = 1;
    problem.queries = queries;
    problem.keys = 700;
    problem.head_size = problem.value_size = 32;
    problem.Fill(random);
    const Result expected = Reference(problem);
    for (int threads : {1, 2, 3, 4, 16}) {
      EXPECT_TRUE(
          SameBits(expected.output, Evaluate(TestContext(GetParam(), threads), problem).output));
    }
  }
}

TEST_P(AttentionTest, IsCloseToFloat64) {
  Random random(3);
  Problem problem;
  problem.use_bias = true;
  problem.softcap = 5.0f;
  problem.use_sink = true;
  problem.Fill(random);
  const Result actual = Evaluate(TestContext(GetParam()), problem);
  for (int64_t h = 0; h < problem.query_heads; ++h) {
    for (int64_t t = 0; t < problem.queries; ++t) {
      const float* q = &problem.query[(h * problem.queries + t) * 64];
      const int64_t end = problem.query_start[0] + t + 1, kv = h / 2;
      std::vector<double> weight;
      double sum = std::exp(problem.sink[h]);
      for (int64_t j = 0; j < end; ++j) {
        double dot = 0;
        for (int64_t d = 0; d < 64; ++d) dot += double{q[d]} * problem.key[(kv * 300 + j) * 64 + d];
        const double score =
            5 * std::tanh(dot * 0.125 / 5) + problem.bias[(h * problem.queries + t) * 300 + j];
        weight.push_back(std::exp(score));
        sum += weight.back();
      }
      for (int64_t d = 0; d < 64; ++d) {
        double y = 0;
        for (int64_t j = 0; j < end; ++j) {
          y += weight[j] / sum * problem.value[(kv * 300 + j) * 64 + d];
        }
        EXPECT_NEAR(actual.output[(h * problem.queries + t) * 64 + d], y, 3e-6);
      }
      AddCompared(64);
    }
  }
}

TEST_P(AttentionTest, RowsDoNotSeeTheBatchTheirPositionOrNeighbours) {
  Random random(4);
  Problem alone;
  alone.queries = 3;
  alone.keys = 200;
  alone.head_size = alone.value_size = 48;
  alone.Fill(random);
  const auto expected = Evaluate(TestContext(GetParam()), alone).output;
  for (int64_t batch : {1, 2, 5, 16, 64}) {
    for (int threads : {1, 2, 3, 4}) {
      Problem many = alone;
      many.batch = batch;
      many.Fill(random);
      for (auto* data : {&many.query, &many.key, &many.value}) {
        for (size_t i = 0; i < data->size(); i += 13) (*data)[i] = i % 2 ? kNan : kInfinity;
      }
      const int64_t row = random.Integer(0, batch - 1);
      const auto place = [&](const std::vector<float>& from, std::vector<float>& to) {
        std::copy(from.begin(), from.end(), to.begin() + row * static_cast<int64_t>(from.size()));
      };
      place(alone.query, many.query);
      place(alone.key, many.key);
      place(alone.value, many.value);
      many.key_count[row] = alone.key_count[0];
      many.query_count[row] = alone.query_count[0];
      many.query_start[row] = alone.query_start[0];
      const auto output = Evaluate(TestContext(GetParam(), threads), many).output;
      EXPECT_TRUE(
          SameBits(expected, std::span(output).subspan(row * expected.size(), expected.size())));
    }
  }
}

TEST_P(AttentionTest, KeysThatTakeNoPartMayHoldAnything) {
  Random random(5);
  for (bool masked : {false, true}) {
    Problem problem;
    problem.queries = 9;
    problem.keys = 290;
    problem.use_bias = true;
    problem.use_mask = masked;
    problem.window_left = 150;
    problem.Fill(random);
    problem.key_count[0] = 280;
    problem.query_start[0] = 271;
    // One mask for all, so that a masked key is masked for every query.
    for (size_t i = 0; i < problem.mask.size(); ++i) problem.mask[i] = i % problem.keys % 3 != 0;
    const auto expected = Evaluate(TestContext(GetParam()), problem).output;
    for (int64_t j = 0; j < problem.keys; ++j) {
      if (j >= 121 && j < 280 && !(masked && j % 3 == 0)) continue;
      for (int64_t head = 0; head < problem.kv_heads; ++head) {
        for (int64_t d = 0; d < 64; ++d) {
          problem.key[(head * problem.keys + j) * 64 + d] = kNan;
          problem.value[(head * problem.keys + j) * 64 + d] = d % 2 ? kNan : kInfinity;
        }
      }
      for (size_t row = 0; row < problem.bias.size() / problem.keys; ++row) {
        problem.bias[row * problem.keys + j] = kNan;
      }
    }
    EXPECT_TRUE(SameBits(expected, Evaluate(TestContext(GetParam()), problem).output));
    EXPECT_FALSE(std::isnan(expected[0]));
  }
}

TEST_P(AttentionTest, AQueryDoesNotSeeLaterKeys) {
  // Query t alone, and as one of many: the NaN of key t + 1 is only for those behind it.
  Random random(6);
  Problem problem;
  problem.queries = 140;
  problem.keys = 140;
  problem.Fill(random);
  const int64_t poisoned = 77;
  for (int64_t head = 0; head < problem.kv_heads; ++head) {
    problem.value[(head * problem.keys + poisoned) * 64] = kNan;
  }
  const auto output = Evaluate(TestContext(GetParam()), problem).output;
  const auto expected = Reference(problem).output;
  EXPECT_TRUE(SameBits(expected, output));
  for (int64_t t = 0; t < problem.queries; ++t) {
    EXPECT_EQ(std::isnan(output[t * 64]), t >= poisoned);
    EXPECT_FALSE(std::isnan(output[t * 64 + 1]));
  }
}

TEST_P(AttentionTest, AQueryWithoutKeysGivesZeros) {
  Random random(7);
  Problem problem;
  problem.use_mask = true;
  problem.Fill(random);
  std::fill(problem.mask.begin(), problem.mask.end(), 0);
  const auto output = Evaluate(TestContext(GetParam()), problem).output;
  EXPECT_TRUE(SameBits(std::vector<float>(output.size(), 0.0f), output));
}

TEST_P(AttentionTest, NoticesBlocksThatBeginElsewhere) {
  Random random(8);
  Problem problem;
  problem.window_left = 210;
  problem.queries = 1;
  problem.Fill(random);
  const auto ours = Evaluate(TestContext(GetParam()), problem).output;
  EXPECT_TRUE(SameBits(Reference(problem).output, ours));
  EXPECT_FALSE(SameBits(Reference(problem, {.from_first_key = true}).output, ours));
  EXPECT_FALSE(SameBits(Reference(problem, {.keys = 64}).output, ours));
}

TEST_P(AttentionTest, RefusesWhatContradictsItself) {
  Random random(9);
  const TestContext context(GetParam());
  Problem problem;
  problem.Fill(random);
  std::vector<float> output, scores;
  AttentionArgs args = problem.Args(output, scores);
  args.query_heads = 3;
  EXPECT_EQ(AttentionF32(context, args).code, StatusCode::kInvalidArgument);
  args = problem.Args(output, scores);
  args.score_output = ScoreOutput::kBiased;
  args.score_keys = 1;
  EXPECT_EQ(AttentionF32(context, args).code, StatusCode::kInvalidArgument);
  args = problem.Args(output, scores);
  const int64_t too_many = problem.keys + 1;
  args.key_count = &too_many;
  EXPECT_EQ(AttentionF32(context, args).code, StatusCode::kInvalidArgument);
  AddCompared(3);
}

BI_INSTANTIATE_INSTRUCTION_SETS(AttentionTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
