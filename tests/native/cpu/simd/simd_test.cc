// Every operation of the SIMD layer gives the bits of plain C++ on every instruction set, and the
// elementary functions are as accurate as they claim.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "cpu/simd/probe.h"
#include "cpu/support/support.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::bit_cast<float>(0x7fc00000u);

// Results that are NaN are compared after Canonical, which is how kernels store them.
std::vector<float> CanonicalValues(std::vector<float> values) {
  for (float& value : values) value = std::isnan(value) ? kNan : value;
  return values;
}

const SimdProbe& Scalar() { return *FindKernels(SimdProbeTable(), InstructionSet::kScalar); }

// Every kind of float: evenly spaced bit patterns, then values where rules change. A multiple
// of 16.
std::vector<float> AllKinds(uint32_t step) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += step) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (float x :
       {0.0f,    -0.0f,    kInfinity, -kInfinity, kNan,     0.5f,       1.5f,       2.5f,
        -0.5f,   -1.5f,    0.625f,    0.92f,      4.0f,     88.7f,      88.8f,      89.0f,
        -87.4f,  -103.9f,  -104.0f,   -104.1f,    128.0f,   -126.0f,    -149.0f,    -150.0f,
        -151.0f, 65504.0f, 65520.0f,  0x1p-24f,   0x1p-25f, 0x1.8p-25f, 8388607.5f, 8388609.0f}) {
    values.push_back(x);
    values.push_back(-x);
  }
  while (values.size() % 16 != 0) values.push_back(1.0f);
  return values;
}

std::vector<float> Map(SimdProbe::Unary function, const std::vector<float>& x) {
  std::vector<float> y = Poisoned(x.size());
  for (size_t i = 0; i < x.size(); i += 16) function(&x[i], &y[i]);
  return y;
}

std::vector<float> Map(SimdProbe::Binary function, const std::vector<float>& a,
                       const std::vector<float>& b) {
  std::vector<float> y = Poisoned(a.size());
  for (size_t i = 0; i < a.size(); i += 16) function(&a[i], &b[i], &y[i]);
  return y;
}

class SimdTest : public InstructionSetTest {
 protected:
  void SetUp() override {
    InstructionSetTest::SetUp();
    probe_ = FindKernels(SimdProbeTable(), GetParam());
    ASSERT_NE(probe_, nullptr);
  }
  const SimdProbe& probe() const { return *probe_; }

 private:
  const SimdProbe* probe_ = nullptr;
};

TEST_P(SimdTest, UnaryOperationsMatchScalar) {
  const std::vector<float> x = AllKinds(4099);
  for (auto member : {&SimdProbe::exp, &SimdProbe::exp2, &SimdProbe::sigmoid, &SimdProbe::tanh,
                      &SimdProbe::erf, &SimdProbe::round_nearest_even, &SimdProbe::sqrt}) {
    EXPECT_TRUE(SameBits(CanonicalValues(Map(Scalar().*member, x)),
                         CanonicalValues(Map(probe().*member, x))));
  }
  // Canonical itself must give the one NaN.
  EXPECT_TRUE(SameBits(CanonicalValues(x), Map(probe().canonical, x)));
  std::vector<float> signs(x.size());
  std::transform(x.begin(), x.end(), signs.begin(),
                 [](float value) { return std::signbit(value) ? 1.0f : 0.0f; });
  EXPECT_TRUE(SameBits(signs, Map(probe().is_negative, x)));
  std::vector<float> in_range = x;
  for (float& value : in_range) value = std::abs(value) < 2147483520.0f ? value : 7.5f;
  EXPECT_TRUE(
      SameBits(Map(Scalar().to_i32_and_back, in_range), Map(probe().to_i32_and_back, in_range)));
}

TEST_P(SimdTest, BinaryOperationsMatchScalar) {
  const std::vector<float> a = AllKinds(40009);
  std::vector<float> b = a;
  std::shuffle(b.begin(), b.end(), std::mt19937(1));
  std::copy(a.begin(), a.begin() + 4096, b.begin());  // equal pairs too
  for (auto member : {&SimdProbe::add, &SimdProbe::sub, &SimdProbe::mul, &SimdProbe::div,
                      &SimdProbe::max, &SimdProbe::min, &SimdProbe::less, &SimdProbe::less_equal,
                      &SimdProbe::equal, &SimdProbe::copy_sign}) {
    EXPECT_TRUE(SameBits(CanonicalValues(Map(Scalar().*member, a, b)),
                         CanonicalValues(Map(probe().*member, a, b))));
  }
  // Max returns its second operand for NaN and for zeros.
  const std::vector<float> first(16, kNan), second(16, 1.0f), zero(16, 0.0f), minus(16, -0.0f);
  EXPECT_TRUE(SameBits(second, Map(probe().max, first, second)));
  EXPECT_TRUE(SameBits(second, Map(probe().min, first, second)));
  EXPECT_TRUE(SameBits(minus, Map(probe().max, zero, minus)));
  EXPECT_TRUE(SameBits(zero, Map(probe().min, minus, zero)));
}

TEST_P(SimdTest, FmaRoundsOnce) {
  Random random(2);
  std::vector<float> expected, actual;
  for (int round = 0; round < 2000; ++round) {
    const auto a = random.Normal(16), b = random.Normal(16);
    auto c = random.Normal(16, 1e-6f);
    for (int i = 0; i < 8; ++i) c[i] = -a[i] * b[i];  // what is left is the rounding error
    std::vector<float> y = Poisoned(16);
    probe().fma(a.data(), b.data(), c.data(), y.data());
    actual.insert(actual.end(), y.begin(), y.end());
    for (int i = 0; i < 16; ++i) expected.push_back(std::fma(a[i], b[i], c[i]));
  }
  EXPECT_TRUE(SameBits(expected, actual));
}

TEST_P(SimdTest, ReductionsAndTransposeMatchScalar) {
  Random random(3);
  std::vector<float> expected, actual;
  for (int round = 0; round < 500; ++round) {
    auto x = random.Normal(16);
    if (round % 5 == 0) x[random.Integer(0, 15)] = kNan;
    if (round % 7 == 0) x.assign(16, -0.0f), x[random.Integer(0, 15)] = round % 2 ? 0.0f : -1.0f;
    if (round % 11 == 0) x[random.Integer(0, 15)] = -kInfinity;
    expected.push_back(Scalar().reduce_add(x.data()));
    actual.push_back(probe().reduce_add(x.data()));
    expected.push_back(Scalar().reduce_max(x.data()));
    actual.push_back(probe().reduce_max(x.data()));
    float largest = x[0];
    for (float value : x) largest = std::isnan(value) || value > largest ? value : largest;
    if (largest != 0.0f && !std::isnan(largest)) {
      EXPECT_EQ(expected.back(), largest);
    }
  }
  EXPECT_TRUE(SameBits(CanonicalValues(expected), CanonicalValues(actual)));

  const auto matrix = random.Normal(256);
  std::vector<float> transposed(256), y = Poisoned(256);
  for (int i = 0; i < 256; ++i) transposed[i % 16 * 16 + i / 16] = matrix[i];
  probe().transpose(matrix.data(), y.data());
  EXPECT_TRUE(SameBits(transposed, y));
}

TEST_P(SimdTest, PartialLoadsAndStoresStayInside) {
  Random random(4);
  for (int count = 0; count <= 16; ++count) {
    const auto x = random.Normal(16);
    std::vector<float> exact(x.begin(), x.begin() + count);  // a sanitizer sees reads beyond
    std::vector<float> y = Poisoned(16), expected = Poisoned(16);
    std::copy(exact.begin(), exact.end(), expected.begin());
    probe().copy_partial(exact.data(), y.data(), count);
    EXPECT_TRUE(SameBits(expected, y));
    std::fill(expected.begin() + count, expected.end(), 0.0f);
    probe().load_partial(exact.data(), y.data(), count);
    EXPECT_TRUE(SameBits(expected, y));
  }
}

TEST_P(SimdTest, SixteenBitFloatsMatchScalar) {
  std::vector<uint16_t> halves(1 << 16);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  const std::vector<float> x = AllKinds(4099);
  for (auto [load, store] : {std::pair{&SimdProbe::load_f16, &SimdProbe::store_f16},
                             std::pair{&SimdProbe::load_bf16, &SimdProbe::store_bf16}}) {
    std::vector<float> expected = Poisoned(halves.size()), actual = Poisoned(halves.size());
    std::vector<uint16_t> back(halves.size());
    for (size_t i = 0; i < halves.size(); i += 16) {
      (Scalar().*load)(&halves[i], &expected[i]);
      (probe().*load)(&halves[i], &actual[i]);
      (probe().*store)(&actual[i], &back[i]);
    }
    EXPECT_TRUE(SameBits(expected, actual));
    for (size_t i = 0; i < back.size(); ++i) {
      if (!std::isnan(actual[i])) {
        EXPECT_EQ(back[i], halves[i]);
      }
    }
    std::vector<uint16_t> stored(x.size()), stored_scalar(x.size());
    for (size_t i = 0; i < x.size(); i += 16) {
      (Scalar().*store)(&x[i], &stored_scalar[i]);
      (probe().*store)(&x[i], &stored[i]);
    }
    EXPECT_TRUE(SameBits(stored_scalar, stored));
  }
}

TEST_P(SimdTest, IntegersMatchScalar) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> a(16), b(16), expected(160), actual(160);
    for (int i = 0; i < 16; ++i) {
      a[i] = static_cast<int32_t>(random.Integer(INT32_MIN, INT32_MAX));
      b[i] = i % 4 == 0 ? a[i] : static_cast<int32_t>(random.Integer(INT32_MIN, INT32_MAX));
    }
    Scalar().integers(a.data(), b.data(), expected.data());
    probe().integers(a.data(), b.data(), actual.data());
    EXPECT_EQ(expected, actual);
    const auto bytes = random.Bytes(16);
    std::vector<int32_t> widened(16);
    std::vector<int8_t> narrowed(16);
    probe().load_u8(bytes.data(), widened.data());
    for (int i = 0; i < 16; ++i) EXPECT_EQ(widened[i], bytes[i]);
    for (int i = 0; i < 16; ++i) widened[i] -= 128;
    probe().store_i8(widened.data(), narrowed.data());
    for (int i = 0; i < 16; ++i) EXPECT_EQ(narrowed[i], widened[i]);
    AddCompared(160 + 32);
  }
}

TEST_P(SimdTest, IntegerDotProductsAreExact) {
  Random random(6);
  for (int steps : {1, 3, 4, 8, 9, 32, 64}) {
    for (int kind = 0; kind < 4; ++kind) {  // random, then the extremes that could saturate
      std::vector<uint8_t> u = random.Bytes(64 * steps), u4(64 * steps);
      std::vector<int8_t> s(64 * steps);
      for (int i = 0; i < 64 * steps; ++i) {
        if (kind != 0) u[i] = kind == 3 ? 0 : 255;
        u4[i] = u[i] & 15;
        s[i] = static_cast<int8_t>(kind == 0 ? random.Integer(-127, 127) : kind == 1 ? 127 : -127);
      }
      std::vector<int32_t> expected(16, 0), expected4(16, 0), actual(16), actual4(16);
      for (int i = 0; i < 64 * steps; ++i) {
        expected[i % 64 / 4] += u[i] * s[i];
        expected4[i % 64 / 4] += u4[i] * s[i];
      }
      probe().dot_u8(u.data(), s.data(), steps, actual.data());
      probe().dot_u4(u4.data(), s.data(), steps, actual4.data());
      EXPECT_EQ(expected, actual);
      EXPECT_EQ(expected4, actual4);
      AddCompared(32);
    }
  }
}

// Largest error against float64, in units of the last place of the exact result.
template <typename Exact>
double LargestUlps(SimdProbe::Unary function, const std::vector<float>& x, Exact exact) {
  const std::vector<float> y = Map(function, x);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(y[i]));
      continue;
    }
    const double want = exact(static_cast<double>(x[i]));
    const float rounded = static_cast<float>(want);
    if (std::isinf(rounded)) {
      EXPECT_EQ(y[i], rounded) << "at " << x[i];
      continue;
    }
    // The last place of a zero or subnormal result is that of the smallest subnormal.
    const double ulp =
        std::abs(rounded) < 0x1p-126f ? 0x1p-149 : std::ldexp(1.0, std::ilogb(rounded) - 23);
    const double error = std::abs(y[i] - want) / ulp;
    if (!(error <= largest)) largest = error;
  }
  AddCompared(static_cast<int64_t>(x.size()));
  return largest;
}

TEST_P(SimdTest, FunctionsAreAccurate) {
  const std::vector<float> x = AllKinds(1021);
  const auto check = [&](const char* name, SimdProbe::Unary function, auto exact, double limit) {
    const double ulps = LargestUlps(function, x, exact);
    std::cout << "             " << name << ": at most " << ulps << " ulp\n";
    EXPECT_LE(ulps, limit) << name;
  };
  check(
      "exp", probe().exp, [](double v) { return std::exp(v); }, 1.01);
  check(
      "exp2", probe().exp2, [](double v) { return std::exp2(v); }, 1.01);
  check(
      "sigmoid", probe().sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); }, 2.5);
  check(
      "tanh", probe().tanh, [](double v) { return std::tanh(v); }, 5.5);
  check(
      "erf", probe().erf, [](double v) { return std::erf(v); }, 1.5);
}

BI_INSTANTIATE_INSTRUCTION_SETS(SimdTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
