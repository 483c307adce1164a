// MatMulNBits: the bits of the reference on every instruction set for every kind of weights,
// whatever the rows, their position and neighbours and the threads; and the value of float64.
#include "batch_invariant/cpu/matmul_nbits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "batch_invariant/contract.h"
#include "cpu/support/support.h"
#include "kernels/reference/matmul_nbits.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Random weights as a model holds them, and packed.
struct Weights {
  Weights(Random& random, const Context& context, const MatMulNBitsPlan& plan) : plan(plan) {
    const int64_t blocks = plan.blocks();
    b = random.Bytes(plan.n * blocks * plan.block_size * plan.bits / 8);
    scales.resize(plan.n * blocks);
    for (float& scale : scales) scale = random.Uniform(-0.02f, 0.05f);
    packed_zeros = random.Bytes(plan.n * ((blocks * plan.bits + 7) / 8));
    float_zeros.resize(plan.n * blocks);
    for (float& zero : float_zeros) zero = random.Uniform(0.0f, 15.0f);
    model.b = b.data();
    model.scales = scales.data();
    if (plan.zero_points == ZeroPoints::kPacked) model.zero_points = packed_zeros.data();
    if (plan.zero_points == ZeroPoints::kFloat) model.zero_points = float_zeros.data();
    if (plan.has_group_index) {
      for (int64_t k = 0; k < plan.k; ++k) {
        group_index.push_back(static_cast<int32_t>(random.Integer(0, blocks - 1)));
      }
      model.group_index = group_index.data();
    }
    packed.assign(PackedMatMulNBitsBytes(plan), 0xab);
    EXPECT_TRUE(PackMatMulNBits(context, plan, model.b, model.scales, model.zero_points,
                                packed.data(), model.group_index)
                    .ok());
  }
  double at(int64_t n, int64_t k) const {
    const int64_t block = plan.has_group_index ? group_index[k] : k / plan.block_size;
    const double zero = reference::NBitsZeroPoint(plan, model, n, block);
    return (reference::NBitsQuantum(plan, model, n, k) - zero) * scales[n * plan.blocks() + block];
  }

  MatMulNBitsPlan plan;
  std::vector<uint8_t> b, packed_zeros, packed;
  std::vector<float> scales, float_zeros;
  std::vector<int32_t> group_index;
  reference::NBitsWeights model;
};

MatMulNBitsPlan Plan(int64_t k, int64_t n, int64_t bits, int64_t block, int64_t accuracy_level,
                     ZeroPoints zero_points, bool has_group_index = false) {
  MatMulNBitsPlan plan;
  const Status status = MakeMatMulNBitsPlan(k, n, bits, block, accuracy_level, zero_points, &plan,
                                            has_group_index);
  EXPECT_TRUE(status.ok()) << status.message;
  return plan;
}

MatMulNBitsArgs Args(const std::vector<float>& a, int64_t m, const Weights& weights,
                     std::vector<float>& y) {
  MatMulNBitsArgs args;
  args.m = m;
  args.a = a.data();
  args.a_row_stride = weights.plan.k;
  args.packed_b = weights.packed.data();
  args.y = y.data();
  args.y_row_stride = weights.plan.n;
  return args;
}

class MatMulNBitsTest : public InstructionSetTest {};

TEST_P(MatMulNBitsTest, SameBitsAsReference) {
  Random random(21);
  // Every kind of weights in turn, with random shapes.
  const int kinds = 3 * 5 * 2 * 3;
  const int cases = FuzzCases(GetParam() == InstructionSet::kScalar ? kinds : 4 * kinds);
  for (int i = 0; i < cases; ++i) {
    const int64_t bits = int64_t{2} << (i % 3);
    const int64_t block = int64_t{16} << (i / 3 % 5);
    const int64_t level = i / 15 % 2 * 4;
    const ZeroPoints zeros =
        std::array{ZeroPoints::kDefault, ZeroPoints::kPacked, ZeroPoints::kFloat}[i / 30 % 3];
    const int64_t k = random.Integer(1, 3 * block + 40);
    const int64_t n = random.Integer(1, 150);
    const int64_t m = random.Integer(0, 2) == 0 ? 1 : random.Integer(2, 30);
    TestContext context(GetParam(), static_cast<int>(random.Integer(1, 4)));
    const bool group_index = random.Integer(0, 7) == 0;
    const Weights weights(random, context, Plan(k, n, bits, block, level, zeros, group_index));
    const auto a = random.Normal(m * k);
    const auto bias = random.Normal(n);
    std::vector<float> expected = Poisoned(m * n), actual = expected;
    MatMulNBitsArgs args = Args(a, m, weights, expected);
    if (random.Integer(0, 1) == 1) args.bias = bias.data();
    reference::MatMulNBits(weights.plan, weights.model, args);
    args.y = actual.data();
    ASSERT_TRUE(MatMulNBits(context, weights.plan, args).ok());
    ASSERT_TRUE(SameBits(expected, actual))
        << "bits " << bits << " block " << block << " level " << level << " zeros "
        << static_cast<int>(zeros) << " group index " << group_index << " m " << m << " n " << n << " k " << k;
  }
}

TEST_P(MatMulNBitsTest, ManyRowsAndStrides) {
  Random random(22);
  for (const int64_t level : {0, 4}) {
    for (const auto& [m, n, k] :
         {std::tuple{300, 70, 600}, std::tuple{37, 1100, 100}, std::tuple{1, 1500, 333}}) {
      if (GetParam() == InstructionSet::kScalar && m > 100) continue;
      TestContext context(GetParam(), 2);
      const Weights weights(random, context, Plan(k, n, 4, 32, level, ZeroPoints::kPacked));
      const int64_t a_stride = k + 3, y_stride = n + 5;
      const auto a = random.Normal(m * a_stride);
      std::vector<float> expected = Poisoned(m * y_stride), actual = expected;
      MatMulNBitsArgs args = Args(a, m, weights, expected);
      args.a_row_stride = a_stride;
      args.y_row_stride = y_stride;
      reference::MatMulNBits(weights.plan, weights.model, args);
      args.y = actual.data();
      ASSERT_TRUE(MatMulNBits(context, weights.plan, args).ok());
      ASSERT_TRUE(SameBits(expected, actual)) << "level " << level << " m " << m;
    }
  }
}

TEST_P(MatMulNBitsTest, RowDependsOnItselfOnly) {
  Random random(23);
  const int64_t k = GetParam() == InstructionSet::kScalar ? 150 : 600, n = 90;
  for (const int64_t level : {0, 4}) {
    TestContext pack_context(GetParam());
    const Weights weights(random, pack_context, Plan(k, n, 4, 32, level, ZeroPoints::kDefault));
    const auto row = random.Normal(k);
    std::vector<float> expected = Poisoned(n);
    reference::MatMulNBits(weights.plan, weights.model, Args(row, 1, weights, expected));
    for (int64_t m = 1; m <= 64; ++m) {
      for (int neighbours = 0; neighbours < 3; ++neighbours) {
        auto a = random.Normal(m * k, 100.0f);
        if (neighbours != 0) std::fill(a.begin(), a.end(), neighbours == 1 ? kNan : kInfinity);
        const int64_t position = random.Integer(0, m - 1);
        std::copy(row.begin(), row.end(), a.begin() + position * k);
        std::vector<float> y = Poisoned(m * n);
        TestContext context(GetParam(), static_cast<int>(1 + m % 4));
        ASSERT_TRUE(MatMulNBits(context, weights.plan, Args(a, m, weights, y)).ok());
        ASSERT_TRUE(SameBits(expected, std::span(y).subspan(position * n, n)))
            << "level " << level << " row " << position << " of " << m << ", neighbours "
            << neighbours;
      }
    }
  }
}

TEST_P(MatMulNBitsTest, ValuesThatAreNotFinite) {
  Random random(24);
  const int64_t m = 8, n = 40, k = 96;
  for (const int64_t level : {0, 4}) {
    TestContext context(GetParam());
    const Weights weights(random, context, Plan(k, n, 4, 32, level, ZeroPoints::kPacked));
    auto a = random.Normal(m * k);
    a[5] = kNan;
    a[k + 40] = kInfinity;
    a[2 * k + 1] = -kInfinity, a[2 * k + 2] = kInfinity, a[2 * k + 3] = kNan;
    std::fill(a.begin() + 3 * k, a.begin() + 3 * k + 32, 0.0f);
    std::fill(a.begin() + 4 * k, a.begin() + 4 * k + 32, -0.0f);
    for (int64_t i = 0; i < 32; ++i) a[5 * k + i] *= 1e-40f;  // 127 / maximum overflows
    for (int64_t i = 0; i < 32; ++i) a[6 * k + i] *= 1e37f;
    std::vector<float> expected = Poisoned(m * n), actual = expected;
    reference::MatMulNBits(weights.plan, weights.model, Args(a, m, weights, expected));
    ASSERT_TRUE(MatMulNBits(context, weights.plan, Args(a, m, weights, actual)).ok());
    EXPECT_TRUE(SameBits(expected, actual)) << "level " << level;
  }
}

TEST_P(MatMulNBitsTest, CloseToFloat64) {
  Random random(25);
  for (const int64_t bits : {2, 4, 8}) {
    for (const int kind : {0, 1, 2}) {  // level 0, level 4, level 0 with a group index
      const int64_t level = kind == 1 ? 4 : 0;
      const int64_t m = 3, n = 33, k = 500;
      TestContext context(GetParam());
      const Weights weights(random, context,
                            Plan(k, n, bits, 32, level, ZeroPoints::kPacked, kind == 2));
      const auto a = random.Normal(m * k);
      std::vector<float> y = Poisoned(m * n);
      ASSERT_TRUE(MatMulNBits(context, weights.plan, Args(a, m, weights, y)).ok());
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0, magnitude = 0, weight_sum = 0;
          for (int64_t t = 0; t < k; ++t) {
            sum += a[i * k + t] * weights.at(j, t);
            magnitude += std::abs(a[i * k + t] * weights.at(j, t));
            weight_sum += std::abs(weights.at(j, t));
          }
          // Rounding of the sum, and for int8 half a step of the largest activation of any block.
          const double step = level == 4 ? 5.0 / 127 / 2 : 0.0;
          EXPECT_NEAR(y[i * n + j], sum, 0x1p-22 * magnitude * k + step * weight_sum);
        }
      }
      AddCompared(m * n);
    }
  }
}

TEST_P(MatMulNBitsTest, RefusesWhatItCannotDo) {
  MatMulNBitsPlan plan;
  const auto code = [&](int64_t k, int64_t n, int64_t bits, int64_t block, int64_t level) {
    const Status status =
        MakeMatMulNBitsPlan(k, n, bits, block, level, ZeroPoints::kDefault, &plan);
    EXPECT_FALSE(status.message.empty());
    return status.code;
  };
  EXPECT_EQ(code(0, 1, 4, 32, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(1, 0, 4, 32, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(1, 1, 3, 32, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(1, 1, 4, 24, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(1, 1, 4, 8, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(1, 1, 4, 512, 0), StatusCode::kUnsupported);
  EXPECT_EQ(code(1, 1, 4, 32, 5), StatusCode::kInvalidArgument);
  plan = Plan(32, 16, 4, 32, 4, ZeroPoints::kDefault);
  EXPECT_STREQ(plan.contract(), contract::kGemmNBitsS8);
  EXPECT_STREQ(Plan(32, 16, 4, 32, 4, ZeroPoints::kFloat).contract(), contract::kGemmNBitsF32);
  const MatMulNBitsPlan grouped = Plan(32, 16, 4, 32, 4, ZeroPoints::kDefault, true);
  EXPECT_STREQ(grouped.contract(), contract::kGemmNBitsF32);
  TestContext context(GetParam());
  const std::vector<uint8_t> b(16 * 16);
  const std::vector<float> scales(16);
  std::vector<int32_t> group_index(32);
  std::vector<uint8_t> packed(PackedMatMulNBitsBytes(grouped));
  EXPECT_EQ(PackMatMulNBits(context, grouped, b.data(), scales.data(), nullptr, packed.data()).code,
            StatusCode::kInvalidArgument);
  group_index[31] = 1;  // there is one block
  EXPECT_EQ(PackMatMulNBits(context, grouped, b.data(), scales.data(), nullptr, packed.data(),
                            group_index.data())
                .code,
            StatusCode::kInvalidArgument);
  MatMulNBitsArgs args;
  EXPECT_TRUE(MatMulNBits(context, plan, args).ok());  // no rows
  args.m = 1;
  EXPECT_EQ(MatMulNBits(context, plan, args).code, StatusCode::kInvalidArgument);
  AddCompared(14);
}

// The comparison itself must be able to fail: dequantising by q * scale - zero * scale differs.
TEST_P(MatMulNBitsTest, AnotherRoundingIsDetected) {
  Random random(26);
  const int64_t n = 64, k = 256;
  TestContext context(GetParam());
  const Weights weights(random, context, Plan(k, n, 4, 32, 0, ZeroPoints::kFloat));
  const auto a = random.Normal(k);
  std::vector<float> y = Poisoned(n), other(n);
  ASSERT_TRUE(MatMulNBits(context, weights.plan, Args(a, 1, weights, y)).ok());
  for (int64_t j = 0; j < n; ++j) {
    float acc = 0;
    for (int64_t t = 0; t < k; ++t) {
      const float scale = weights.scales[j * weights.plan.blocks() + t / 32];
      const float zero = reference::NBitsZeroPoint(weights.plan, weights.model, j, t / 32);
      const float q =
          static_cast<float>(reference::NBitsQuantum(weights.plan, weights.model, j, t));
      acc = std::fma(a[t], q * scale - zero * scale, acc);
    }
    other[j] = acc;
  }
  const auto result = SameBits(other, y);
  EXPECT_FALSE(result);
  std::cout << "             another dequantisation: " << result.message() << "\n";
}

BI_INSTANTIATE_INSTRUCTION_SETS(MatMulNBitsTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
