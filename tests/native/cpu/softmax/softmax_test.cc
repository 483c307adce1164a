// Softmax and LogSoftmax: bits of the plain loops on every instruction set, whatever stands beside
// a row, and close to float64.
#include "batch_invariant/cpu/softmax.h"

#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/reference/softmax.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> Evaluate(const Context& context, const std::vector<float>& x, int64_t outer,
                            int64_t length, int64_t inner, bool logarithm) {
  std::vector<float> y = Poisoned(x.size());
  SoftmaxArgs args{outer, length, inner, x.data(), y.data()};
  const Status status = logarithm ? LogSoftmaxF32(context, args) : SoftmaxF32(context, args);
  EXPECT_TRUE(status.ok()) << status.message;
  return y;
}

std::vector<float> Reference(const std::vector<float>& x, int64_t outer, int64_t length,
                             int64_t inner, bool logarithm) {
  std::vector<float> y(x.size());
  reference::Softmax({outer, length, inner, x.data(), y.data()}, logarithm);
  for (float& value : y) value = std::isnan(value) ? kNan : value;
  return y;
}

using SoftmaxTest = InstructionSetTest;

TEST_P(SoftmaxTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  const TestContext context(GetParam(), 2);
  for (bool logarithm : {false, true}) {
    for (int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 127, 200, 1000, 5000}) {
      for (int64_t inner : {1, 3}) {
        for (float deviation : {0.01f, 1.0f, 30.0f}) {
          const auto x = random.Normal(4 * length * inner, deviation);
          EXPECT_TRUE(SameBits(Reference(x, 4, length, inner, logarithm),
                               Evaluate(context, x, 4, length, inner, logarithm)));
        }
      }
    }
  }
}

TEST_P(SoftmaxTest, RowsDoNotSeeTheirNumberPositionOrNeighbours) {
  Random random(2);
  const int64_t length = 333;
  for (bool logarithm : {false, true}) {
    const auto alone = random.Normal(length, 4.0f);
    const auto expected = Evaluate(TestContext(GetParam()), alone, 1, length, 1, logarithm);
    for (int64_t rows = 1; rows <= 64; ++rows) {
      for (int threads : {1, 2, 3, 4}) {
        auto x = random.Normal(rows * length);
        for (size_t i = 0; i < x.size(); i += 5) x[i] = i % 2 ? kNan : kInfinity;
        const int64_t row = random.Integer(0, rows - 1);
        std::copy(alone.begin(), alone.end(), x.begin() + row * length);
        const auto y = Evaluate(TestContext(GetParam(), threads), x, rows, length, 1, logarithm);
        EXPECT_TRUE(SameBits(expected, std::span(y).subspan(row * length, length)));
      }
    }
  }
}

TEST_P(SoftmaxTest, AnAxisInTheMiddleGivesTheBitsOfTheLastOne) {
  Random random(3);
  const TestContext context(GetParam());
  const int64_t length = 130, inner = 9;
  const auto x = random.Normal(length * inner);
  const auto y = Evaluate(context, x, 1, length, inner, false);
  for (int64_t j = 0; j < inner; ++j) {
    std::vector<float> row(length), column(length);
    for (int64_t i = 0; i < length; ++i) {
      row[i] = x[i * inner + j];
      column[i] = y[i * inner + j];
    }
    EXPECT_TRUE(SameBits(Evaluate(context, row, 1, length, 1, false), column));
  }
}

TEST_P(SoftmaxTest, IsCloseToFloat64) {
  Random random(4);
  const TestContext context(GetParam());
  const int64_t length = 2000;
  const auto x = random.Normal(length, 5.0f);
  const auto y = Evaluate(context, x, 1, length, 1, false);
  const auto log_y = Evaluate(context, x, 1, length, 1, true);
  double max = -1e30, sum = 0;
  for (float v : x) max = std::max(max, static_cast<double>(v));
  for (float v : x) sum += std::exp(v - max);
  for (int64_t i = 0; i < length; ++i) {
    const double expected = std::exp(x[i] - max) / sum;
    EXPECT_NEAR(y[i], expected, 4e-6 * expected + 1e-38);
    EXPECT_NEAR(log_y[i], x[i] - max - std::log(sum), 4e-6);
  }
  AddCompared(2 * length);
}

TEST_P(SoftmaxTest, NanAndInfinityGiveWhatTheDefinitionSays) {
  const TestContext context(GetParam());
  for (bool logarithm : {false, true}) {
    for (std::vector<float> x : {std::vector<float>{1, kNan, 2},
                                 {kInfinity, 1, 2},
                                 {-kInfinity, -kInfinity, -kInfinity}}) {
      const auto y = Evaluate(context, x, 1, 3, 1, logarithm);
      EXPECT_TRUE(SameBits(std::vector<float>(3, kNan), y));
    }
  }
  const std::vector<float> x = {-kInfinity, 0.0f};
  EXPECT_TRUE(SameBits(std::vector<float>{0.0f, 1.0f}, Evaluate(context, x, 1, 2, 1, false)));
}

TEST_P(SoftmaxTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  EXPECT_EQ(SoftmaxF32(context, {1, 2, 1, nullptr, nullptr}).code, StatusCode::kInvalidArgument);
  EXPECT_EQ(SoftmaxF32(context, {-1, 2, 1, nullptr, nullptr}).code, StatusCode::kInvalidArgument);
  EXPECT_TRUE(SoftmaxF32(context, {0, 2, 1, nullptr, nullptr}).ok());
  AddCompared(3);
}

BI_INSTANTIATE_INSTRUCTION_SETS(SoftmaxTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
