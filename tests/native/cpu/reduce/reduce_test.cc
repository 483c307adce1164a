// Reductions: bits of the plain loops on every instruction set, whatever stands beside a row, and
// close to float64.
#include "batch_invariant/cpu/reduce.h"

#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/reference/reduce.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMax,
                             ReduceOp::kMin, ReduceOp::kL2,   ReduceOp::kSumSquare};

std::vector<float> Evaluate(const Context& context, ReduceOp op, const std::vector<float>& x,
                            int64_t rows, int64_t length) {
  std::vector<float> y = Poisoned(rows);
  const Status status = ReduceF32(context, {op, rows, length, x.data(), y.data()});
  EXPECT_TRUE(status.ok()) << status.message;
  return y;
}

std::vector<float> Reference(ReduceOp op, const std::vector<float>& x, int64_t rows,
                             int64_t length) {
  std::vector<float> y(rows);
  reference::Reduce({op, rows, length, x.data(), y.data()});
  for (float& value : y) value = std::isnan(value) ? kNan : value;
  return y;
}

using ReduceTest = InstructionSetTest;

TEST_P(ReduceTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  const TestContext context(GetParam(), 2);
  for (ReduceOp op : kOps) {
    for (int64_t length : {0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 200, 1000, 5000}) {
      auto x = random.Normal(7 * length);
      EXPECT_TRUE(SameBits(Reference(op, x, 7, length), Evaluate(context, op, x, 7, length)));
      for (size_t i = 0; i < x.size(); i += 11) x[i] = i % 2 ? -0.0f : 0.0f;
      for (size_t i = 0; i < x.size(); i += 301) x[i] = i % 3 ? kNan : -kInfinity;
      EXPECT_TRUE(SameBits(Reference(op, x, 7, length), Evaluate(context, op, x, 7, length)));
    }
    // Rows of zeros of either sign.
    std::vector<float> zeros(4 * 100);
    for (float& zero : zeros) zero = random.Integer(0, 1) == 0 ? 0.0f : -0.0f;
    EXPECT_TRUE(SameBits(Reference(op, zeros, 4, 100), Evaluate(context, op, zeros, 4, 100)));
  }
}

TEST_P(ReduceTest, RowsDoNotSeeTheirNumberPositionOrNeighbours) {
  Random random(2);
  const int64_t length = 219;
  for (ReduceOp op : kOps) {
    const auto alone = random.Normal(length);
    const auto expected = Evaluate(TestContext(GetParam()), op, alone, 1, length);
    for (int64_t rows = 1; rows <= 64; ++rows) {
      for (int threads : {1, 2, 3, 4}) {
        auto x = random.Normal(rows * length);
        for (size_t i = 0; i < x.size(); i += 5) x[i] = i % 2 ? kNan : kInfinity;
        const int64_t row = random.Integer(0, rows - 1);
        std::copy(alone.begin(), alone.end(), x.begin() + row * length);
        const auto y = Evaluate(TestContext(GetParam(), threads), op, x, rows, length);
        EXPECT_TRUE(SameBits(expected, std::span(y).subspan(row, 1)));
      }
    }
  }
}

TEST_P(ReduceTest, IsCloseToFloat64) {
  Random random(3);
  const TestContext context(GetParam());
  const int64_t length = 3000;
  const auto x = random.Normal(length);
  double sum = 0, square = 0;
  for (float v : x) {
    sum += v;
    square += static_cast<double>(v) * v;
  }
  EXPECT_NEAR(Evaluate(context, ReduceOp::kSum, x, 1, length)[0], sum, 1e-3);
  EXPECT_NEAR(Evaluate(context, ReduceOp::kMean, x, 1, length)[0], sum / length, 1e-6);
  EXPECT_NEAR(Evaluate(context, ReduceOp::kSumSquare, x, 1, length)[0], square, 1e-5 * square);
  EXPECT_NEAR(Evaluate(context, ReduceOp::kL2, x, 1, length)[0], std::sqrt(square), 1e-4);
  EXPECT_EQ(Evaluate(context, ReduceOp::kMax, x, 1, length)[0],
            *std::max_element(x.begin(), x.end()));
  EXPECT_EQ(Evaluate(context, ReduceOp::kMin, x, 1, length)[0],
            *std::min_element(x.begin(), x.end()));
  AddCompared(6);
}

TEST_P(ReduceTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  EXPECT_EQ(ReduceF32(context, {ReduceOp::kSum, 1, 2, nullptr, nullptr}).code,
            StatusCode::kInvalidArgument);
  EXPECT_EQ(ReduceF32(context, {ReduceOp::kSum, 1, -2, nullptr, nullptr}).code,
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(ReduceF32(context, {ReduceOp::kSum, 0, 2, nullptr, nullptr}).ok());
  AddCompared(3);
}

BI_INSTANTIATE_INSTRUCTION_SETS(ReduceTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
