// The norms: bits of the plain loops on every instruction set, whatever stands beside a row, and
// close to float64.
#include "batch_invariant/cpu/norm.h"

#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/reference/norm.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Kind { kRms, kLayer };

struct Outputs {
  std::vector<float> y, mean, inv_std, sum;
};

// Which optional operands a case has.
struct Options {
  bool skip = false;
  bool bias = false;
  bool gamma = true;
  bool beta = false;
  int64_t skip_rows = 0;  // 0: as many as the input
};

struct Case {
  Kind kind;
  int64_t rows, width;
  Options options;
  std::vector<float> x, skip, bias, gamma, beta;

  Case(Kind kind, int64_t rows, int64_t width, Options options, Random& random)
      : kind(kind), rows(rows), width(width), options(options) {
    const int64_t skip_rows = options.skip_rows != 0 ? options.skip_rows : rows;
    x = random.Normal(rows * width, 3.0f);
    skip = random.Normal(skip_rows * width);
    bias = random.Normal(width);
    gamma = random.Normal(width);
    beta = random.Normal(width);
  }

  NormArgs Args(Outputs& out) const {
    out.y = Poisoned(rows * width);
    out.sum = Poisoned(rows * width);
    out.mean = Poisoned(rows);
    out.inv_std = Poisoned(rows);
    NormArgs args;
    args.rows = rows;
    args.width = width;
    args.x = x.data();
    if (options.skip) {
      args.skip = skip.data();
      args.skip_rows = options.skip_rows != 0 ? options.skip_rows : rows;
    }
    if (options.bias) args.bias = bias.data();
    if (options.gamma) args.gamma = gamma.data();
    if (options.beta) args.beta = beta.data();
    args.y = out.y.data();
    args.sum = out.sum.data();
    args.mean = out.mean.data();
    args.inv_std = out.inv_std.data();
    return args;
  }

  Outputs Run(const Context& context, bool only_y = false) const {
    Outputs out;
    NormArgs args = Args(out);
    if (only_y) args.sum = args.mean = args.inv_std = nullptr;
    const Status status =
        kind == Kind::kRms ? RmsNormF32(context, args) : LayerNormF32(context, args);
    EXPECT_TRUE(status.ok()) << status.message;
    return out;
  }

  Outputs Reference() const {
    Outputs out;
    const NormArgs args = Args(out);
    kind == Kind::kRms ? reference::RmsNorm(args) : reference::LayerNorm(args);
    for (auto* values : {&out.y, &out.mean, &out.inv_std, &out.sum}) {
      for (float& value : *values) value = std::isnan(value) ? kNan : value;
    }
    return out;
  }
};

void ExpectSame(const Outputs& expected, const Outputs& actual) {
  EXPECT_TRUE(SameBits(expected.y, actual.y));
  EXPECT_TRUE(SameBits(expected.sum, actual.sum));
  EXPECT_TRUE(SameBits(expected.mean, actual.mean));
  EXPECT_TRUE(SameBits(expected.inv_std, actual.inv_std));
}

const std::vector<Options>& AllOptions() {
  static const std::vector<Options> options = {{},
                                               {.skip = true},
                                               {.bias = true},
                                               {.skip = true, .bias = true},
                                               {.gamma = false},
                                               {.beta = true},
                                               {.skip = true, .bias = true, .beta = true},
                                               {.gamma = false, .beta = true}};
  return options;
}

using NormTest = InstructionSetTest;

TEST_P(NormTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  const TestContext context(GetParam());
  for (Kind kind : {Kind::kRms, Kind::kLayer}) {
    for (int64_t width : {1, 2, 15, 16, 17, 63, 64, 65, 100, 128, 192, 255, 512, 1000, 4096}) {
      for (const Options& options : AllOptions()) {
        const Case one(kind, 3, width, options, random);
        const Outputs expected = one.Reference();
        ExpectSame(expected, one.Run(context));
        EXPECT_TRUE(SameBits(expected.y, one.Run(context, true).y));
      }
    }
  }
}

TEST_P(NormTest, RowsDoNotSeeTheirNumberPositionOrNeighbours) {
  Random random(2);
  for (Kind kind : {Kind::kRms, Kind::kLayer}) {
    const int64_t width = 321;
    const Options options{.skip = true, .bias = true, .beta = kind == Kind::kLayer};
    Case alone(kind, 1, width, options, random);
    const Outputs expected = alone.Run(TestContext(GetParam()));
    for (int64_t rows = 1; rows <= 64; ++rows) {
      for (int threads : {1, 2, 3, 4}) {
        Case many = Case(kind, rows, width, options, random);
        many.bias = alone.bias;
        many.gamma = alone.gamma;
        many.beta = alone.beta;
        for (size_t i = 0; i < many.x.size(); i += 7) many.x[i] = i % 2 ? kNan : kInfinity;
        const int64_t row = random.Integer(0, rows - 1);
        std::copy(alone.x.begin(), alone.x.end(), many.x.begin() + row * width);
        std::copy(alone.skip.begin(), alone.skip.end(), many.skip.begin() + row * width);
        const Outputs out = many.Run(TestContext(GetParam(), threads));
        EXPECT_TRUE(SameBits(expected.y, std::span(out.y).subspan(row * width, width)));
        EXPECT_TRUE(SameBits(expected.sum, std::span(out.sum).subspan(row * width, width)));
        EXPECT_TRUE(SameBits(expected.inv_std, std::span(out.inv_std).subspan(row, 1)));
        EXPECT_TRUE(SameBits(expected.mean, std::span(out.mean).subspan(row, 1)));
      }
    }
  }
}

TEST_P(NormTest, IsCloseToFloat64) {
  Random random(3);
  const TestContext context(GetParam());
  for (Kind kind : {Kind::kRms, Kind::kLayer}) {
    for (int64_t width : {64, 1000, 4096}) {
      const Case one(kind, 4, width, {.skip = true, .beta = kind == Kind::kLayer}, random);
      const Outputs out = one.Run(context);
      for (int64_t r = 0; r < one.rows; ++r) {
        std::vector<double> s(width);
        double mean = 0, square = 0;
        for (int64_t i = 0; i < width; ++i) {
          s[i] = static_cast<double>(one.x[r * width + i]) + one.skip[r * width + i];
          mean += s[i] / static_cast<double>(width);
        }
        if (kind == Kind::kRms) mean = 0;
        for (double v : s) square += (v - mean) * (v - mean) / static_cast<double>(width);
        const double inv = 1.0 / std::sqrt(square + 1e-5);
        for (int64_t i = 0; i < width; ++i) {
          const double beta = kind == Kind::kLayer ? one.beta[i] : 0.0;
          const double expected = (s[i] - mean) * inv * one.gamma[i] + beta;
          EXPECT_NEAR(out.y[r * width + i], expected, 4e-6 * std::max(1.0, std::fabs(expected)));
        }
        AddCompared(width);
      }
    }
  }
}

TEST_P(NormTest, BroadcastsSkip) {
  Random random(4);
  const TestContext context(GetParam());
  const Case one(Kind::kLayer, 6, 40, {.skip = true, .skip_rows = 3}, random);
  ExpectSame(one.Reference(), one.Run(context));
  const Case single(Kind::kLayer, 6, 40, {.skip = true, .skip_rows = 1}, random);
  ExpectSame(single.Reference(), single.Run(context));
}

TEST_P(NormTest, WorksInPlace) {
  Random random(5);
  const TestContext context(GetParam());
  const Case one(Kind::kRms, 5, 77, {.skip = true}, random);
  const Outputs expected = one.Reference();
  std::vector<float> x = one.x, skip = one.skip;
  Outputs out;
  NormArgs args = one.Args(out);
  args.x = args.y = x.data();
  args.skip = args.sum = skip.data();
  ASSERT_TRUE(RmsNormF32(context, args).ok());
  EXPECT_TRUE(SameBits(expected.y, x));
  EXPECT_TRUE(SameBits(expected.sum, skip));
}

TEST_P(NormTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  std::vector<float> data(32);
  NormArgs args;
  args.rows = 2;
  args.width = 16;
  EXPECT_EQ(RmsNormF32(context, args).code, StatusCode::kInvalidArgument);
  args.x = args.y = data.data();
  args.skip = data.data();
  args.skip_rows = 3;
  EXPECT_EQ(RmsNormF32(context, args).code, StatusCode::kInvalidArgument);
  args.rows = -1;
  EXPECT_EQ(LayerNormF32(context, args).code, StatusCode::kInvalidArgument);
  AddCompared(3);
}

// Another order of additions is noticed.
TEST(NormTestItself, NoticesAPlainRunningSum) {
  Random random(6);
  int64_t different = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const std::vector<float> x = random.Normal(512);
    float running = 0.0f;
    for (float v : x) running = std::fma(v, v, running);
    different += running != reference::TreeSumSquare(x.data(), 512);
  }
  EXPECT_GT(different, 50);
}

BI_INSTANTIATE_INSTRUCTION_SETS(NormTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
