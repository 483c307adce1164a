// Mixtures of experts: bit for bit the products of Gemm and MatMulNBits, routed and added up as the
// contract says, by every kernel; the same bytes among any neighbours; close to float64.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/moe.h"
#include "cuda/common/device_test.h"
#include "cuda/moe/reference.cuh"
#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda::test {
namespace {

template <typename T>
constexpr ElementType TypeOf() {
  if (std::is_same_v<T, float>) return ElementType::kFloat32;
  return std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16;
}

__global__ void RandomBytes(std::uint8_t* out, std::size_t count, std::uint64_t seed) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) out[i] = static_cast<std::uint8_t>(Mix(seed ^ Mix(i)) >> 17);
}

template <typename T>
__global__ void Scale(T* x, std::size_t count, float factor) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) x[i] = FromFloat<T>(ToFloat(x[i]) * factor);
}

unsigned Blocks(std::int64_t elements) { return static_cast<unsigned>((elements + 255) / 256); }

struct Case {
  std::int64_t hidden, inter, experts, k;
  ExpertActivation activation = ExpertActivation::kSwiGlu;
  RouterWeights weights = RouterWeights::kSoftmax;
  bool normalize = false;
  bool interleaved = true;
  bool bias = true;
  int bits = 0;  // 0: weights in the element type
  std::int64_t block_size = 32;
  bool zero_points = false;
  Data router = Data::kNormal;
};

std::string Name(const Case& c) {
  return std::to_string(c.hidden) + " x " + std::to_string(c.inter) + ", " + std::to_string(c.k) +
         " of " + std::to_string(c.experts) + " experts, activation " +
         std::to_string(static_cast<int>(c.activation)) + ", weights " +
         std::to_string(static_cast<int>(c.weights)) + (c.normalize ? " normalised" : "") +
         (c.bits > 0 ? ", bits " + std::to_string(c.bits) : "");
}

// One layer of all experts.
template <typename T>
class Layer {
 public:
  Layer(const Case& c, std::int64_t n, std::int64_t k)
      : n_(n), k_(k), experts_(c.experts), bias_(c.experts * n) {
    test::Randomize(bias_.data(), bias_.size(), n);
    weights_.bias = c.bias ? bias_.data() : nullptr;
    if (c.bits == 0) {
      w_ = std::make_unique<Buffer<T>>(experts_ * n * k);
      test::Randomize(w_->data(), w_->size(), k);
      ScaleBy(w_->data(), w_->size(), 1.0f / std::sqrt(static_cast<float>(k)));
      bytes_ = PackedGemmWeightBytes(TypeOf<T>(), k, n);
      packed_ = std::make_unique<Buffer<uint4>>(experts_ * bytes_ / 16);
      for (std::int64_t e = 0; e < experts_; ++e) {
        Expect(
            PackGemmWeights(TypeOf<T>(), k, n, {w_->data() + e * n * k, 1, k}, Packed(e), nullptr));
      }
    } else {
      Expect(MakeMatMulNBitsPlan(TypeOf<T>(), k, n, c.bits, c.block_size,
                                 c.zero_points ? ZeroPoints::kPacked : ZeroPoints::kDefault,
                                 &plan_));
      const std::int64_t blob = plan_.blocks() * c.block_size * c.bits / 8;
      const std::int64_t zero_bytes = (plan_.blocks() * c.bits + 7) / 8;
      Buffer<std::uint8_t> b(n * blob), zeros(n * zero_bytes);
      Buffer<T> scales(n * plan_.blocks());
      bytes_ = PackedMatMulNBitsBytes(plan_);
      packed_ = std::make_unique<Buffer<uint4>>(experts_ * bytes_ / 16);
      for (std::int64_t e = 0; e < experts_; ++e) {
        RandomBytes<<<Blocks(b.size()), 256>>>(b.data(), b.size(), NextSeed());
        RandomBytes<<<Blocks(zeros.size()), 256>>>(zeros.data(), zeros.size(), NextSeed());
        test::Randomize(scales.data(), scales.size(), plan_.blocks());
        ScaleBy(scales.data(), scales.size(),
                1.0f / std::ldexp(std::sqrt(static_cast<float>(k)), c.bits - 1));
        Expect(PackMatMulNBits(plan_, b.data(), scales.data(),
                               c.zero_points ? zeros.data() : nullptr, Packed(e), nullptr));
        cudaDeviceSynchronize();  // the next expert reuses the buffers
      }
      weights_.plan = &plan_;
    }
    weights_.packed = packed_->data();
    cudaDeviceSynchronize();
  }

  const ExpertWeights& weights() const { return weights_; }

  // The op that the contract names, for one expert.
  void Product(std::int64_t expert, std::int64_t m, const T* x, T* y) const {
    if (weights_.plan != nullptr) {
      MatMulNBitsArgs args;
      args.m = m;
      args.a = x;
      args.a_row_stride = k_;
      args.packed = Packed(expert);
      args.bias = Bias(expert);
      args.y = y;
      args.y_row_stride = n_;
      return Expect(MatMulNBits(plan_, args, nullptr));
    }
    GemmArgs args;
    args.type = TypeOf<T>();
    args.m = m;
    args.n = n_;
    args.k = k_;
    args.a = {x, k_, 1};
    args.packed_b = Packed(expert);
    args.c = {Bias(expert), 0, 1};
    args.y = y;
    args.y_row_stride = n_;
    Expect(Gemm(args, nullptr));
  }

  // [experts, n, k] and [experts, n] on the host; weights in the element type only.
  std::vector<T> HostWeights() const { return w_->Host(); }
  std::vector<T> HostBias() const { return bias_.Host(); }
  bool GuardsIntact() const { return packed_->GuardsIntact(); }

 private:
  static void Expect(const Status& status) { EXPECT_TRUE(status.ok()) << status.message; }
  static void ScaleBy(T* x, std::size_t count, float factor) {
    Scale<<<Blocks(count), 256>>>(x, count, factor);
  }
  std::uint8_t* Packed(std::int64_t expert) const {
    return reinterpret_cast<std::uint8_t*>(packed_->data()) + expert * bytes_;
  }
  const T* Bias(std::int64_t expert) const {
    return weights_.bias == nullptr ? nullptr : bias_.data() + expert * n_;
  }

  std::int64_t n_, k_, experts_;
  Buffer<T> bias_;
  std::unique_ptr<Buffer<T>> w_;
  std::unique_ptr<Buffer<uint4>> packed_;  // for its alignment
  std::size_t bytes_ = 0;
  MatMulNBitsPlan plan_;
  ExpertWeights weights_;
};

template <typename T>
class Problem {
 public:
  Problem(const Case& c, std::int64_t tokens)
      : fc1(c, c.activation == ExpertActivation::kSwiGlu ? 2 * c.inter : c.inter, c.hidden),
        fc2(c, c.hidden, c.inter),
        input(tokens * c.hidden),
        router(tokens * c.experts),
        given(tokens * c.experts),
        output(tokens * c.hidden) {
    test::Randomize(input.data(), input.size(), c.hidden);
    test::Randomize(router.data(), router.size(), c.experts, c.router);
    test::Randomize(given.data(), given.size(), c.experts);  // of both signs
    args.type = TypeOf<T>();
    args.tokens = tokens;
    args.hidden = c.hidden;
    args.inter = c.inter;
    args.experts = c.experts;
    args.k = c.k;
    args.activation = c.activation;
    args.weights = c.weights;
    args.normalize = c.normalize;
    args.interleaved = c.interleaved;
    args.alpha = 1.702f;
    args.beta = 1.0f;
    args.limit = 1.5f;
    args.input = input.data();
    args.router = router.data();
    args.router_weights = given.data();
    args.fc1 = fc1.weights();
    args.fc2 = fc2.weights();
    args.output = output.data();
  }

  // The output of `tokens` tokens from `first` on, by kernels of `rows` rows or, with 0, by those
  // that are chosen, into `to` from its start.
  void Run(std::int64_t first, std::int64_t tokens, int rows, Buffer<T>* to) {
    MoeArgs part = args;
    part.tokens = tokens;
    part.input = input.data() + first * args.hidden;
    part.router = router.data() + first * args.experts;
    part.router_weights = given.data() + first * args.experts;
    part.output = to->data();
    Launch(part, rows);
    EXPECT_TRUE(to->GuardsIntact());
  }

  void Launch(const MoeArgs& part, int rows) {
    std::size_t bytes = 0;
    ASSERT_STATUS_OK(MoeWorkspaceBytes(part, &bytes));
    Buffer<uint4> workspace((bytes + 15) / 16);
    if (rows == 0) {
      ASSERT_STATUS_OK(MixtureOfExperts(part, workspace.data(), bytes, nullptr));
    } else {
      const MoeKernels kernels = Find(rows);
      ASSERT_STATUS_OK(MixtureOfExperts(part, kernels, workspace.data(), bytes, nullptr));
    }
    ASSERT_CUDA(cudaDeviceSynchronize());
    EXPECT_TRUE(workspace.GuardsIntact());
  }

  // The kernels of `rows` rows, those for sm_90 where they serve.
  MoeKernels Find(int rows) const {
    DeviceInfo device;
    EXPECT_TRUE(CurrentDevice(&device).ok());
    MoeKernels found;
    for (const GroupedKernel& kernel : GroupedKernels()) {
      if (kernel.rows != rows) continue;
      if (Serves(kernel, args.type, args.fc1, args.hidden, device)) found.fc1 = &kernel;
      if (Serves(kernel, args.type, args.fc2, args.inter, device)) found.fc2 = &kernel;
    }
    return found;
  }

  // By the ops that the contract names.
  void Expected(Buffer<T>* y) {
    const std::int64_t tokens = args.tokens, columns = args.fc1_columns();
    Buffer<float> weights(tokens * args.experts);
    Buffer<T> first(tokens * columns), activated(tokens * args.inter);
    Buffer<T> z(args.experts * tokens * args.hidden);
    ReferenceWeights<T><<<Blocks(tokens), 256>>>(args, weights.data());
    for (std::int64_t e = 0; e < args.experts; ++e) {
      fc1.Product(e, tokens, static_cast<const T*>(args.input), first.data());
      ReferenceActivate<T>
          <<<Blocks(activated.size()), 256>>>(args, tokens, first.data(), activated.data());
      fc2.Product(e, tokens, activated.data(), z.data() + e * tokens * args.hidden);
    }
    ReferenceSum<T>
        <<<Blocks(tokens * args.hidden), 256>>>(args, weights.data(), z.data(), y->data());
    ASSERT_CUDA(cudaDeviceSynchronize());
  }

  // Every pair of kernels that can go together and whose first one is wanted, and the pair that is
  // chosen, against `expected`.
  std::vector<std::string> Disagreements(
      const Buffer<T>& expected, const std::function<bool(const GroupedKernel&)>& is_wanted =
                                     [](const GroupedKernel&) { return true; }) {
    std::vector<std::string> wrong;
    DeviceInfo device;
    EXPECT_TRUE(CurrentDevice(&device).ok());
    std::vector<MoeKernels> pairs{ChooseMoeKernels(args, device)};
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(args.input) % 16 == 0;
    for (const GroupedKernel& fc1 : GroupedKernels()) {
      if (!Serves(fc1, args.type, args.fc1, args.hidden, device)) continue;
      if (fc1.needs_sm90 && !is_aligned) continue;
      for (const GroupedKernel& fc2 : GroupedKernels()) {
        if (fc2.rows == fc1.rows && Serves(fc2, args.type, args.fc2, args.inter, device)) {
          pairs.push_back({&fc1, &fc2});
        }
      }
    }
    std::size_t bytes = 0;
    EXPECT_TRUE(MoeWorkspaceBytes(args, &bytes).ok());
    Buffer<uint4> workspace((bytes + 15) / 16);
    for (const MoeKernels& pair : pairs) {
      if (!is_wanted(*pair.fc1)) continue;
      output.Poison();
      workspace.Poison();
      const Status status = MixtureOfExperts(args, pair, workspace.data(), bytes, nullptr);
      EXPECT_TRUE(status.ok()) << status.message;
      const std::uint64_t different = Differences(output.data(), args.hidden, expected.data(),
                                                  args.hidden, args.tokens, args.hidden);
      EXPECT_TRUE(output.GuardsIntact() && workspace.GuardsIntact());
      if (different == 0) continue;
      wrong.push_back(std::string(pair.fc1->name) + " and " + pair.fc2->name + ": " +
                      std::to_string(different) + " differ");
    }
    return wrong;
  }

  Layer<T> fc1, fc2;
  Buffer<T> input, router, given, output;
  MoeArgs args;
};

const ExpertActivation kActivations[] = {ExpertActivation::kRelu, ExpertActivation::kGelu,
                                         ExpertActivation::kSilu, ExpertActivation::kIdentity,
                                         ExpertActivation::kSwiGlu};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const ExpertActivation activation : kActivations) {
    cases.push_back({128, 96, 8, 2, activation});
    cases.push_back(
        {192, 64, 6, 3, activation, RouterWeights::kSoftmaxOfChosen, false, false, true, 4});
  }
  cases.push_back({256, 128, 64, 8, ExpertActivation::kSwiGlu, RouterWeights::kGiven, true});
  cases.push_back({256, 128, 33, 4, ExpertActivation::kSilu, RouterWeights::kSoftmax, true, true,
                   false, 8, 64, true});
  cases.push_back({128, 200, 40, 40, ExpertActivation::kGelu, RouterWeights::kGiven, false, true,
                   true, 4, 16, true});
  // Router values that are equal, odd sizes, weights of two bits, one expert.
  cases.push_back({72, 40, 16, 4, ExpertActivation::kSwiGlu, RouterWeights::kSoftmax, true, false,
                   true, 0, 32, false, Data::kIntegers});
  cases.push_back({75, 41, 5, 2});
  cases.push_back({128, 64, 4, 1, ExpertActivation::kRelu, RouterWeights::kSoftmaxOfChosen, false,
                   true, true, 2, 32, true});
  cases.push_back({64, 64, 1, 1});
  // Several runs of K, in both layers.
  cases.push_back({2048, 2048, 4, 2, ExpertActivation::kSilu, RouterWeights::kSoftmaxOfChosen,
                   false, true, true, 4});
  return cases;
}

template <typename T>
class MoeTest : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(MoeTest, Types);

TYPED_TEST(MoeTest, HasTheBytesOfTheOpsThatItIsMadeOf) {
  using T = TypeParam;
  for (const Case& c : Cases()) {
    for (const std::int64_t tokens : {1, 3, 37, 300}) {
      Problem<T> problem(c, tokens);
      Buffer<T> expected(tokens * c.hidden);
      problem.Expected(&expected);
      for (const std::string& wrong : problem.Disagreements(expected)) {
        ADD_FAILURE() << Name(c) << ", " << tokens << " tokens, " << wrong;
      }
    }
  }
}

// Kernels whose first layer fills the stages of its ring again, or all others: racecheck does not
// follow rings that are filled again.
template <typename T>
void EachKernel(bool refills) {
  std::vector<Case> cases;
  for (const int bits : {0, 4, 8}) {
    for (const bool zeros : {false, true}) {
      if (zeros && bits == 0) continue;
      for (const std::int64_t hidden : {75, 128, 2048}) {
        // Several runs of K are of few bits and 16-bit elements; few bits go with whole bytes.
        if (hidden == 2048 && (bits == 0 || sizeof(T) == 4)) continue;
        const std::int64_t own = bits > 0 && hidden == 75 ? 76 : hidden;
        cases.push_back({own, std::min<std::int64_t>(own, 128), 3, 2, ExpertActivation::kSilu,
                         RouterWeights::kSoftmax, false, true, true, bits, 32, zeros});
      }
    }
  }
  for (const Case& c : cases) {
    const auto is_wanted = [&](const GroupedKernel& fc1) {
      return refills == (c.hidden == 2048 && fc1.needs_sm90 && fc1.runs == 0);
    };
    Problem<T> problem(c, 5);
    Buffer<T> expected(5 * c.hidden);
    problem.Expected(&expected);
    EXPECT_EQ(problem.Disagreements(expected, is_wanted), std::vector<std::string>());
    // Rows beside their alignment.
    problem.args.input = problem.input.data() + 1;
    problem.args.tokens = 4;
    problem.Expected(&expected);
    EXPECT_EQ(problem.Disagreements(expected, is_wanted), std::vector<std::string>());
  }
}

TYPED_TEST(MoeTest, RingsAreFilledAgain) {
  if constexpr (sizeof(TypeParam) == 2) EachKernel<TypeParam>(true);
}

TYPED_TEST(MoeTest, EachKernelOnce) {
  EachKernel<TypeParam>(false);
  Buffer<std::uint8_t> packed(2 * 3), zeros(2 * 5);
  packed.Set({0x21, 0x43, 0x05, 0xba, 0xdc, 0x0e});
  ASSERT_STATUS_OK(UnpackRowZeroPoints(2, 5, 4, packed.data(), zeros.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(zeros.Host(), (std::vector<std::uint8_t>{1, 2, 3, 4, 5, 10, 11, 12, 13, 14}));
  EXPECT_TRUE(zeros.GuardsIntact());
}

std::vector<Case> InvarianceCases() {
  return {{256, 192, 16, 4},
          {256, 192, 16, 4, ExpertActivation::kSwiGlu, RouterWeights::kSoftmaxOfChosen, false, true,
           true, 4},
          {2048, 128, 8, 2, ExpertActivation::kSilu, RouterWeights::kGiven, true, true, true, 8}};
}

TYPED_TEST(MoeTest, TokenCountAndPosition) {
  using T = TypeParam;
  constexpr std::int64_t kMost = 1200;
  for (const Case& c : InvarianceCases()) {
    Problem<T> problem(c, kMost);
    problem.Run(0, kMost, 0, &problem.output);
    Buffer<T> y(kMost * c.hidden);
    std::vector<std::int64_t> counts;
    for (std::int64_t m = 1; m <= 40; ++m) counts.push_back(m);
    for (std::int64_t m = 41; m < kMost; m += m / 3 + 1) counts.push_back(m);
    for (const std::int64_t m : counts) {
      for (const std::int64_t first : {std::int64_t{0}, kMost - m, (kMost - m) / 2 | 1}) {
        if (first + m > kMost) continue;
        y.Poison();
        problem.Run(first, m, 0, &y);
        ASSERT_EQ(Differences(y.data(), c.hidden, problem.output.data() + first * c.hidden,
                              c.hidden, m, c.hidden),
                  0u)
            << Name(c) << ", " << m << " tokens from " << first;
      }
    }
  }
}

// A token among others that all want its experts, that are NaN or infinite, or whose router is.
TYPED_TEST(MoeTest, NeighboursWithNanAndInfinity) {
  using T = TypeParam;
  constexpr std::int64_t kTokens = 65;
  for (const Case& c : InvarianceCases()) {
    Problem<T> problem(c, kTokens);
    problem.Run(0, kTokens, 0, &problem.output);
    Buffer<T> y(kTokens * c.hidden), input(problem.input.size()), router(problem.router.size());
    for (const std::int64_t own : {0, 13, 64}) {
      for (std::int64_t t = 0; t < kTokens; ++t) {
        const float value = t % 2 ? NAN : INFINITY;
        FillValue<<<Blocks(c.hidden), 256>>>(input.data() + t * c.hidden, c.hidden, value);
        FillValue<<<Blocks(c.experts), 256>>>(router.data() + t * c.experts, c.experts,
                                              t % 3 ? value : -value);
        // Others stand where this token stands.
        if (t % 5 != 0 && t != own) continue;
        const std::int64_t size = sizeof(T);
        cudaMemcpy(router.data() + t * c.experts, problem.router.data() + own * c.experts,
                   c.experts * size, cudaMemcpyDeviceToDevice);
        if (t != own) continue;
        cudaMemcpy(input.data() + t * c.hidden, problem.input.data() + own * c.hidden,
                   c.hidden * size, cudaMemcpyDeviceToDevice);
      }
      MoeArgs hostile = problem.args;
      hostile.input = input.data();
      hostile.router = router.data();
      hostile.output = y.data();
      y.Poison();
      problem.Launch(hostile, 0);
      ASSERT_EQ(Differences(y.data() + own * c.hidden, c.hidden,
                            problem.output.data() + own * c.hidden, c.hidden, 1, c.hidden),
                0u)
          << Name(c) << ", token " << own;
      // The neighbours' outputs are written too: a token whose input is NaN is NaN.
      if (c.weights == RouterWeights::kGiven) continue;
      const std::vector<T> host = y.Host();
      const std::int64_t other = own == 5 ? 15 : 5;  // odd, at the same router values
      EXPECT_TRUE(std::isnan(static_cast<float>(host[other * c.hidden])));
    }
  }
}

// The comparisons above see a kernel that looks at how many tokens there are.
const GroupedKernel* planted_for = nullptr;
template <typename T>
Status Planted(const GroupedArgs& args, const DeviceInfo& device, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(planted_for->launch(args, device, stream));
  if (args.sorted_rows < 100) return Status::Ok();
  Scale<T><<<1, 64, 0, stream>>>(static_cast<T*>(args.y), 64, 2.0f);
  return Status::Ok();
}

TYPED_TEST(MoeTest, AKernelThatLooksAtTheTokensIsSeen) {
  using T = TypeParam;
  const Case c{128, 64, 4, 2};
  Problem<T> problem(c, 120);
  MoeKernels kernels = problem.Find(16);
  planted_for = kernels.fc2;
  GroupedKernel planted = *planted_for;
  planted.launch = &Planted<T>;
  std::size_t bytes = 0;
  ASSERT_STATUS_OK(MoeWorkspaceBytes(problem.args, &bytes));
  Buffer<uint4> workspace((bytes + 15) / 16);
  kernels.fc2 = &planted;
  ASSERT_STATUS_OK(MixtureOfExperts(problem.args, kernels, workspace.data(), bytes, nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  Buffer<T> expected(120 * c.hidden);
  problem.Expected(&expected);
  EXPECT_GT(Differences(problem.output.data(), c.hidden, expected.data(), c.hidden, 120, c.hidden),
            0u);
}

TYPED_TEST(MoeTest, StreamsGraphsAndRepeats) {
  using T = TypeParam;
  constexpr std::int64_t kTokens = 24;
  for (const Case& c : InvarianceCases()) {
    Problem<T> problem(c, kTokens);
    problem.Run(0, kTokens, 0, &problem.output);
    std::size_t bytes = 0;
    ASSERT_STATUS_OK(MoeWorkspaceBytes(problem.args, &bytes));
    Buffer<uint4> workspace((bytes + 15) / 16);
    Buffer<T> y(kTokens * c.hidden);
    MoeArgs args = problem.args;
    args.output = y.data();
    cudaStream_t stream;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    // Every choice of experts is made on the device, so that a graph serves other tokens too.
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ASSERT_STATUS_OK(MixtureOfExperts(args, workspace.data(), bytes, stream));
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (int repeat = 0; repeat < 3; ++repeat) {
      if (repeat > 0) {
        test::Randomize(problem.input.data(), problem.input.size(), c.hidden);
        test::Randomize(problem.router.data(), problem.router.size(), c.experts);
        problem.Run(0, kTokens, 0, &problem.output);
      }
      y.Poison();
      ASSERT_CUDA(cudaDeviceSynchronize());
      ASSERT_CUDA(cudaGraphLaunch(executable, stream));
      ASSERT_CUDA(cudaStreamSynchronize(stream));
      EXPECT_EQ(Differences(y.data(), c.hidden, problem.output.data(), c.hidden, kTokens, c.hidden),
                0u)
          << Name(c) << ", repeat " << repeat;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
}

double Activated(const MoeArgs& args, const std::vector<double>& h, std::int64_t i) {
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  if (args.activation == ExpertActivation::kSwiGlu) {
    const double limit = args.limit;
    const double g = std::min(h[args.interleaved ? 2 * i : i], limit);
    const double l =
        std::max(-limit, std::min(h[args.interleaved ? 2 * i + 1 : args.inter + i], limit));
    return g * sigmoid(args.alpha * g) * (l + args.beta);
  }
  const double x = h[i];
  switch (args.activation) {
    case ExpertActivation::kRelu:
      return std::max(x, 0.0);
    case ExpertActivation::kGelu:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case ExpertActivation::kSilu:
      return x * sigmoid(x);
    default:
      return x;
  }
}

template <typename T>
std::vector<double> Doubles(const std::vector<T>& x) {
  std::vector<double> wide;
  for (const T& value : x) wide.push_back(static_cast<float>(value));
  return wide;
}

TYPED_TEST(MoeTest, IsCloseToDouble) {
  using T = TypeParam;
  constexpr std::int64_t kTokens = 12;
  for (const ExpertActivation activation : kActivations) {
    const Case c{128, 96, 6, 2, activation, RouterWeights::kSoftmax, true};
    Problem<T> problem(c, kTokens);
    problem.Run(0, kTokens, 0, &problem.output);
    const MoeArgs& args = problem.args;
    const auto x = Doubles(problem.input.Host()), router = Doubles(problem.router.Host());
    const auto w1 = Doubles(problem.fc1.HostWeights()), w2 = Doubles(problem.fc2.HostWeights());
    const auto b1 = Doubles(problem.fc1.HostBias()), b2 = Doubles(problem.fc2.HostBias());
    const auto output = Doubles(problem.output.Host());
    const std::int64_t columns = args.fc1_columns();
    double error = 0, norm = 0;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      const double* values = router.data() + t * c.experts;
      std::vector<std::int64_t> order(c.experts);
      for (std::int64_t e = 0; e < c.experts; ++e) order[e] = e;
      std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return values[a] != values[b] ? values[a] > values[b] : a > b;
      });
      double sum = 0;
      for (std::int64_t i = 0; i < c.k; ++i) sum += std::exp(values[order[i]]);
      std::vector<double> y(c.hidden);
      for (std::int64_t i = 0; i < c.k; ++i) {
        const std::int64_t e = order[i];
        std::vector<double> h(columns), a(c.inter);
        for (std::int64_t n = 0; n < columns; ++n) {
          h[n] = b1[e * columns + n];
          for (std::int64_t k = 0; k < c.hidden; ++k) {
            h[n] += x[t * c.hidden + k] * w1[(e * columns + n) * c.hidden + k];
          }
        }
        for (std::int64_t n = 0; n < c.inter; ++n) a[n] = Activated(args, h, n);
        for (std::int64_t n = 0; n < c.hidden; ++n) {
          double z = b2[e * c.hidden + n];
          for (std::int64_t k = 0; k < c.inter; ++k)
            z += a[k] * w2[(e * c.hidden + n) * c.inter + k];
          y[n] += std::exp(values[e]) / sum * z;
        }
      }
      for (std::int64_t n = 0; n < c.hidden; ++n) {
        const double difference = output[t * c.hidden + n] - y[n];
        error += difference * difference;
        norm += y[n] * y[n];
      }
    }
    const double bound = sizeof(T) == 4 ? 1e-6 : std::is_same_v<T, __half> ? 1e-3 : 8e-3;
    EXPECT_LT(std::sqrt(error / norm), bound) << Name(c);
    EXPECT_GT(norm, 0);
    Compared() += output.size();
  }
}

TYPED_TEST(MoeTest, EmptyAndRefusedSizes) {
  using T = TypeParam;
  Problem<T> problem({64, 64, 4, 2}, 3);
  std::size_t bytes = 0;
  MoeArgs args = problem.args;
  args.tokens = 0;
  ASSERT_STATUS_OK(MoeWorkspaceBytes(args, &bytes));
  ASSERT_STATUS_OK(MixtureOfExperts(args, nullptr, 0, nullptr));
  args = problem.args;
  args.k = 5;
  EXPECT_FALSE(MoeWorkspaceBytes(args, &bytes).ok());
  args = problem.args;
  args.experts = 10000;
  EXPECT_FALSE(MoeWorkspaceBytes(args, &bytes).ok());
  ASSERT_STATUS_OK(MoeWorkspaceBytes(problem.args, &bytes));
  EXPECT_FALSE(MixtureOfExperts(problem.args, nullptr, bytes, nullptr).ok());
  args = problem.args;
  args.input = nullptr;
  Buffer<uint4> workspace((bytes + 15) / 16);
  EXPECT_FALSE(MixtureOfExperts(args, workspace.data(), bytes, nullptr).ok());
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
