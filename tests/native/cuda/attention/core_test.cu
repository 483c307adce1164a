// The attention core against its contract (bit for bit) and against float64.
#include <cmath>
#include <string>

#include "batch_invariant/cuda/attention.h"
#include "cuda/attention/reference.cuh"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

struct Case {
  int batch, tokens, heads, kv_heads, head_size;
  int keys;  // capacity; sequence b has keys - 37 * b of them
  int window = -1;
  float softcap = 0.0f;
  bool causal = true;
  bool bias = false;
  bool sink = false;
  bool smooth = false;
};

std::string Name(const Case& c) {
  return "batch " + std::to_string(c.batch) + " tokens " + std::to_string(c.tokens) + " heads " +
         std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) + " head size " +
         std::to_string(c.head_size) + " keys " + std::to_string(c.keys) + " window " +
         std::to_string(c.window) + (c.softcap > 0 ? " softcap" : "") +
         (c.causal ? "" : " bidirectional") + (c.bias ? " bias" : "") + (c.sink ? " sink" : "") +
         (c.smooth ? " smooth" : "");
}

const Case kCases[] = {
    {2, 1, 32, 8, 128, 1000},
    {3, 1, 8, 1, 64, 700},
    {2, 5, 32, 8, 128, 513},
    {1, 1, 16, 16, 256, 400},
    {2, 130, 8, 2, 128, 300},
    {1, 300, 4, 4, 64, 300},
    {2, 70, 6, 2, 80, 333},
    {1, 257, 14, 2, 96, 257},
    {1, 65, 4, 1, 256, 200},
    {1, 40, 4, 2, 24, 130},
    {2, 200, 8, 2, 128, 450, 100},
    {2, 3, 8, 2, 128, 900, 129},
    {2, 1, 8, 2, 64, 900, 33},
    {1, 150, 8, 2, 128, 280, -1, 20.0f},
    {2, 2, 8, 2, 64, 300, -1, 30.0f},
    {2, 100, 8, 2, 128, 290, -1, 0.0f, true, true},
    {2, 3, 8, 2, 128, 600, 200, 15.0f, true, true, true},
    {2, 1, 64, 8, 64, 600, 128, 0.0f, true, false, true},
    {1, 90, 16, 2, 64, 300, 128, 0.0f, true, false, true},
    {2, 4, 8, 4, 128, 300, -1, 0.0f, true, false, false, true},
    {2, 60, 8, 4, 128, 300, -1, 0.0f, false},
    {1, 2, 8, 4, 128, 260, -1, 0.0f, false, true},
    {1, 1, 40, 1, 128, 390},
};

// Random, with about one in eight at -Inf.
template <typename T>
__global__ void FillBias(T* bias, std::int64_t count, std::uint64_t seed) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint64_t bits = Mix(seed ^ Mix(i));
  bias[i] =
      FromFloat<T>(bits % 8 == 0 ? -INFINITY : static_cast<float>((bits >> 20) % 1024) / 256.0f);
}

template <typename T>
class Problem {
 public:
  explicit Problem(const Case& c)
      : query(std::int64_t{c.batch} * c.tokens * c.heads * c.head_size),
        key(std::int64_t{c.batch} * c.kv_heads * c.keys * c.head_size),
        value(key.size()),
        bias(c.bias ? std::int64_t{c.batch} * c.heads * c.tokens * c.keys : 1),
        sink(c.heads),
        lengths(c.batch),
        output(query.size()),
        expected(query.size()) {
    Randomize(query.data(), query.size(), c.head_size);
    Randomize(key.data(), key.size(), c.head_size);
    Randomize(value.data(), value.size(), c.head_size);
    Randomize(sink.data(), sink.size(), c.heads);
    if (c.bias) {
      FillBias<<<static_cast<unsigned>((bias.size() + 255) / 256), 256>>>(bias.data(), bias.size(),
                                                                          NextSeed());
    }
    std::vector<std::int32_t> last;
    for (int b = 0; b < c.batch; ++b) last.push_back(std::max(c.keys - 37 * b, c.tokens) - 1);
    lengths.Set(last);
    args.type = std::is_same_v<T, float>    ? ElementType::kFloat32
                : std::is_same_v<T, __half> ? ElementType::kFloat16
                                            : ElementType::kBFloat16;
    args.batch = c.batch;
    args.tokens = c.tokens;
    args.heads = c.heads;
    args.kv_heads = c.kv_heads;
    args.head_size = c.head_size;
    args.key_capacity = c.keys;
    const std::int64_t d = c.head_size;
    args.query = {query.data(), c.tokens * c.heads * d, d, c.heads * d};
    args.key = {key.data(), c.kv_heads * c.keys * d, c.keys * d, d};
    args.value = {value.data(), c.kv_heads * c.keys * d, c.keys * d, d};
    args.output = output.data();
    args.output_strides = {nullptr, c.tokens * c.heads * d, d, c.heads * d};
    args.last_key = lengths.data();
    args.causal = c.causal;
    args.window = c.window;
    args.softcap = c.softcap;
    args.smooth_softmax = c.smooth;
    if (c.sink) args.head_sink = sink.data();
    if (c.bias) {
      args.bias = bias.data();
      args.bias_token_stride = args.bias_keys = c.keys;
      args.bias_head_stride = std::int64_t{c.tokens} * c.keys;
      args.bias_batch_stride = args.bias_head_stride * c.heads;
    }
  }

  CoreArgs Core() const {
    CoreArgs core;
    static_cast<AttentionArgs&>(core) = args;
    const double scale = 1.0 / std::sqrt(static_cast<double>(args.head_size));
    core.scale = static_cast<float>(scale);
    core.plain_scale = static_cast<float>(scale * 1.4426950408889634);
    core.group = args.heads / args.kv_heads;
    core.general = args.softcap > 0.0f || args.bias != nullptr;
    return core;
  }

  void Run() {
    std::size_t bytes = 0;
    ASSERT_STATUS_OK(AttentionWorkspaceBytes(args, &bytes));
    Buffer<unsigned char> workspace(bytes);
    output.Poison();
    ASSERT_STATUS_OK(Attention(args, workspace.data(), bytes, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
    EXPECT_TRUE(workspace.GuardsIntact());
    EXPECT_TRUE(output.GuardsIntact());
  }

  std::uint64_t DifferencesFromContract(int block_keys) {
    CoreArgs core = Core();
    core.output = expected.data();
    expected.Poison();
    ReferenceContract<T><<<args.batch * args.tokens * args.heads, 32>>>(core, block_keys);
    return Differences(output.data(), args.head_size, expected.data(), args.head_size,
                       output.size() / args.head_size, args.head_size);
  }

  // ||out - ref|| / ||ref||; NaN when anything is not finite.
  double ErrorAgainstDouble() {
    Buffer<double> reference(output.size());
    const std::int64_t rows = output.size() / args.head_size;
    ReferenceDouble<T><<<static_cast<unsigned>((rows + 63) / 64), 64>>>(Core(), reference.data());
    const std::vector<double> expected_host = reference.Host();
    const std::vector<T> host = output.Host();
    double difference = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < host.size(); ++i) {
      const double x = static_cast<double>(static_cast<float>(host[i]));
      difference += (x - expected_host[i]) * (x - expected_host[i]);
      norm += expected_host[i] * expected_host[i];
    }
    return std::sqrt(difference / norm);
  }

  Buffer<T> query, key, value, bias, sink;
  Buffer<std::int32_t> lengths;
  Buffer<T> output, expected;
  AttentionArgs args;
};

template <typename T>
class AttentionCore : public ::testing::Test {};
using TensorCoreTypes = ::testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(AttentionCore, TensorCoreTypes);

TYPED_TEST(AttentionCore, HasTheBytesOfTheContract) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(Name(c));
    Problem<TypeParam> problem(c);
    problem.Run();
    if (this->HasFatalFailure()) return;
    EXPECT_EQ(problem.DifferencesFromContract(kBlockKeys), 0u);
  }
}

// The comparison can fail: another block length is another arithmetic. Rescaling by powers of two
// keeps it close, so that few of the rounded outputs show it.
TYPED_TEST(AttentionCore, ComparisonSeesAnotherSplit) {
  Problem<TypeParam> problem({4, 200, 16, 4, 128, 900});
  problem.Run();
  EXPECT_GT(problem.DifferencesFromContract(64), 20u);
}

TYPED_TEST(AttentionCore, IsCloseToDouble) {
  const double limit = std::is_same_v<TypeParam, __half> ? 6e-4 : 5e-3;
  for (const Case& c : kCases) {
    SCOPED_TRACE(Name(c));
    Problem<TypeParam> problem(c);
    problem.Run();
    if (this->HasFatalFailure()) return;
    EXPECT_LT(problem.ErrorAgainstDouble(), limit);
  }
}

TEST(AttentionCoreF32, IsCloseToDouble) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(Name(c));
    Problem<float> problem(c);
    problem.Run();
    if (HasFatalFailure()) return;
    EXPECT_LT(problem.ErrorAgainstDouble(), 2e-6);
  }
}

// Scores far beyond what exp can hold: the largest one wins, nothing overflows.
TYPED_TEST(AttentionCore, SurvivesHugeScores) {
  for (const int tokens : {1, 140}) {
    Problem<TypeParam> problem({1, tokens, 8, 2, 128, 400});
    std::vector<TypeParam> query = problem.query.Host();
    for (TypeParam& x : query) x = TypeParam(static_cast<float>(x) * 3000.0f);
    problem.query.Set(query);
    problem.Run();
    EXPECT_EQ(problem.DifferencesFromContract(kBlockKeys), 0u);
    EXPECT_LT(problem.ErrorAgainstDouble(), 5e-3);
  }
}

TEST(AttentionCoreErrors, RefusesWhatItCannotServe) {
  Problem<__half> problem({1, 1, 8, 2, 128, 200});
  std::size_t bytes = 0;
  AttentionArgs args = problem.args;
  args.head_size = 264;
  EXPECT_EQ(AttentionWorkspaceBytes(args, &bytes).code, StatusCode::kUnsupported);
  args = problem.args;
  args.kv_heads = 3;
  EXPECT_EQ(AttentionWorkspaceBytes(args, &bytes).code, StatusCode::kInvalidArgument);
  args = problem.args;
  args.causal = false;
  args.window = 5;
  EXPECT_EQ(AttentionWorkspaceBytes(args, &bytes).code, StatusCode::kInvalidArgument);
  EXPECT_EQ(Attention(problem.args, nullptr, 0, nullptr).code, StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
