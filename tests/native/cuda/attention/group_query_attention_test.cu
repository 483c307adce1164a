// GroupQueryAttention: the bytes of a token do not depend on how, where and with whom it is
// computed.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "batch_invariant/cuda/attention.h"
#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/norm.h"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

template <typename T>
constexpr ElementType kElementTypeOf = std::is_same_v<T, float>    ? ElementType::kFloat32
                                       : std::is_same_v<T, __half> ? ElementType::kFloat16
                                                                   : ElementType::kBFloat16;

struct Model {
  const char* name;
  int heads, kv_heads, head_size;
  int rotary_dim = 0;
  bool interleaved = false;
  bool packed = true;
  bool norm = false;
  int window = -1;
  float softcap = 0.0f;
  bool bias = false;
  bool sink = false;
};

const Model kModels[] = {
    {"llama", 32, 8, 128, 128},
    {"partial rotary, interleaved, split inputs", 8, 2, 80, 32, true, false},
    {"qwen3", 16, 8, 128, 128, false, false, true},
    {"no rotary", 14, 2, 64},
    {"gemma2", 8, 4, 256, 256, false, true, false, 160, 50.0f},
    {"gpt-oss", 64, 8, 64, 64, false, true, false, 128, 0.0f, false, true},
    {"bias", 8, 2, 64, 64, false, true, false, -1, 0.0f, true},
};

constexpr int kLength = 421;     // tokens of the sequence under test
constexpr int kPositions = 512;  // rows of the rotary caches and of every bias

// Bias of head h, query position i, key position j; some are -Inf.
template <typename T>
__device__ T BiasValue(std::uint64_t seed, int h, int i, int j) {
  const std::uint64_t bits = Mix(seed ^ Mix((static_cast<std::uint64_t>(h) << 40) + i * 4096 + j));
  return FromFloat<T>(bits % 9 == 0 && i != j ? -INFINITY
                                              : static_cast<float>((bits >> 20) % 1024) / 512.0f);
}

template <typename T>
__global__ void FillBias(T* bias, std::uint64_t seed, int heads, int tokens, int total, int past) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= std::int64_t{heads} * tokens * total) return;
  const int key = i % total, token = i / total % tokens, head = i / total / tokens;
  bias[i] = BiasValue<T>(seed, head, past + token, key);
}

// Copies [heads, count, size] between two [heads, capacity, size] buffers.
template <typename T>
void CopyHeads(T* to, int to_capacity, const T* from, int from_capacity, int heads, int count,
               int size) {
  cudaMemcpy2D(to, sizeof(T) * to_capacity * size, from, sizeof(T) * from_capacity * size,
               sizeof(T) * count * size, heads, cudaMemcpyDeviceToDevice);
}

// One sequence: its inputs, and outputs and cache from one prefill of the whole, alone.
template <typename T>
struct Sequence {
  Sequence(const Model& m, int length)
      : length(length),
        query(std::size_t(length) * m.heads * m.head_size),
        key(std::size_t(length) * m.kv_heads * m.head_size),
        value(key.size()),
        output(query.size()),
        present_key(std::size_t(m.kv_heads) * length * m.head_size),
        present_value(present_key.size()) {
    Randomize(query.data(), query.size(), m.head_size);
    Randomize(key.data(), key.size(), m.head_size);
    Randomize(value.data(), value.size(), m.head_size);
    bias_seed = NextSeed();
  }
  int length;
  Buffer<T> query, key, value;
  Buffer<T> output, present_key, present_value;
  std::uint64_t bias_seed;
};

template <typename T>
struct Part {
  const Sequence<T>* sequence;
  int past, count;
};

template <typename T>
class World {
 public:
  explicit World(const Model& m)
      : model(m),
        cosines(std::size_t(kPositions) * std::max(m.rotary_dim / 2, 1)),
        sines(cosines.size()),
        q_weight(m.head_size),
        k_weight(m.head_size),
        sinks(m.heads) {
    Randomize(cosines.data(), cosines.size(), 64);
    Randomize(sines.data(), sines.size(), 64);
    Randomize(q_weight.data(), q_weight.size(), 64);
    Randomize(k_weight.data(), k_weight.size(), 64);
    Randomize(sinks.data(), sinks.size(), 64);
  }

  std::unique_ptr<Sequence<T>> NewSequence(int length) {
    auto s = std::make_unique<Sequence<T>>(model, length);
    Prefill(*s);
    return s;
  }

  // Fills the sequence's own results: the whole prompt, alone, buffers of exactly its length.
  void Prefill(Sequence<T>& s) {
    Batch run(*this, {{&s, 0, s.length}}, s.length, s.length, true);
    run.Run();
    cudaMemcpy(s.output.data(), run.output.data(), sizeof(T) * s.output.size(),
               cudaMemcpyDeviceToDevice);
    cudaMemcpy(s.present_key.data(), run.present_key.data(), sizeof(T) * s.present_key.size(),
               cudaMemcpyDeviceToDevice);
    cudaMemcpy(s.present_value.data(), run.present_value.data(), sizeof(T) * s.present_value.size(),
               cudaMemcpyDeviceToDevice);
  }

  struct Batch {
    // `tokens` a row (longer than a part's count: padding on the right), buffers of `capacity`;
    // `shared`: past and present are one buffer.
    Batch(World& world, std::vector<Part<T>> parts, int tokens, int capacity, bool shared)
        : world(world),
          parts(parts),
          query(parts.size() * tokens * Width(world.model)),
          key(parts.size() * tokens * world.model.kv_heads * world.model.head_size),
          value(key.size()),
          present_key(parts.size() * world.model.kv_heads * std::size_t(capacity) *
                      world.model.head_size),
          present_value(present_key.size()),
          past_key(shared ? 1 : present_key.size()),
          past_value(past_key.size()),
          last_key(parts.size()),
          output(parts.size() * tokens * world.model.heads * world.model.head_size),
          bias(1) {
      const Model& m = world.model;
      const int d = m.head_size;
      bool prompt = true;
      int total = 0;
      std::vector<std::int32_t> last;
      for (const Part<T>& part : parts) {
        prompt = prompt && part.past == 0;
        total = std::max(total, part.past + part.count);
        last.push_back(part.past + part.count - 1);
      }
      if (prompt) total = tokens;
      last_key.Set(last);
      T* old_key = shared ? present_key.data() : past_key.data();
      T* old_value = shared ? present_value.data() : past_value.data();
      for (std::size_t b = 0; b < parts.size(); ++b) {
        const Part<T>& part = parts[b];
        for (int i = 0; i < part.count; ++i) {
          CopyToken(b * tokens + i, *part.sequence, part.past + i);
        }
        const std::size_t at = b * m.kv_heads * capacity * d;
        if (part.past > 0) {
          CopyHeads(old_key + at, capacity, part.sequence->present_key.data(),
                    part.sequence->length, m.kv_heads, part.past, d);
          CopyHeads(old_value + at, capacity, part.sequence->present_value.data(),
                    part.sequence->length, m.kv_heads, part.past, d);
        }
      }
      if (m.bias) {
        const std::size_t one = std::size_t(m.heads) * tokens * total;
        biases = std::make_unique<Buffer<T>>(parts.size() * one);
        for (std::size_t b = 0; b < parts.size(); ++b) {
          FillBias<<<static_cast<unsigned>((one + 255) / 256), 256>>>(
              biases->data() + b * one, parts[b].sequence->bias_seed, m.heads, tokens, total,
              parts[b].past);
        }
      }
      args.type = kElementTypeOf<T>;
      args.batch = static_cast<int>(parts.size());
      args.tokens = tokens;
      args.heads = m.heads;
      args.kv_heads = m.kv_heads;
      args.head_size = d;
      args.total_sequence_length = total;
      args.query = query.data();
      if (!m.packed) {
        args.key = key.data();
        args.value = value.data();
      }
      if (!prompt || shared) {
        args.past_key = old_key;
        args.past_value = old_value;
        args.past_capacity = capacity;
      }
      args.present_key = present_key.data();
      args.present_value = present_value.data();
      args.present_capacity = capacity;
      args.seqlens_k = last_key.data();
      args.rotary = m.rotary_dim > 0;
      args.rotary_interleaved = m.interleaved;
      args.rotary_dim = m.rotary_dim;
      args.rotary_positions = kPositions;
      args.cos_cache = world.cosines.data();
      args.sin_cache = world.sines.data();
      if (m.norm) {
        args.q_norm_weight = world.q_weight.data();
        args.k_norm_weight = world.k_weight.data();
      }
      args.softcap = m.softcap;
      args.local_window_size = m.window;
      if (m.bias) {
        args.attention_bias = biases->data();
        args.bias_batch = args.batch;
        args.bias_heads = m.heads;
      }
      if (m.sink) args.head_sink = world.sinks.data();
      args.output = output.data();
    }

    static int Width(const Model& m) {
      return (m.packed ? m.heads + 2 * m.kv_heads : m.heads) * m.head_size;
    }

    void CopyToken(std::size_t row, const Sequence<T>& s, int token) {
      const Model& m = world.model;
      const std::size_t q = m.heads * m.head_size, kv = m.kv_heads * m.head_size;
      const auto copy = [](T* to, const T* from, std::size_t count) {
        cudaMemcpyAsync(to, from, sizeof(T) * count, cudaMemcpyDeviceToDevice, nullptr);
      };
      T* out = query.data() + row * Width(m);
      copy(out, s.query.data() + token * q, q);
      copy(m.packed ? out + q : key.data() + row * kv, s.key.data() + token * kv, kv);
      copy(m.packed ? out + q + kv : value.data() + row * kv, s.value.data() + token * kv, kv);
    }

    void Run() {
      std::size_t bytes = 0;
      ASSERT_STATUS_OK(GroupQueryAttentionWorkspaceBytes(args, &bytes));
      Buffer<unsigned char> workspace(bytes);
      output.Poison();
      ASSERT_STATUS_OK(GroupQueryAttention(args, workspace.data(), bytes, nullptr));
      ASSERT_CUDA(cudaDeviceSynchronize());
      EXPECT_TRUE(workspace.GuardsIntact() && output.GuardsIntact() && present_key.GuardsIntact() &&
                  present_value.GuardsIntact());
    }

    // Output and cache of row b against the sequence's own.
    std::uint64_t DifferencesOf(std::size_t b) {
      const Model& m = world.model;
      const Part<T>& part = parts[b];
      const std::int64_t width = m.heads * m.head_size;
      std::uint64_t n =
          Differences(output.data() + b * args.tokens * width, width,
                      part.sequence->output.data() + part.past * width, width, part.count, width);
      const std::int64_t row = std::int64_t{args.present_capacity} * m.head_size;
      const std::int64_t own = std::int64_t{part.sequence->length} * m.head_size;
      const std::int64_t count = std::int64_t{part.past + part.count} * m.head_size;
      n += Differences(present_key.data() + b * m.kv_heads * row, row,
                       part.sequence->present_key.data(), own, m.kv_heads, count);
      n += Differences(present_value.data() + b * m.kv_heads * row, row,
                       part.sequence->present_value.data(), own, m.kv_heads, count);
      return n;
    }

    World& world;
    std::vector<Part<T>> parts;
    Buffer<T> query, key, value, present_key, present_value, past_key, past_value;
    Buffer<std::int32_t> last_key;
    Buffer<T> output, bias;
    std::unique_ptr<Buffer<T>> biases;
    GroupQueryAttentionArgs args;
  };

  std::uint64_t RunAndCompare(std::vector<Part<T>> parts, int tokens, int capacity,
                              bool shared = true) {
    Batch batch(*this, parts, tokens, capacity, shared);
    batch.Run();
    std::uint64_t differences = 0;
    for (std::size_t b = 0; b < parts.size(); ++b) differences += batch.DifferencesOf(b);
    return differences;
  }

  Model model;
  Buffer<T> cosines, sines, q_weight, k_weight, sinks;
};

template <typename T>
class GroupQueryAttentionTest : public ::testing::Test {};
using Types = ::testing::Types<__half, __nv_bfloat16, float>;
TYPED_TEST_SUITE(GroupQueryAttentionTest, Types);

TYPED_TEST(GroupQueryAttentionTest, DecodeEqualsPrefill) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    for (const int t : {0, 1, 7, 63, 126, 127, 128, 129, 255, 256, 300, 383, 384, 420}) {
      SCOPED_TRACE("token " + std::to_string(t));
      EXPECT_EQ(world.RunAndCompare({{s.get(), t, 1}}, 1, 512), 0u);
    }
  }
}

// Small enough for compute-sanitizer: one token, several, and many, shared caches and copied ones,
// and one so long that its parts are merged by a kernel of its own. Heads of 256 stay within the
// first block of keys, which fills a ring of tiles once.
TYPED_TEST(GroupQueryAttentionTest, EachKernelOnce) {
  const Model models[] = {
      {"heads of 64", 4, 2, 64, 64},
      {"heads of 64, softcap", 4, 2, 64, 64, false, true, false, -1, 30.0f},
      {"heads of 128", 4, 1, 128, 128},
      {"heads of 128, softcap", 4, 1, 128, 128, false, true, false, -1, 30.0f},
      {"heads of 128, norm, some pairs", 4, 1, 128, 64, true, false, true},
      {"heads of 256", 4, 2, 256, 256},
      {"heads of 256, window and softcap", 4, 2, 256, 256, false, true, false, 100, 50.0f},
      {"bias and sink", 2, 1, 72, 0, false, true, false, -1, 0.0f, true, true},
  };
  for (const Model& model : models) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(140), t = world.NewSequence(20);
    EXPECT_EQ(world.RunAndCompare({{s.get(), 139, 1}, {t.get(), 10, 1}}, 1, 160), 0u);
    EXPECT_EQ(world.RunAndCompare({{s.get(), 131, 5}, {t.get(), 12, 5}}, 5, 160, false), 0u);
    const int past = model.head_size == 256 ? 80 : 100;
    EXPECT_EQ(world.RunAndCompare({{s.get(), past, 40}}, 40, 160), 0u);
    if (model.bias) EXPECT_EQ(world.RunAndCompare({{s.get(), 139, 1}}, 1, 129 * 128), 0u);
  }
}

// Two blocks of keys: the slots of the first are used again.
TYPED_TEST(GroupQueryAttentionTest, RingsAreFilledAgain) {
  for (const Model& model : {Model{"heads of 256", 4, 2, 256, 256},
                             Model{"softcap", 4, 2, 256, 256, false, true, false, -1, 50.0f}}) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(140);
    EXPECT_EQ(world.RunAndCompare({{s.get(), 100, 40}}, 40, 160), 0u);
  }
}

TYPED_TEST(GroupQueryAttentionTest, SeveralTokensEqualPrefill) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    for (const int count : {2, 3, 4, 5, 8, 16, 17, 33}) {
      for (const int past : {1, 120, 255, 380}) {
        SCOPED_TRACE(std::to_string(count) + " tokens after " + std::to_string(past));
        EXPECT_EQ(world.RunAndCompare({{s.get(), past, count}}, count, 440), 0u);
      }
    }
  }
}

TYPED_TEST(GroupQueryAttentionTest, ChunkedPrefillEqualsWhole) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    for (const int chunk : {50, 128, 200, 400}) {
      for (int past = 0; past < kLength; past += chunk) {
        const int count = std::min(chunk, kLength - past);
        SCOPED_TRACE(std::to_string(count) + " tokens after " + std::to_string(past));
        EXPECT_EQ(world.RunAndCompare({{s.get(), past, count}}, count, 430), 0u);
      }
    }
  }
}

TYPED_TEST(GroupQueryAttentionTest, BatchAndPositionDoNotMatter) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    const auto other = world.NewSequence(200);
    const auto third = world.NewSequence(300);
    for (const int batch : {2, 3, 5, 8, 17, 33}) {
      std::vector<Part<TypeParam>> parts;
      for (int b = 0; b < batch; ++b) {
        parts.push_back(b % 3 == 0   ? Part<TypeParam>{s.get(), 419 - 31 * (b % 12), 1}
                        : b % 3 == 1 ? Part<TypeParam>{other.get(), (b * 37) % 200, 1}
                                     : Part<TypeParam>{third.get(), 299 - b, 1});
      }
      SCOPED_TRACE("batch " + std::to_string(batch));
      EXPECT_EQ(world.RunAndCompare(parts, 1, 512), 0u);
      std::reverse(parts.begin(), parts.end());
      EXPECT_EQ(world.RunAndCompare(parts, 1, 512), 0u);
    }
  }
}

TYPED_TEST(GroupQueryAttentionTest, BufferLengthAndSharingDoNotMatter) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    for (const int capacity : {421, 422, 512, 1000, 4096}) {
      for (const bool shared : {true, false}) {
        SCOPED_TRACE(std::to_string(capacity) + (shared ? " shared" : " unshared"));
        EXPECT_EQ(world.RunAndCompare({{s.get(), 420, 1}}, 1, capacity, shared), 0u);
        EXPECT_EQ(world.RunAndCompare({{s.get(), 300, 121}}, 121, capacity, shared), 0u);
      }
    }
  }
}

TYPED_TEST(GroupQueryAttentionTest, RightPaddingDoesNotMatter) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(200);
    const auto other = world.NewSequence(67);
    const auto third = world.NewSequence(1);
    for (const int tokens : {200, 230}) {
      EXPECT_EQ(world.RunAndCompare({{other.get(), 0, 67}, {s.get(), 0, 200}, {third.get(), 0, 1}},
                                    tokens, 256),
                0u);
    }
  }
}

// A sequence of NaN and Inf leaves its neighbours alone, and a NaN in the future leaves the past
// alone.
TYPED_TEST(GroupQueryAttentionTest, NanAndInfStayWhereTheyAre) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    Sequence<TypeParam> broken(model, kLength);
    std::vector<TypeParam> bad(broken.value.size());
    for (std::size_t i = 0; i < bad.size(); ++i) {
      bad[i] = TypeParam(i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
    }
    broken.value.Set(bad);
    broken.key.Set(bad);
    world.Prefill(broken);
    EXPECT_EQ(
        world.RunAndCompare({{s.get(), 400, 1}, {&broken, 300, 1}, {s.get(), 133, 1}}, 1, 512), 0u);

    // The same tokens, but NaN and Inf in keys and values of some later ones.
    for (const int first_bad : {5, 130, 300}) {
      SCOPED_TRACE("bad from token " + std::to_string(first_bad));
      Sequence<TypeParam> later(model, kLength);
      const std::size_t kv = model.kv_heads * model.head_size;
      later.query.Set(s->query.Host());
      later.bias_seed = s->bias_seed;
      std::vector<TypeParam> keys = s->key.Host(), values = s->value.Host();
      for (int t = first_bad; t < kLength; t += 40) {
        for (std::size_t i = 0; i < kv; i += 3) {
          keys[t * kv + i] = TypeParam(t % 2 == 0 ? NAN : 1.0f);
          values[t * kv + i] = TypeParam(i % 2 == 0 ? NAN : INFINITY);
        }
      }
      later.key.Set(keys);
      later.value.Set(values);
      world.Prefill(later);
      const std::int64_t width = model.heads * model.head_size;
      EXPECT_EQ(Differences(later.output.data(), width, s->output.data(), width, first_bad, width),
                0u);
      EXPECT_GT(Differences(later.output.data(), width, s->output.data(), width, kLength, width),
                0u);
      // And rows that do see them are the same in decode and in chunks.
      for (const int t : {first_bad, first_bad + 1, 383, 420}) {
        EXPECT_EQ(world.RunAndCompare({{&later, t, 1}}, 1, 512), 0u) << "decode " << t;
      }
      EXPECT_EQ(world.RunAndCompare({{&later, 290, 9}}, 9, 512), 0u);
      EXPECT_EQ(world.RunAndCompare({{&later, 100, 250}}, 250, 512), 0u);
    }
  }
}

// One captured decode step serves every length: lengths are read on the device.
TYPED_TEST(GroupQueryAttentionTest, CapturedGraphServesEveryLength) {
  for (const Model& model : kModels) {
    if (model.bias) continue;  // its shape names the total length
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLength);
    typename World<TypeParam>::Batch batch(world, {{s.get(), 420, 1}, {s.get(), 420, 1}}, 1, 512,
                                           true);
    batch.args.total_sequence_length = 512;
    std::size_t bytes = 0;
    ASSERT_STATUS_OK(GroupQueryAttentionWorkspaceBytes(batch.args, &bytes));
    Buffer<unsigned char> workspace(bytes);
    cudaStream_t stream;
    ASSERT_CUDA(cudaStreamCreate(&stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    ASSERT_STATUS_OK(GroupQueryAttention(batch.args, workspace.data(), bytes, stream));
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    const std::int64_t width = model.heads * model.head_size;
    for (const int t : {420, 64, 255, 256, 300}) {
      batch.last_key.Set({t, (t * 7) % kLength});
      batch.CopyToken(0, *s, t);
      batch.CopyToken(1, *s, (t * 7) % kLength);
      for (int b = 0; b < 2; ++b) {
        const std::size_t at = std::size_t(b) * model.kv_heads * 512 * model.head_size;
        CopyHeads(batch.present_key.data() + at, 512, s->present_key.data(), kLength,
                  model.kv_heads, kLength, model.head_size);
        CopyHeads(batch.present_value.data() + at, 512, s->present_value.data(), kLength,
                  model.kv_heads, kLength, model.head_size);
      }
      ASSERT_CUDA(cudaDeviceSynchronize());
      batch.output.Poison();
      ASSERT_CUDA(cudaGraphLaunch(executable, stream));
      ASSERT_CUDA(cudaStreamSynchronize(stream));
      for (int b = 0; b < 2; ++b) {
        const int token = b == 0 ? t : (t * 7) % kLength;
        EXPECT_EQ(Differences(batch.output.data() + b * width, width,
                              s->output.data() + token * width, width, 1, width),
                  0u)
            << "token " << token;
      }
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
}

// More query heads a KV head than a tile has rows, and so many key blocks a thread block that their
// parts do not fit its shared memory.
TYPED_TEST(GroupQueryAttentionTest, SeveralTilesAndManyParts) {
  for (const Model& model : {Model{"a group of 40", 40, 1, 64, 64},
                             Model{"a group of 33, norm", 66, 2, 128, 128, false, true, true},
                             Model{"one KV head of 256", 16, 1, 256, 256}}) {
    SCOPED_TRACE(model.name);
    constexpr int kLong = 1300;
    World<TypeParam> world(model);
    const auto s = world.NewSequence(kLong);
    const auto other = world.NewSequence(70);
    for (const int t : {0, 127, 128, 511, 1023, 1024, 1100, 1299}) {
      SCOPED_TRACE("token " + std::to_string(t));
      EXPECT_EQ(world.RunAndCompare({{s.get(), t, 1}}, 1, kLong), 0u);
      EXPECT_EQ(world.RunAndCompare({{other.get(), t % 70, 1}, {s.get(), t, 1}}, 1, 8192), 0u);
    }
  }
}

// Steps of a layer in small, one after the other: each kernel reads what the one before wrote, and
// attention the keys that the steps before appended.
TYPED_TEST(GroupQueryAttentionTest, StepsThatOverlapSeeEachOther) {
  using T = TypeParam;
  constexpr int kHeads = 8, kKvHeads = 2, kSize = 64, kPast = 120, kRounds = 24, kCapacity = 256;
  constexpr std::int64_t kWidth = kHeads * kSize, kQkv = (kHeads + 2 * kKvHeads) * kSize;
  constexpr ElementType kType = kElementTypeOf<T>;
  Buffer<T> in(kWidth * kQkv), out(kWidth * kWidth), gamma(kWidth), cosines(kCapacity * kSize / 2),
      sines(cosines.size());
  Randomize(in.data(), in.size(), kWidth);
  Randomize(out.data(), out.size(), kWidth);
  Randomize(cosines.data(), cosines.size(), kSize / 2);
  Randomize(sines.data(), sines.size(), kSize / 2);
  gamma.Set(std::vector<T>(kWidth, T(0x1p-6f)));  // small, so that no product leaves fp16
  Buffer<unsigned char> packed_in(PackedGemmWeightBytes(kType, kWidth, kQkv)),
      packed_out(PackedGemmWeightBytes(kType, kWidth, kWidth));
  ASSERT_STATUS_OK(
      PackGemmWeights(kType, kWidth, kQkv, {in.data(), kQkv, 1}, packed_in.data(), nullptr));
  ASSERT_STATUS_OK(
      PackGemmWeights(kType, kWidth, kWidth, {out.data(), kWidth, 1}, packed_out.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const int m : {1, 8, 40}) {
    const std::size_t cache = std::size_t(m) * kKvHeads * kCapacity * kSize;
    Buffer<T> first(m * kWidth), x(m * kWidth), expected(m * kWidth), normed(m * kWidth),
        qkv(m * kQkv), attended(m * kWidth), first_cache(2 * cache), present(2 * cache),
        expected_present(2 * cache);
    Randomize(first.data(), first.size(), kWidth);
    Randomize(first_cache.data(), first_cache.size(), kSize);
    Buffer<std::int32_t> last_key(kRounds * m);
    std::vector<std::int32_t> last(kRounds * m);
    for (int i = 0; i < kRounds * m; ++i) last[i] = kPast - 3 * (i % m) + i / m;
    last_key.Set(last);
    Buffer<unsigned char> workspace(std::size_t{64} << 20);
    const auto run = [&](T* to, T* caches, bool synchronized) {
      const auto settle = [&] {
        return !synchronized || cudaStreamSynchronize(stream) == cudaSuccess;
      };
      const auto multiply = [&](const T* a, std::int64_t n, const void* packed, T* y) {
        GemmArgs args;
        args.type = kType;
        args.m = m;
        args.n = n;
        args.k = kWidth;
        args.a = {a, kWidth, 1};
        args.packed_b = packed;
        args.packed_b_is_ready = true;
        args.y = y;
        args.y_row_stride = n;
        ASSERT_STATUS_OK(Gemm(args, stream));
        ASSERT_TRUE(settle());
      };
      for (int round = 0; round < kRounds; ++round) {
        NormArgs norm;
        norm.type = kType;
        norm.rows = m;
        norm.width = kWidth;
        norm.x = to;
        norm.gamma = gamma.data();
        norm.gamma_is_ready = true;
        norm.y = normed.data();
        ASSERT_STATUS_OK(RmsNorm(norm, stream));
        ASSERT_TRUE(settle());
        multiply(normed.data(), kQkv, packed_in.data(), qkv.data());
        GroupQueryAttentionArgs args;
        args.type = kType;
        args.batch = m;
        args.tokens = 1;
        args.heads = kHeads;
        args.kv_heads = kKvHeads;
        args.head_size = kSize;
        args.total_sequence_length = kCapacity;
        args.query = qkv.data();
        args.past_key = args.present_key = caches;
        args.past_value = args.present_value = caches + cache;
        args.past_capacity = args.present_capacity = kCapacity;
        args.seqlens_k = last_key.data() + round * m;
        args.rotary = true;
        args.rotary_dim = kSize;
        args.rotary_positions = kCapacity;
        args.cos_cache = cosines.data();
        args.sin_cache = sines.data();
        args.output = attended.data();
        std::size_t bytes = 0;
        ASSERT_STATUS_OK(GroupQueryAttentionWorkspaceBytes(args, &bytes));
        ASSERT_LE(bytes, workspace.size());
        ASSERT_STATUS_OK(GroupQueryAttention(args, workspace.data(), bytes, stream));
        ASSERT_TRUE(settle());
        multiply(attended.data(), kWidth, packed_out.data(), to);
      }
    };
    const auto start = [&](T* to, T* caches) {
      ASSERT_CUDA(cudaMemcpy(to, first.data(), sizeof(T) * first.size(), cudaMemcpyDeviceToDevice));
      ASSERT_CUDA(cudaMemcpy(caches, first_cache.data(), sizeof(T) * first_cache.size(),
                             cudaMemcpyDeviceToDevice));
      normed.Poison();
      qkv.Poison();
      attended.Poison();
      ASSERT_CUDA(cudaDeviceSynchronize());
    };
    start(expected.data(), expected_present.data());
    run(expected.data(), expected_present.data(), true);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    run(x.data(), present.data(), false);
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (const bool captured : {false, true, true}) {
      start(x.data(), present.data());
      if (captured) {
        ASSERT_CUDA(cudaGraphLaunch(executable, stream));
      } else {
        run(x.data(), present.data(), false);
      }
      ASSERT_CUDA(cudaStreamSynchronize(stream));
      EXPECT_EQ(Differences(x.data(), kWidth, expected.data(), kWidth, m, kWidth), 0u)
          << "m " << m << " captured " << captured;
      EXPECT_EQ(Differences(present.data(), kSize, expected_present.data(), kSize,
                            2 * cache / kSize, kSize),
                0u)
          << "m " << m << " captured " << captured;
    }
    ASSERT_CUDA(cudaGraphExecDestroy(executable));
    ASSERT_CUDA(cudaGraphDestroy(graph));
  }
  ASSERT_CUDA(cudaStreamDestroy(stream));
}

// Rotary, norm, packing and the cache against float64: the present keys, and attention over them.
TYPED_TEST(GroupQueryAttentionTest, WholeOpIsCloseToDouble) {
  const double limit = std::is_same_v<TypeParam, float>    ? 3e-6
                       : std::is_same_v<TypeParam, __half> ? 2e-3
                                                           : 1.2e-2;
  for (const Model& model : kModels) {
    if (model.bias) continue;  // the core's test covers biases
    SCOPED_TRACE(model.name);
    World<TypeParam> world(model);
    const int length = 90;
    const auto s = world.NewSequence(length);
    const auto read = [](const Buffer<TypeParam>& buffer) {
      std::vector<double> wide;
      for (const TypeParam x : buffer.Host()) wide.push_back(static_cast<float>(x));
      return wide;
    };
    const int d = model.head_size, half = model.rotary_dim / 2;
    const std::vector<double> cosines = read(world.cosines), sines = read(world.sines);
    const auto prepare = [&](std::vector<double> x, int heads, const std::vector<double>& weight) {
      for (int t = 0; t < length; ++t) {
        for (int h = 0; h < heads; ++h) {
          double* v = x.data() + (std::size_t(t) * heads + h) * d;
          if (model.norm) {
            double sum = 0.0;
            for (int i = 0; i < d; ++i) sum += v[i] * v[i];
            const double inverse = 1.0 / std::sqrt(sum / d + 1e-6);
            for (int i = 0; i < d; ++i) v[i] *= inverse * weight[i];
          }
          for (int i = 0; i < half; ++i) {
            double& u = v[model.interleaved ? 2 * i : i];
            double& w = v[model.interleaved ? 2 * i + 1 : i + half];
            const double c = cosines[t * half + i], n = sines[t * half + i], first = u;
            u = first * c - w * n;
            w = w * c + first * n;
          }
        }
      }
      return x;
    };
    const std::vector<double> q = prepare(read(s->query), model.heads, read(world.q_weight));
    const std::vector<double> k = prepare(read(s->key), model.kv_heads, read(world.k_weight));
    const std::vector<double> v = read(s->value), sinks = read(world.sinks);
    const std::vector<double> output = read(s->output), present = read(s->present_key);
    double difference = 0.0, norm = 0.0, key_difference = 0.0, key_norm = 0.0;
    for (int t = 0; t < length; ++t) {
      for (int h = 0; h < model.kv_heads; ++h) {
        for (int i = 0; i < d; ++i) {
          const double expected = k[(std::size_t(t) * model.kv_heads + h) * d + i];
          const double got = present[(std::size_t(h) * length + t) * d + i];
          key_difference += (got - expected) * (got - expected);
          key_norm += expected * expected;
        }
      }
      for (int h = 0; h < model.heads; ++h) {
        const int kv = h / (model.heads / model.kv_heads);
        std::vector<double> scores;
        const int low = model.window < 0 ? 0 : std::max(0, t - model.window + 1);
        double m = model.sink ? sinks[h] : -INFINITY;
        for (int j = low; j <= t; ++j) {
          double dot = 0.0;
          for (int i = 0; i < d; ++i) {
            dot += q[(std::size_t(t) * model.heads + h) * d + i] *
                   k[(std::size_t(j) * model.kv_heads + kv) * d + i];
          }
          dot /= std::sqrt(static_cast<double>(d));
          if (model.softcap > 0) dot = model.softcap * std::tanh(dot / model.softcap);
          scores.push_back(dot);
          m = std::max(m, dot);
        }
        double sum = model.sink ? std::exp(sinks[h] - m) : 0.0;
        for (double& x : scores) sum += x = std::exp(x - m);
        for (int i = 0; i < d; ++i) {
          double expected = 0.0;
          for (int j = low; j <= t; ++j) {
            expected += scores[j - low] * v[(std::size_t(j) * model.kv_heads + kv) * d + i];
          }
          expected /= sum;
          const double got = output[(std::size_t(t) * model.heads + h) * d + i];
          difference += (got - expected) * (got - expected);
          norm += expected * expected;
        }
      }
    }
    EXPECT_LT(std::sqrt(key_difference / key_norm), limit);
    EXPECT_LT(std::sqrt(difference / norm), limit);
  }
}

TEST(GroupQueryAttentionErrors, NamesWhatIsWrong) {
  World<__half> world(kModels[0]);
  const auto s = world.NewSequence(20);
  World<__half>::Batch batch(world, {{s.get(), 10, 1}}, 1, 64, true);
  const auto refused = [&](auto change) {
    GroupQueryAttentionArgs args = batch.args;
    change(args);
    return GroupQueryAttention(args, nullptr, std::size_t{1} << 40, nullptr).code ==
           StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](auto& a) { a.seqlens_k = nullptr; }));
  EXPECT_TRUE(refused([](auto& a) { a.cos_cache = nullptr; }));
  EXPECT_TRUE(refused([](auto& a) { a.rotary_dim = 130; }));
  EXPECT_TRUE(refused([](auto& a) { a.total_sequence_length = 65; }));
  EXPECT_TRUE(refused([](auto& a) { a.present_value = nullptr; }));
  EXPECT_TRUE(refused([&](auto& a) { a.q_norm_weight = world.q_weight.data(); }));
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
