// Pow: accuracy against long double, IEEE 754's special cases, whole numbers, broadcasting; the
// same bits on every instruction set, over places, neighbours and threads.
#include "batch_invariant/cpu/pow.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/support/support.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <typename T>
NumberType TypeOf() {
  if constexpr (std::is_same_v<T, float>) return NumberType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return NumberType::kFloat64;
  if constexpr (std::is_same_v<T, int32_t>) return NumberType::kInt32;
  return NumberType::kInt64;
}

// Element by element, or with one exponent for all.
template <typename Base, typename Exponent>
std::vector<Base> Evaluate(const Context& context, std::span<const Base> base,
                           std::span<const Exponent> exponent) {
  const int64_t count = static_cast<int64_t>(base.size());
  std::vector<Base> y(base.size());
  std::memset(static_cast<void*>(y.data()), 0xfb, y.size() * sizeof(Base));
  const std::vector<int64_t> shape = {count}, run = {1}, one = {0};
  PowArgs args;
  args.shape = shape;
  args.base_type = TypeOf<Base>();
  args.base = base.data();
  args.base_strides = run;
  args.exponent_type = TypeOf<Exponent>();
  args.exponent = exponent.data();
  args.exponent_strides = exponent.size() == 1 ? one : run;
  args.y = y.data();
  const Status status = Pow(context, args);
  EXPECT_TRUE(status.ok()) << status.message;
  return y;
}

template <typename T>
bool Same(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

using PowTest = InstructionSetTest;

template <typename T>
void CheckAccuracy(const Context& context, double bound) {
  Random random(1);
  const int digits = std::numeric_limits<T>::digits;
  double worst = 0;
  int64_t compared = 0;
  for (const double spread : {200.0, 4.0, 0.01}) {
    for (const double size : {100.0, 3.0, 0.5}) {
      std::vector<T> base, exponent;
      for (int i = 0; i < 20000; ++i) {
        base.push_back(static_cast<T>(std::exp2(random.Uniform(-0.5f, 0.5f) * spread)));
        exponent.push_back(static_cast<T>(random.Uniform(-1.0f, 1.0f) * size));
      }
      const auto y = Evaluate<T, T>(context, base, exponent);
      for (size_t i = 0; i < y.size(); ++i) {
        const long double exact = powl(base[i], exponent[i]);
        const T rounded = static_cast<T>(exact);
        ++compared;
        if (rounded == y[i]) continue;
        if (exact < std::numeric_limits<T>::min() || std::isinf(rounded)) {
          EXPECT_LE(std::fabs(y[i] - rounded), std::numeric_limits<T>::denorm_min());
          continue;
        }
        const long double ulp = ldexpl(1.0L, ilogbl(exact) - digits + 1);
        worst = std::max(worst, static_cast<double>(fabsl((y[i] - exact) / ulp)));
      }
    }
  }
  EXPECT_LT(worst, bound);
  EXPECT_GT(compared, 100000);
  std::printf("             worst error %.4f ulp\n", worst);
  AddCompared(compared);
}

TEST_P(PowTest, IsCloseToLongDouble) {
  const TestContext context(GetParam(), 3);
  CheckAccuracy<float>(context, 0.501);
  CheckAccuracy<double>(context, 0.7);
}

TEST_P(PowTest, SquareIsTheRoundedProduct) {
  const TestContext context(GetParam());
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 40009) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  std::vector<float> expected;
  for (const float v : x) expected.push_back(v == v ? v * v : static_cast<float>(kNan));
  EXPECT_TRUE(SameBits(expected, Evaluate<float, float>(context, x, std::vector<float>{2.0f})));
  const std::vector<float> twos(x.size(), 2.0f);
  EXPECT_TRUE(SameBits(expected, Evaluate<float, float>(context, x, twos)));
  EXPECT_TRUE(SameBits(expected, Evaluate<float, int64_t>(context, x, std::vector<int64_t>{2})));
}

// What std::pow gives for these is fixed by IEEE 754.
TEST_P(PowTest, SpecialCases) {
  const TestContext context(GetParam());
  const double values[] = {
      0.0,  -0.0,   1.0,     -1.0,       2.0,
      -2.0, 3.0,    -3.0,    0.5,        -0.5,
      2.5,  1e300,  1e-300,  kInfinity,  -kInfinity,
      kNan, 0x1p53, -0x1p52, 0x1p53 + 2, std::numeric_limits<double>::denorm_min()};
  for (const double x : values) {
    for (const double y : values) {
      const double expected = std::pow(x, y);
      const double got =
          Evaluate<double, double>(context, std::vector<double>{x}, std::vector<double>{y})[0];
      const bool exact = expected == 0 || std::isinf(expected) || std::fabs(expected) == 1;
      EXPECT_TRUE(std::isnan(expected) ? Same(got, kNan)
                  : exact              ? Same(got, expected)
                                       : std::fabs(got - expected) <= 3e-16 * std::fabs(expected))
          << x << "^" << y << " = " << got << ", std::pow: " << expected;
      AddCompared(1);
    }
  }
}

TEST_P(PowTest, WholeNumbersAreExactAndWrap) {
  const TestContext context(GetParam());
  for (int64_t x = -9; x <= 9; ++x) {
    for (int64_t y = -3; y <= 40; ++y) {
      uint64_t exact = 1;
      for (int64_t i = 0; i < y; ++i) exact *= static_cast<uint64_t>(x);
      if (y < 0) exact = x == 1 || (x == -1 && y % 2 == 0) ? 1 : x == -1 ? ~uint64_t{0} : 0;
      const auto wide =
          Evaluate<int64_t, int64_t>(context, std::vector<int64_t>{x}, std::vector<int64_t>{y});
      EXPECT_EQ(wide[0], static_cast<int64_t>(exact)) << x << "^" << y;
      const auto narrow =
          Evaluate<int32_t, float>(context, std::vector<int32_t>{static_cast<int32_t>(x)},
                                   std::vector<float>{static_cast<float>(y)});
      EXPECT_EQ(narrow[0], static_cast<int32_t>(exact)) << x << "^" << y;
      AddCompared(2);
    }
  }
  const auto fraction = [&](int32_t x, double y) {
    return Evaluate<int32_t, double>(context, std::vector<int32_t>{x}, std::vector<double>{y})[0];
  };
  EXPECT_EQ(fraction(10, 0.5), 3);
  EXPECT_EQ(fraction(7, 40.5), std::numeric_limits<int32_t>::max());
  EXPECT_EQ(fraction(-2, 0.5), 0);
  EXPECT_EQ(fraction(2, -kInfinity), 0);
}

TEST_P(PowTest, AnElementDoesNotSeeItsPlace) {
  Random random(2);
  const auto of_both_signs = random.Normal(9000, 3.0f);
  std::vector<float> x(of_both_signs.size());
  for (const float exponent : {2.0f, 3.0f, -8.0f, 0.5f, -0.5f, 2.7f, 0.0f, 900.0f, -1e30f}) {
    // Negative numbers have no power but to whole numbers.
    std::transform(of_both_signs.begin(), of_both_signs.end(), x.begin(), [&](float value) {
      return exponent == std::floor(exponent) ? value : std::abs(value);
    });
    x[17] = static_cast<float>(kNan);
    x[2000] = -1.5f;
    x[3000] = 1e-41f;
    x[3001] = -0.0f;
    x[4000] = static_cast<float>(kInfinity);
    const std::vector<float> one = {exponent}, each(x.size(), exponent);
    const auto whole = Evaluate<float, float>(TestContext(GetParam(), 1), x, one);
    EXPECT_TRUE(SameBits(whole, Evaluate<float, float>(TestContext(GetParam(), 4), x, one)));
    EXPECT_TRUE(SameBits(whole, Evaluate<float, float>(TestContext(GetParam(), 3), x, each)));
    for (size_t begin = 0; begin < 40; ++begin) {
      for (size_t length = 1; length < 40; ++length) {
        EXPECT_TRUE(SameBits(
            std::span(whole).subspan(begin, length),
            Evaluate<float, float>(TestContext(GetParam()),
                                   std::span<const float>(x).subspan(begin, length), one)));
      }
    }
  }
}

// The bytes are part of the contract pow.v1: they hold on every processor and compiler.
TEST_P(PowTest, HasTheBitsOfTheContract) {
  Random random(3);
  std::vector<double> base, exponent;
  for (int i = 0; i < 100000; ++i) {
    const auto scale = static_cast<int>(random.Integer(-60, 0));
    base.push_back(std::ldexp(static_cast<double>(random.Integer(1, 1 << 30)), scale));
    exponent.push_back(static_cast<double>(random.Integer(-(1 << 20), 1 << 20)) / (1 << 15));
  }
  uint64_t digest = 14695981039346656037u;
  const auto add = [&](uint64_t bits) { digest = (digest ^ bits) * 1099511628211u; };
  const TestContext context(GetParam(), 2);
  for (const double v : Evaluate<double, double>(context, base, exponent)) {
    add(std::bit_cast<uint64_t>(v));
  }
  const std::vector<float> narrow(base.begin(), base.end());
  for (const float v : Evaluate<float, double>(context, narrow, exponent)) {
    add(std::bit_cast<uint32_t>(v));
  }
  EXPECT_EQ(digest, 0x5e17f547147c15cfu);
  AddCompared(200000);
}

TEST_P(PowTest, Broadcasts) {
  Random random(4);
  const std::vector<int64_t> shape = {3, 5, 70}, full = {350, 70, 1};
  const auto base = random.Normal(1050, 2.0f), exponent = random.Normal(1050, 2.0f);
  for (const std::vector<int64_t>& strides :
       {full, {0, 0, 1}, {0, 0, 0}, {70, 0, 1}, {5, 1, 0}, {1, 3, 15}}) {
    std::vector<float> spread(1050), y = Poisoned(1050);
    for (int64_t i = 0; i < 1050; ++i) {
      const int64_t at = i / 350 * strides[0] + i / 70 % 5 * strides[1] + i % 70 * strides[2];
      spread[static_cast<size_t>(i)] = exponent[static_cast<size_t>(at)];
    }
    PowArgs args;
    args.shape = shape;
    args.base = base.data();
    args.base_strides = full;
    args.exponent = exponent.data();
    args.exponent_strides = strides;
    args.y = y.data();
    ASSERT_TRUE(Pow(TestContext(GetParam(), 3), args).ok());
    EXPECT_TRUE(SameBits(Evaluate<float, float>(TestContext(GetParam()), base, spread), y));
  }
}

TEST_P(PowTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  const std::vector<int64_t> shape = {2}, strides = {1}, none;
  const std::vector<float> x = {1, 2};
  std::vector<float> y(2);
  PowArgs args;
  args.shape = shape;
  args.base = x.data();
  args.base_strides = strides;
  args.exponent = x.data();
  args.exponent_strides = none;
  args.y = y.data();
  EXPECT_FALSE(Pow(context, args).ok());
  args.exponent_strides = strides;
  args.exponent = nullptr;
  EXPECT_FALSE(Pow(context, args).ok());
  AddCompared(2);
}

BI_INSTANTIATE_INSTRUCTION_SETS(PowTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
