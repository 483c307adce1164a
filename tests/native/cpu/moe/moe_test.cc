// MoE and QMoE: the bits of the plain loops on every instruction set, whichever tokens share an
// expert, whatever the threads; and the value of float64.
#include "batch_invariant/cpu/moe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "batch_invariant/cpu/matmul.h"
#include "cpu/support/support.h"
#include "kernels/reference/matmul_nbits.h"
#include "kernels/reference/moe.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One layer of all experts as a model holds it, and packed: fp32, or 4-bit when a block is given.
struct Layer {
  int64_t n = 0, k = 0;
  std::vector<float> weights, bias, scales;  // [experts, n, k], [experts, n], [experts, n, blocks]
  std::vector<uint8_t> b;
  MatMulNBitsPlan plan;
  std::vector<uint8_t> packed;

  Layer(Random& random, const Context& context, int64_t experts, int64_t n, int64_t k,
        int64_t block, int64_t level)
      : n(n), k(k), bias(random.Normal(experts * n)) {
    if (block == 0) {
      weights = random.Normal(experts * n * k, 0.3f);
      const size_t bytes = PackedMatMulBytes(k, n);
      packed.resize(experts * bytes);
      for (int64_t e = 0; e < experts; ++e) {
        EXPECT_TRUE(PackMatMul(context, k, n, {weights.data() + e * n * k, 1, k},
                               reinterpret_cast<float*>(packed.data() + e * bytes))
                        .ok());
      }
      return;
    }
    EXPECT_TRUE(
        MakeMatMulNBitsPlan(k, n, 4, block, level, ZeroPoints::kDefault, &plan).ok());
    b = random.Bytes(experts * ExpertBytes());
    scales.resize(experts * n * plan.blocks());
    for (float& scale : scales) scale = random.Uniform(0.01f, 0.1f);
    const size_t bytes = PackedMatMulNBitsBytes(plan);
    packed.resize(experts * bytes);
    for (int64_t e = 0; e < experts; ++e) {
      EXPECT_TRUE(PackMatMulNBits(context, plan, b.data() + e * ExpertBytes(),
                                  scales.data() + e * n * plan.blocks(), nullptr,
                                  packed.data() + e * bytes)
                      .ok());
    }
  }

  int64_t ExpertBytes() const { return n * plan.blocks() * plan.block_size / 2; }

  ExpertWeights View() const {
    ExpertWeights view;
    if (weights.empty()) {
      view.plan = &plan;
      view.nbits = packed.data();
    } else {
      view.packed = reinterpret_cast<const float*>(packed.data());
    }
    view.bias = bias.data();
    return view;
  }

  reference::NBitsWeights Bits(int64_t expert) const {
    return {b.data() + expert * ExpertBytes(), scales.data() + expert * n * plan.blocks()};
  }

  void Run(int64_t expert, const std::vector<float>& x, float* y) const {
    const float* expert_bias = bias.data() + expert * n;
    if (weights.empty()) {
      MatMulNBitsArgs args = {1, x.data(), k, nullptr, expert_bias, y, n};
      reference::MatMulNBits(plan, Bits(expert), args);
      return;
    }
    MatMulArgs args;
    args.m = 1;
    args.n = n;
    args.k = k;
    args.a = {x.data(), k, 1};
    args.b = {weights.data() + expert * n * k, 1, k};
    args.c = {expert_bias, 0, 1};
    args.y = y;
    args.y_row_stride = n;
    reference::MatMul(args);
  }

  double At(int64_t expert, int64_t row, int64_t column) const {
    if (!weights.empty()) return weights[(expert * n + row) * k + column];
    const reference::NBitsWeights bits = Bits(expert);
    return (reference::NBitsQuantum(plan, bits, row, column) - 8.0) *
           bits.scales[row * plan.blocks() + column / plan.block_size];
  }
};

struct Model {
  Layer fc1, fc2;
  MoeArgs args;

  Model(Random& random, const Context& context, const MoeArgs& shape, int64_t block, int64_t level)
      : fc1(random, context, shape.experts,
            shape.activation == ExpertActivation::kSwiGlu ? 2 * shape.inter : shape.inter,
            shape.hidden, block, level),
        fc2(random, context, shape.experts, shape.hidden, shape.inter, block, level),
        args(shape) {}

  MoeArgs Args(const std::vector<float>& input, const std::vector<float>& router,
               const std::vector<float>& given, std::vector<float>& output) const {
    MoeArgs all = args;
    all.tokens = static_cast<int64_t>(input.size()) / all.hidden;
    all.input = input.data();
    all.router = router.data();
    all.router_weights = given.data();
    all.fc1 = fc1.View();
    all.fc2 = fc2.View();
    all.output = output.data();
    return all;
  }

  void Reference(const MoeArgs& all) const {
    reference::MixtureOfExperts(
        all, [&](int layer, int64_t expert, const std::vector<float>& x, float* y) {
          (layer == 1 ? fc1 : fc2).Run(expert, x, y);
        });
  }
};

MoeArgs RandomShape(Random& random) {
  MoeArgs shape;
  shape.hidden = random.Integer(1, 70);
  shape.inter = random.Integer(1, 70);
  shape.experts = random.Integer(1, 9);
  shape.k = random.Integer(1, shape.experts);
  shape.activation = static_cast<ExpertActivation>(random.Integer(0, 4));
  shape.weights = static_cast<RouterWeights>(random.Integer(0, 2));
  shape.normalize = random.Integer(0, 1) == 1;
  shape.interleaved = random.Integer(0, 1) == 1;
  shape.alpha = random.Uniform(0.5f, 2.0f);
  shape.beta = random.Uniform(-1.0f, 1.0f);
  if (random.Integer(0, 1) == 1) shape.limit = random.Uniform(0.5f, 7.0f);
  return shape;
}

using MoeTest = InstructionSetTest;

TEST_P(MoeTest, SameBitsAsReference) {
  Random random(71);
  const int cases = FuzzCases(60);
  for (int i = 0; i < cases; ++i) {
    TestContext context(GetParam(), static_cast<int>(random.Integer(1, 4)));
    const MoeArgs shape = RandomShape(random);
    const int64_t block = std::array<int64_t, 3>{0, 16, 32}[i % 3];
    const Model model(random, context, shape, block, random.Integer(0, 1) * 4);
    const int64_t tokens =
        std::array<int64_t, 4>{0, 1, 1, random.Integer(2, 20)}[random.Integer(0, 3)];
    auto input = random.Normal(tokens * shape.hidden);
    auto router = random.Normal(tokens * shape.experts);
    const auto given = random.Normal(tokens * shape.experts);
    if (random.Integer(0, 3) == 0) {
      for (float& value : router) value = std::round(value);  // many are equal
    }
    const bool strange = tokens > 0 && random.Integer(0, 2) == 0;
    if (strange && random.Integer(0, 1) == 0) router[random.Integer(0, tokens * shape.experts - 1)] = kNan;
    if (strange && random.Integer(0, 1) == 0) input[random.Integer(0, tokens * shape.hidden - 1)] = kInfinity;
    std::vector<float> expected = Poisoned(input.size()), actual = expected;
    model.Reference(model.Args(input, router, given, expected));
    const Status status = MixtureOfExperts(context, model.Args(input, router, given, actual));
    ASSERT_TRUE(status.ok()) << status.message;
    ASSERT_TRUE(SameBits(expected, actual))
        << "case " << i << " tokens " << tokens << " experts " << shape.experts << " k " << shape.k
        << " activation " << static_cast<int>(shape.activation) << " block " << block;
  }
}

TEST_P(MoeTest, TokenDependsOnItselfOnly) {
  Random random(72);
  for (const int64_t block : {0, 32}) {
    const TestContext pack(GetParam());
    MoeArgs shape;
    shape.hidden = 64;
    shape.inter = 48;
    shape.experts = 6;
    shape.k = 2;
    shape.activation = ExpertActivation::kSwiGlu;
    const Model model(random, pack, shape, block, 4);
    const auto token = random.Normal(shape.hidden), router_row = random.Normal(shape.experts);
    std::vector<float> alone = Poisoned(shape.hidden);
    ASSERT_TRUE(
        MixtureOfExperts(pack, model.Args(token, router_row, router_row, alone)).ok());
    for (int64_t tokens = 1; tokens <= 40; ++tokens) {
      for (const bool same_experts : {false, true}) {
        auto input = random.Normal(tokens * shape.hidden, 100.0f);
        auto router = random.Normal(tokens * shape.experts);
        input[0] = tokens % 2 == 0 ? kNan : kInfinity;
        if (same_experts) {
          for (size_t i = 0; i < router.size(); ++i) router[i] = router_row[i % shape.experts];
        }
        const int64_t position = random.Integer(0, tokens - 1);
        std::copy(token.begin(), token.end(), input.begin() + position * shape.hidden);
        std::copy(router_row.begin(), router_row.end(), router.begin() + position * shape.experts);
        std::vector<float> output = Poisoned(input.size());
        const TestContext context(GetParam(), static_cast<int>(tokens % 4 + 1));
        ASSERT_TRUE(MixtureOfExperts(context, model.Args(input, router, router, output)).ok());
        ASSERT_TRUE(SameBits(
            alone, std::span(output).subspan(position * shape.hidden, shape.hidden)));
      }
    }
  }
}

// In float64, along the experts that the router chose.
TEST_P(MoeTest, CloseToFloat64) {
  Random random(73);
  for (const auto activation : {ExpertActivation::kSilu, ExpertActivation::kSwiGlu}) {
    for (const int64_t block : {0, 32}) {
      const TestContext context(GetParam());
      MoeArgs shape;
      shape.hidden = 96;
      shape.inter = 80;
      shape.experts = 5;
      shape.k = 3;
      shape.activation = activation;
      shape.normalize = true;
      shape.alpha = activation == ExpertActivation::kSilu ? 1.0f : 1.702f;
      shape.beta = 1.0f;
      const Model model(random, context, shape, block, 0);
      const int64_t tokens = 4;
      const auto input = random.Normal(tokens * shape.hidden);
      const auto router = random.Normal(tokens * shape.experts);
      std::vector<float> output = Poisoned(input.size());
      ASSERT_TRUE(MixtureOfExperts(context, model.Args(input, router, router, output)).ok());
      for (int64_t t = 0; t < tokens; ++t) {
        const float* values = router.data() + t * shape.experts;
        std::vector<int64_t> order = {0, 1, 2, 3, 4};
        std::sort(order.begin(), order.end(),
                  [&](int64_t a, int64_t b) { return values[a] > values[b]; });
        double sum = 0;
        for (int i = 0; i < 3; ++i) sum += std::exp(static_cast<double>(values[order[i]]));
        std::vector<double> expected(shape.hidden, 0.0), magnitude(shape.hidden, 0.0);
        for (int i = 0; i < 3; ++i) {
          const int64_t e = order[i];
          const double weight = std::exp(static_cast<double>(values[e])) / sum;
          std::vector<double> first(model.fc1.n);
          for (int64_t j = 0; j < model.fc1.n; ++j) {
            first[j] = model.fc1.bias[e * model.fc1.n + j];
            for (int64_t c = 0; c < shape.hidden; ++c) {
              first[j] += input[t * shape.hidden + c] * model.fc1.At(e, j, c);
            }
          }
          const auto swish = [&](double x) { return x / (1 + std::exp(-shape.alpha * x)); };
          for (int64_t j = 0; j < shape.hidden; ++j) {
            expected[j] += weight * model.fc2.bias[e * shape.hidden + j];
            for (int64_t c = 0; c < shape.inter; ++c) {
              const double x = activation == ExpertActivation::kSilu
                                   ? swish(first[c])
                                   : swish(first[2 * c]) * (first[2 * c + 1] + shape.beta);
              expected[j] += weight * x * model.fc2.At(e, j, c);
              magnitude[j] += std::abs(weight * x * model.fc2.At(e, j, c));
            }
          }
        }
        for (int64_t j = 0; j < shape.hidden; ++j) {
          EXPECT_NEAR(output[t * shape.hidden + j], expected[j], 3e-6 * (magnitude[j] + 1));
        }
        AddCompared(shape.hidden);
      }
    }
  }
}

// The comparison must be able to fail: experts added in the order of choice give other bits.
TEST_P(MoeTest, AnotherOrderOfExpertsIsDetected) {
  Random random(74);
  const TestContext context(GetParam());
  MoeArgs shape;
  shape.hidden = 64;
  shape.inter = 32;
  shape.experts = shape.k = 5;
  const Model model(random, context, shape, 0, 0);
  const auto input = random.Normal(shape.hidden), router = random.Normal(shape.experts);
  std::vector<float> output = Poisoned(shape.hidden), other(shape.hidden);
  ASSERT_TRUE(MixtureOfExperts(context, model.Args(input, router, router, output)).ok());
  for (int64_t e = shape.experts - 1; e >= 0; --e) {
    std::vector<float> one = Poisoned(shape.hidden);
    MoeArgs args = model.Args(input, router, router, one);
    std::vector<float> given(shape.experts, 0.0f), softmax(router);
    reference::Softmax({1, shape.experts, 1, softmax.data(), softmax.data()}, false);
    given[e] = softmax[e];
    args.weights = RouterWeights::kGiven;
    args.router_weights = given.data();
    ASSERT_TRUE(MixtureOfExperts(context, args).ok());
    for (int64_t j = 0; j < shape.hidden; ++j) other[j] += one[j];
  }
  const auto result = SameBits(other, output);
  EXPECT_FALSE(result);
  std::cout << "             another order: " << result.message() << "\n";
}

TEST_P(MoeTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  MoeArgs args;
  EXPECT_EQ(MixtureOfExperts(context, args).code, StatusCode::kInvalidArgument);
  args.hidden = args.inter = args.experts = 4;
  EXPECT_TRUE(MixtureOfExperts(context, args).ok());  // no tokens
  args.k = 5;
  EXPECT_EQ(MixtureOfExperts(context, args).code, StatusCode::kInvalidArgument);
  args.k = 1;
  args.tokens = 1;
  EXPECT_EQ(MixtureOfExperts(context, args).code, StatusCode::kInvalidArgument);
  AddCompared(4);
}

BI_INSTANTIATE_INSTRUCTION_SETS(MoeTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
