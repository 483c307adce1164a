// GroupQueryAttention as a decoder uses it: whole prompts, chunks, single tokens, several at once,
// batches of different lengths, shared and separate caches of any length. Always the same bytes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "batch_invariant/cpu/attention.h"
#include "batch_invariant/cpu/elementwise.h"
#include "cpu/support/support.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/rotary.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The constant part of a node.
struct Node {
  int64_t heads = 6, kv_heads = 2, head_size = 32;
  int64_t cache_width = 16, cache_rows = 600;
  bool packed = true, rotary = true, interleaved = false, norm = false, sink = false;
  bool smooth = false;
  bool half = false;          // the caches are fp16
  bool window_cache = false;  // sliding_window_cache
  int64_t window = -1;
  int64_t causal = 1;
  float softcap = 0.0f;
  std::vector<float> cosine, sine, q_norm, k_norm, sinks;

  explicit Node(Random& random) {
    for (int64_t i = 0; i < cache_rows * 16; ++i) {
      const float angle = random.Uniform(-3.0f, 3.0f);
      cosine.push_back(std::cos(angle));
      sine.push_back(std::sin(angle));
    }
    q_norm = random.Normal(head_size);
    k_norm = random.Normal(head_size);
    sinks = random.Normal(heads);
  }

  int64_t QueryWidth() const { return heads * head_size; }
  int64_t KvWidth() const { return kv_heads * head_size; }
};

// One sequence: its tokens' queries, keys and values, [length, width].
struct Sequence {
  int64_t length;
  std::vector<float> query, key, value;

  Sequence(const Node& node, int64_t length, Random& random)
      : length(length),
        query(random.Normal(length * node.QueryWidth())),
        key(random.Normal(length * node.KvWidth())),
        value(random.Normal(length * node.KvWidth())) {}
};

// Plays a batch of sequences through the op, keeping its caches between calls as a host does.
class Player {
 public:
  // capacity 0: separate caches, new ones every call.
  Player(const Context& context, const Node& node, std::vector<Sequence> sequences,
         int64_t capacity)
      : Player(context, node, std::move(sequences), capacity, capacity > 0) {}
  Player(const Context& context, const Node& node, std::vector<Sequence> sequences,
         int64_t capacity, bool shared)
      : context_(context),
        node_(node),
        sequences_(std::move(sequences)),
        capacity_(capacity),
        shared_(shared) {
    const size_t size = sequences_.size() * node.KvWidth() * capacity;
    key_cache_ = Poisoned(size);
    value_cache_ = Poisoned(size);
    half_key_cache_.assign(size, 0x7dad);
    half_value_cache_.assign(size, 0x7dad);
    done_.assign(sequences_.size(), 0);
    outputs_.resize(sequences_.size());
  }

  // The first lengths[b] tokens of each sequence, right-padded with NaN.
  void Prompt(const std::vector<int64_t>& lengths) {
    Step(lengths, *std::max_element(lengths.begin(), lengths.end()), true);
  }
  // The next `count` tokens of each sequence.
  void Continue(int64_t count) {
    Step(std::vector<int64_t>(sequences_.size(), count), count, false);
  }

  // [tokens, query width] of what has been played of sequence b.
  const std::vector<float>& Output(int64_t b) const { return outputs_[b]; }
  const std::vector<float>& key_cache() const { return key_cache_; }
  int64_t capacity() const { return capacity_; }

 private:
  void Step(const std::vector<int64_t>& counts, int64_t tokens, bool prompt) {
    const int64_t batch = static_cast<int64_t>(sequences_.size());
    const int64_t qw = node_.QueryWidth(), kw = node_.KvWidth();
    std::vector<float> query, key, value;
    std::vector<int32_t> seqlens_k;
    int64_t total = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const Sequence& sequence = sequences_[b];
      for (int64_t s = 0; s < tokens; ++s) {
        const bool real = s < counts[b];
        const int64_t token = done_[b] + s;
        const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t w) {
          for (int64_t i = 0; i < w; ++i) to.push_back(real ? from[token * w + i] : kNan);
        };
        append(query, sequence.query, qw);
        append(node_.packed ? query : key, sequence.key, kw);
        append(node_.packed ? query : value, sequence.value, kw);
      }
      seqlens_k.push_back(static_cast<int32_t>(done_[b] + counts[b] - 1));
      total = std::max(total, done_[b] + counts[b]);
    }
    std::vector<float> output = Poisoned(batch * tokens * qw);
    GroupQueryAttentionArgs args;
    args.batch = batch;
    args.sequence = tokens;
    args.head_size = node_.head_size;
    args.num_heads = node_.heads;
    args.kv_num_heads = node_.kv_heads;
    args.softcap = node_.softcap;
    args.local_window_size = node_.window;
    args.sliding_window_cache = node_.window_cache;
    args.causal = node_.causal;
    args.smooth_softmax = node_.smooth ? 1 : -1;
    args.do_rotary = node_.rotary;
    args.rotary_interleaved = node_.interleaved;
    args.query = query.data();
    if (!node_.packed) {
      args.key = key.data();
      args.value = value.data();
    }
    args.seqlens_k = seqlens_k.data();
    args.total_sequence_length = total;
    args.cos_cache = node_.cosine.data();
    args.sin_cache = node_.sine.data();
    args.cache_rows = node_.cache_rows;
    args.cache_width = node_.cache_width;
    if (node_.sink) args.head_sink = node_.sinks.data();
    if (node_.norm) {
      args.q_norm_weight = node_.q_norm.data();
      args.k_norm_weight = node_.k_norm.data();
    }
    args.output = output.data();
    std::vector<float> present_key, present_value;
    std::vector<uint16_t> half_present_key, half_present_value;
    const auto cache = [&](std::vector<float>& full, std::vector<uint16_t>& half) {
      return node_.half ? CachePointer(half.data()) : CachePointer(full.data());
    };
    if (!prompt || shared_) {
      args.past_key = cache(key_cache_, half_key_cache_);
      args.past_value = cache(value_cache_, half_value_cache_);
      args.past_capacity = capacity_;
    }
    if (shared_) {
      args.present_key = args.past_key;
      args.present_value = args.past_value;
      args.present_capacity = capacity_;
    } else {
      args.present_capacity = node_.window_cache ? capacity_ : std::max(args.past_capacity, total);
      present_key = Poisoned(batch * kw * args.present_capacity);
      present_value = present_key;
      half_present_key.assign(present_key.size(), 0x7dad);
      half_present_value = half_present_key;
      args.present_key = cache(present_key, half_present_key);
      args.present_value = cache(present_value, half_present_value);
    }
    const Status status = GroupQueryAttentionF32(context_, args);
    ASSERT_TRUE(status.ok()) << status.message;
    if (!shared_) {
      key_cache_ = std::move(present_key);
      value_cache_ = std::move(present_value);
      half_key_cache_ = std::move(half_present_key);
      half_value_cache_ = std::move(half_present_value);
      capacity_ = args.present_capacity;
    }
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t s = 0; s < tokens; ++s) {
        const float* row = &output[(b * tokens + s) * qw];
        if (s < counts[b]) {
          outputs_[b].insert(outputs_[b].end(), row, row + qw);
        } else {
          EXPECT_TRUE(SameBits(std::vector<float>(qw, 0.0f), std::span(row, qw)));
        }
      }
      done_[b] += counts[b];
    }
  }

  const Context& context_;
  const Node& node_;
  std::vector<Sequence> sequences_;
  int64_t capacity_;
  bool shared_;
  std::vector<float> key_cache_, value_cache_;
  std::vector<uint16_t> half_key_cache_, half_value_cache_;
  std::vector<int64_t> done_;
  std::vector<std::vector<float>> outputs_;
};

// As an fp16 cache gives them back.
void RoundToHalf(std::vector<float>& x) {
  const Context scalar;
  std::vector<uint16_t> half(x.size());
  ASSERT_TRUE(RoundToF16(scalar, static_cast<int64_t>(x.size()), x.data(), half.data()).ok());
  ASSERT_TRUE(WidenF16(scalar, static_cast<int64_t>(x.size()), half.data(), x.data()).ok());
}

// The whole sequence at once, by plain loops: norm, rotary, attention.
std::vector<float> Reference(const Node& node, const Sequence& sequence,
                             reference::BlockRule rule = {}) {
  std::vector<float> query = sequence.query, key = sequence.key, value = sequence.value;
  const auto place = [&](std::vector<float>& x, int64_t heads, const std::vector<float>& weight) {
    for (int64_t s = 0; s < sequence.length; ++s) {
      for (int64_t h = 0; h < heads; ++h) {
        float* head = &x[(s * heads + h) * node.head_size];
        if (node.norm) {
          NormArgs norm;
          norm.rows = 1;
          norm.width = node.head_size;
          norm.epsilon = 1e-6f;
          norm.x = norm.y = head;
          norm.gamma = weight.data();
          reference::RmsNorm(norm);
        }
        if (node.rotary) {
          reference::RotateHead(head, &node.cosine[s * node.cache_width],
                                &node.sine[s * node.cache_width], node.head_size,
                                2 * node.cache_width, node.interleaved, head);
        }
      }
    }
  };
  place(query, node.heads, node.q_norm);
  place(key, node.kv_heads, node.k_norm);
  if (node.half) {
    RoundToHalf(key);
    RoundToHalf(value);
  }
  std::vector<float> output(sequence.length * node.QueryWidth());
  AttentionArgs args;
  args.batch = 1;
  args.query_heads = node.heads;
  args.kv_heads = node.kv_heads;
  args.queries = args.keys = sequence.length;
  args.head_size = args.value_size = node.head_size;
  args.query = {query.data(), 0, node.head_size, node.QueryWidth()};
  args.key = {key.data(), 0, node.head_size, node.KvWidth()};
  args.value = {value.data(), 0, node.head_size, node.KvWidth()};
  args.output = {output.data(), 0, node.head_size, node.QueryWidth()};
  args.causal = node.causal != 0;
  args.window_left = node.window > 0 ? node.window - 1 : -1;
  args.scale = 1.0f / std::sqrt(static_cast<float>(node.head_size));
  args.softcap = node.softcap;
  args.sink = node.sink ? node.sinks.data() : nullptr;
  args.sink_is_zero = node.smooth;
  reference::Attention(args, rule);
  return output;
}

std::vector<Node> Nodes(Random& random) {
  std::vector<Node> nodes;
  const auto add = [&](auto change) {
    nodes.emplace_back(random);
    change(nodes.back());
  };
  add([](Node&) {});
  add([](Node& n) {
    n.packed = false;
    n.interleaved = true;
  });
  add([](Node& n) {
    n.norm = true;
    n.cache_width = 8;
  });
  add([](Node& n) {
    n.window = 140;
    n.sink = true;
  });
  add([](Node& n) {
    n.softcap = 2.0f;
    n.rotary = false;
    n.smooth = true;
  });
  add([](Node& n) {
    n.heads = 2;
    n.window = 5;
  });
  add([](Node& n) {
    n.half = true;
    n.norm = true;
  });
  return nodes;
}

using GroupQueryAttentionTest = InstructionSetTest;

TEST_P(GroupQueryAttentionTest, PrefillChunksAndDecodeGiveTheBytesOfThePlainLoops) {
  Random random(1);
  for (const Node& node : Nodes(random)) {
    const Sequence sequence(node, 300, random);
    const auto expected = Reference(node, sequence);
    for (int64_t capacity : {0, 300, 301, 512}) {
      for (int threads : {1, 3}) {
        const TestContext context(GetParam(), threads);
        Player whole(context, node, {sequence}, capacity);
        whole.Prompt({300});
        EXPECT_TRUE(SameBits(expected, whole.Output(0)));

        Player chunked(context, node, {sequence}, capacity);
        chunked.Prompt({100});
        for (int64_t chunk : {1, 27, 100, 72}) chunked.Continue(chunk);
        EXPECT_TRUE(SameBits(expected, chunked.Output(0)));
      }
    }
    const TestContext context(GetParam(), 2);
    Player single(context, node, {sequence}, 320);
    single.Prompt({1});
    for (int64_t token = 1; token < 300; ++token) single.Continue(1);
    EXPECT_TRUE(SameBits(expected, single.Output(0)));

    Player separate(context, node, {sequence}, 0);
    separate.Prompt({250});
    for (int64_t step = 0; step < 10; ++step) separate.Continue(step % 2 == 0 ? 4 : 6);
    EXPECT_TRUE(SameBits(expected, separate.Output(0)));
  }
}

TEST_P(GroupQueryAttentionTest, ACacheOfWindowsGivesTheBytesOfAFullOne) {
  Random random(7);
  for (const auto& [window, slots] : {std::pair{5, 5}, {5, 9}, {140, 140}, {140, 200}, {64, 400}}) {
    for (const bool half : {false, true}) {
      Node node(random);
      node.window = window;
      node.half = half;
      const std::vector<Sequence> sequences = {Sequence(node, 300, random),
                                               Sequence(node, 277, random)};
      node.window_cache = true;
      for (const bool shared : {false, true}) {
        const TestContext context(GetParam(), 2);
        Player whole(context, node, sequences, slots, shared);
        whole.Prompt({300, 277});
        Player steps(context, node, sequences, slots, shared);
        steps.Prompt({130, 107});
        for (int64_t step : {1, 1, 1, 60, 1, 6, 100}) steps.Continue(step);
        for (int64_t b = 0; b < 2; ++b) {
          const auto expected = Reference(node, sequences[b]);
          EXPECT_TRUE(SameBits(expected, whole.Output(b)));
          EXPECT_TRUE(SameBits(expected, steps.Output(b)));
        }
      }
    }
  }
}

TEST_P(GroupQueryAttentionTest, ASequenceDoesNotSeeTheBatchOrItsPadding) {
  Random random(2);
  const Node node(random);
  const Sequence sequence(node, 150, random);
  const auto expected = Reference(node, sequence);
  for (int64_t batch : {1, 2, 3, 8, 32}) {
    for (int64_t capacity : {0, 260}) {
      for (int threads : {1, 2, 4}) {
        const int64_t place = random.Integer(0, batch - 1);
        std::vector<Sequence> sequences;
        std::vector<int64_t> lengths;
        for (int64_t b = 0; b < batch; ++b) {
          const int64_t length = b == place ? 140 : random.Integer(1, 240);
          lengths.push_back(length);
          sequences.push_back(b == place ? sequence : Sequence(node, length + 10, random));
          if (b != place) sequences.back().value[5] = kNan;
          if (b != place) sequences.back().key[3] = std::numeric_limits<float>::infinity();
        }
        const TestContext context(GetParam(), threads);
        Player player(context, node, std::move(sequences), capacity);
        player.Prompt(lengths);
        for (int64_t step = 0; step < 10; ++step) player.Continue(1);
        EXPECT_TRUE(SameBits(expected, player.Output(place)));
      }
    }
  }
}

TEST_P(GroupQueryAttentionTest, NoticesBlocksThatFollowTheQuery) {
  Random random(3);
  Node node(random);
  node.window = 140;
  const Sequence sequence(node, 300, random);
  const TestContext context(GetParam());
  Player player(context, node, {sequence}, 300);
  player.Prompt({300});
  EXPECT_TRUE(SameBits(Reference(node, sequence), player.Output(0)));
  EXPECT_FALSE(SameBits(Reference(node, sequence, {.from_first_key = true}), player.Output(0)));
}

// A batch of one with random operands of every kind.
struct Fixture {
  Random random{4};
  Node node{random};
  int64_t sequence = 4, total = 9, capacity = 12;
  std::vector<float> query = random.Normal(4 * (node.QueryWidth() + 2 * node.KvWidth()));
  std::vector<float> past_key = random.Normal(node.KvWidth() * 12);
  std::vector<float> past_value = random.Normal(node.KvWidth() * 12);
  std::vector<float> present_key = Poisoned(node.KvWidth() * 12);
  std::vector<float> present_value = Poisoned(node.KvWidth() * 12);
  std::vector<float> output = Poisoned(4 * node.QueryWidth());
  std::vector<float> bias = random.Normal(node.heads * 4 * 9);
  std::vector<float> output_qk = Poisoned(node.heads * 4 * 9);
  std::vector<int64_t> position_ids = {5, 6, 7, 8};
  int32_t seqlens_k = 8;

  GroupQueryAttentionArgs Args() {
    GroupQueryAttentionArgs args;
    args.batch = 1;
    args.sequence = sequence;
    args.head_size = node.head_size;
    args.num_heads = node.heads;
    args.kv_num_heads = node.kv_heads;
    args.do_rotary = 1;
    args.query = query.data();
    args.past_key = past_key.data();
    args.past_value = past_value.data();
    args.past_capacity = capacity;
    args.seqlens_k = &seqlens_k;
    args.total_sequence_length = total;
    args.cos_cache = node.cosine.data();
    args.sin_cache = node.sine.data();
    args.cache_rows = node.cache_rows;
    args.cache_width = node.cache_width;
    args.output = output.data();
    args.present_key = present_key.data();
    args.present_value = present_value.data();
    args.present_capacity = capacity;
    return args;
  }
};

TEST_P(GroupQueryAttentionTest, PositionIdsEqualToTheSlotsChangeNothing) {
  const TestContext context(GetParam());
  Fixture fixture;
  ASSERT_TRUE(GroupQueryAttentionF32(context, fixture.Args()).ok());
  const auto expected = fixture.output;
  fixture.output = Poisoned(expected.size());
  GroupQueryAttentionArgs args = fixture.Args();
  args.position_ids = fixture.position_ids.data();
  ASSERT_TRUE(GroupQueryAttentionF32(context, args).ok());
  EXPECT_TRUE(SameBits(expected, fixture.output));
  fixture.position_ids[2] += 1;
  ASSERT_TRUE(GroupQueryAttentionF32(context, args).ok());
  EXPECT_FALSE(SameBits(expected, fixture.output));
}

TEST_P(GroupQueryAttentionTest, SlotsWithoutTokensOfASeparateCacheAreZero) {
  const TestContext context(GetParam());
  Fixture fixture;
  ASSERT_TRUE(GroupQueryAttentionF32(context, fixture.Args()).ok());
  for (int64_t head = 0; head < fixture.node.kv_heads; ++head) {
    const int64_t from = head * 12 * 32;
    EXPECT_TRUE(SameBits(std::span(fixture.past_key).subspan(from, 5 * 32),
                         std::span(fixture.present_key).subspan(from, 5 * 32)));
    EXPECT_TRUE(SameBits(std::vector<float>(3 * 32, 0.0f),
                         std::span(fixture.present_value).subspan(from + 9 * 32, 3 * 32)));
  }
}

TEST_P(GroupQueryAttentionTest, BiasAndScoreOutputAgree) {
  const TestContext context(GetParam());
  Fixture fixture;
  for (int64_t qk_output : {1, 2}) {
    GroupQueryAttentionArgs args = fixture.Args();
    args.attention_bias = fixture.bias.data();
    args.bias_batch = 1;
    args.bias_heads = fixture.node.heads;
    args.bias_keys = fixture.total;
    args.qk_output = qk_output;
    args.output_qk = fixture.output_qk.data();
    ASSERT_TRUE(GroupQueryAttentionF32(context, args).ok());
    if (qk_output == 1) continue;
    // Softmax output: each row sums to one over the keys it sees and is 0 beyond; V weighted by it
    // is the output.
    for (int64_t h = 0; h < fixture.node.heads; ++h) {
      for (int64_t s = 0; s < 4; ++s) {
        const float* weights = &fixture.output_qk[(h * 4 + s) * 9];
        double sum = 0, first = 0;
        for (int64_t j = 0; j < 9; ++j) {
          sum += weights[j];
          first += double{weights[j]} * fixture.present_value[(h / 3 * 12 + j) * 32];
          if (j > 5 + s) {
            EXPECT_EQ(weights[j], 0.0f);
          }
        }
        EXPECT_NEAR(sum, 1.0, 1e-6);
        EXPECT_NEAR(first, fixture.output[s * fixture.node.QueryWidth() + h * 32], 2e-6);
        AddCompared(9);
      }
    }
  }
}

TEST_P(GroupQueryAttentionTest, CachesWithoutNewKeysAreReadInPlace) {
  const TestContext context(GetParam());
  Fixture fixture;
  ASSERT_TRUE(GroupQueryAttentionF32(context, fixture.Args()).ok());
  const auto expected = fixture.output;
  // The same keys, now all in the past.
  std::vector<float> query;
  const int64_t token = fixture.node.QueryWidth() + 2 * fixture.node.KvWidth();
  for (int64_t s = 0; s < 4; ++s) {
    query.insert(query.end(), fixture.query.begin() + s * token,
                 fixture.query.begin() + s * token + fixture.node.QueryWidth());
  }
  fixture.output = Poisoned(expected.size());
  GroupQueryAttentionArgs args = fixture.Args();
  args.query = query.data();
  args.kv_sequence = 0;
  args.past_key = fixture.present_key.data();
  args.past_value = fixture.present_value.data();
  args.present_key = args.present_value = nullptr;
  ASSERT_TRUE(GroupQueryAttentionF32(context, args).ok());
  EXPECT_TRUE(SameBits(expected, fixture.output));
}

TEST_P(GroupQueryAttentionTest, RefusesByNameAndWritesNothing) {
  const TestContext context(GetParam());
  Fixture fixture;
  const auto refused = [&](auto change, StatusCode code, const std::string& word) {
    GroupQueryAttentionArgs args = fixture.Args();
    change(args);
    const Status status = GroupQueryAttentionF32(context, args);
    EXPECT_EQ(status.code, code) << status.message;
    EXPECT_NE(status.message.find(word), std::string::npos) << status.message;
  };
  using Args = GroupQueryAttentionArgs;
  refused([](Args& a) { a.k_quant_type = "PER_TENSOR"; }, StatusCode::kUnsupported, "quantised");
  refused([](Args& a) { a.sliding_window_cache = 1; }, StatusCode::kInvalidArgument,
          "sliding_window_cache");
  refused([](Args& a) { a.kv_num_heads = 4; }, StatusCode::kInvalidArgument, "num_heads");
  refused([](Args& a) { a.total_sequence_length = 20; }, StatusCode::kInvalidArgument, "present");
  refused([](Args& a) { a.cache_rows = 7; }, StatusCode::kInvalidArgument, "position 7");
  refused([](Args& a) { a.past_key = nullptr; }, StatusCode::kInvalidArgument, "pairs");
  refused([](Args& a) { a.qk_output = 1; }, StatusCode::kInvalidArgument, "qk_output");
  refused(
      [](Args& a) {
        a.local_window_size = 4;
        a.causal = 0;
      },
      StatusCode::kInvalidArgument, "local_window_size");
  fixture.seqlens_k = 2;
  refused([](Args&) {}, StatusCode::kInvalidArgument, "seqlens_k");
  fixture.seqlens_k = 9;
  refused([](Args&) {}, StatusCode::kInvalidArgument, "seqlens_k");
  EXPECT_TRUE(SameBits(Poisoned(fixture.output.size()), fixture.output));
  EXPECT_TRUE(SameBits(Poisoned(fixture.present_key.size()), fixture.present_key));
}

BI_INSTANTIATE_INSTRUCTION_SETS(GroupQueryAttentionTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
