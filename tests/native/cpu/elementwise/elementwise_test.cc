// Elementwise ops: bits of the plain loops for every kind of float, in every place of a run, on
// every instruction set; accuracy against float64; broadcasting.
#include "batch_invariant/cpu/elementwise.h"

#include <bit>
#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/reference/elementwise.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr UnaryOp kOps[] = {UnaryOp::kSigmoid, UnaryOp::kTanh,     UnaryOp::kErf,
                            UnaryOp::kExp,     UnaryOp::kGelu,     UnaryOp::kGeluTanh,
                            UnaryOp::kSilu,    UnaryOp::kQuickGelu};

float Canonical(float value) { return std::isnan(value) ? kNan : value; }

std::vector<float> Evaluate(const Context& context, UnaryOp op, std::span<const float> x,
                            int64_t rows = 1, const float* bias = nullptr) {
  std::vector<float> y = Poisoned(x.size());
  UnaryArgs args;
  args.op = op;
  args.rows = rows;
  args.width = static_cast<int64_t>(x.size()) / rows;
  args.x = x.data();
  args.bias = bias;
  args.y = y.data();
  const Status status = UnaryF32(context, args);
  EXPECT_TRUE(status.ok()) << status.message;
  return y;
}

std::vector<float> Reference(UnaryOp op, std::span<const float> x) {
  std::vector<float> y;
  for (float v : x) y.push_back(Canonical(reference::Unary(op, v, UnaryArgs{}.alpha)));
  return y;
}

std::vector<float> AllKinds() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 40009) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (float v :
       {0.0f, -0.0f, kInfinity, -kInfinity, kNan, 0.625f, 0.92f, 4.0f, 88.7f, 89.0f, 104.0f}) {
    x.push_back(v);
    x.push_back(-v);
  }
  return x;
}

double Exact(UnaryOp op, double x) {
  switch (op) {
    case UnaryOp::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case UnaryOp::kTanh:
      return std::tanh(x);
    case UnaryOp::kErf:
      return std::erf(x);
    case UnaryOp::kExp:
      return std::exp(x);
    case UnaryOp::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case UnaryOp::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UnaryOp::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case UnaryOp::kSilu:
      return x / (1 + std::exp(-x));
  }
  return 0;
}

using ElementwiseTest = InstructionSetTest;

TEST_P(ElementwiseTest, HasTheBitsOfThePlainLoopsForEveryKindOfFloat) {
  const auto x = AllKinds();
  for (UnaryOp op : kOps) {
    EXPECT_TRUE(SameBits(Reference(op, x), Evaluate(TestContext(GetParam(), 3), op, x)));
  }
}

TEST_P(ElementwiseTest, AnElementDoesNotSeeItsPlace) {
  Random random(1);
  const TestContext context(GetParam());
  const auto x = random.Normal(200, 3.0f);
  for (UnaryOp op : kOps) {
    const auto whole = Evaluate(context, op, x);
    for (size_t begin = 0; begin < 33; ++begin) {
      for (size_t length = 1; length <= 64; ++length) {
        const auto part = Evaluate(context, op, std::span(x).subspan(begin, length));
        EXPECT_TRUE(SameBits(std::span(whole).subspan(begin, length), part));
      }
    }
  }
}

TEST_P(ElementwiseTest, IsCloseToFloat64) {
  const TestContext context(GetParam());
  std::vector<float> x;
  for (float v = -12.0f; v < 12.0f; v += 0.00137f) x.push_back(v);
  for (UnaryOp op : kOps) {
    const auto y = Evaluate(context, op, x);
    // 1 + tanh cancels on the negative side, and the factor x/2 makes the rest larger.
    const double bound = op == UnaryOp::kGeluTanh ? 8e-7 : 4e-7;
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = Exact(op, x[i]);
      EXPECT_NEAR(y[i], expected, bound * std::max(std::fabs(expected), 1.0)) << x[i];
    }
    AddCompared(static_cast<int64_t>(x.size()));
  }
}

TEST_P(ElementwiseTest, AddsABiasFirst) {
  Random random(2);
  for (int threads : {1, 4}) {
    for (int64_t width : {1, 16, 37, 600}) {
      const auto x = random.Normal(5 * width), bias = random.Normal(width);
      std::vector<float> sum;
      for (size_t i = 0; i < x.size(); ++i) sum.push_back(x[i] + bias[i % width]);
      for (UnaryOp op : {UnaryOp::kGelu, UnaryOp::kGeluTanh}) {
        EXPECT_TRUE(SameBits(Reference(op, sum),
                             Evaluate(TestContext(GetParam(), threads), op, x, 5, bias.data())));
      }
    }
  }
}

// Every fp16 value there and back; between two neighbours the even one for the middle, and the
// nearer one beside it.
TEST_P(ElementwiseTest, ConvertsF16) {
  const TestContext context(GetParam(), 3);
  std::vector<uint16_t> halves;
  for (int h = 0; h < 1 << 16; ++h) halves.push_back(static_cast<uint16_t>(h));
  std::vector<float> wide = Poisoned(halves.size());
  ASSERT_TRUE(WidenF16(context, static_cast<int64_t>(wide.size()), halves.data(), wide.data()).ok());
  EXPECT_EQ(wide[0x3c01], 1.0f + 0x1p-10f);
  EXPECT_EQ(wide[0x8001], -0x1p-24f);
  std::vector<float> x;
  std::vector<uint16_t> expected;
  const auto add = [&](float value, int half) {
    x.push_back(value);
    expected.push_back(static_cast<uint16_t>(half));
  };
  for (int h = 0; h < 1 << 16; ++h) add(wide[h], std::isnan(wide[h]) ? 0x7e00 : h);
  for (int sign : {0, 0x8000}) {
    for (int h = sign; h < sign + 0x7bff; ++h) {
      const float middle = 0.5f * (wide[h] + wide[h + 1]);  // exact
      add(middle, h % 2 == 0 ? h : h + 1);
      add(std::nextafterf(middle, wide[h]), h);
      add(std::nextafterf(middle, wide[h + 1]), h + 1);
    }
    const float top = sign == 0 ? 65520.0f : -65520.0f;  // half way from the largest to 2^16
    add(top, sign + 0x7c00);
    add(std::nextafterf(top, 0.0f), sign + 0x7bff);
  }
  for (size_t skip : {0, 1, 7}) {  // short ends of every length
    std::vector<uint16_t> actual(x.size() - skip, 0xffff);
    ASSERT_TRUE(RoundToF16(context, static_cast<int64_t>(actual.size()), x.data() + skip,
                           actual.data())
                    .ok());
    EXPECT_TRUE(SameBits(std::span(expected).subspan(skip), actual));
  }
}

TEST_P(ElementwiseTest, BroadcastsLikeThePlainLoops) {
  Random random(3);
  struct Shapes {
    std::vector<int64_t> shape, a, b;
  };
  const std::vector<Shapes> cases = {
      {{}, {}, {}},
      {{100}, {1}, {1}},
      {{100}, {1}, {0}},
      {{100}, {0}, {1}},
      {{100}, {0}, {0}},
      {{3, 5, 70}, {350, 70, 1}, {0, 0, 1}},
      {{3, 5, 70}, {350, 70, 1}, {350, 70, 1}},
      {{3, 5, 70}, {350, 70, 1}, {70, 0, 1}},
      {{3, 5, 70}, {5, 1, 0}, {350, 70, 1}},
      {{3, 5, 70}, {1, 3, 15}, {350, 70, 1}},
      {{2, 1, 6000}, {6000, 6000, 1}, {0, 0, 1}},
      {{0, 4}, {4, 1}, {4, 1}},
  };
  for (const Shapes& shapes : cases) {
    int64_t count = 1;
    for (int64_t extent : shapes.shape) count *= extent;
    auto a = random.Normal(std::max<int64_t>(count, 1)), b = random.Normal(a.size());
    a[0] = kNan;
    b[b.size() / 2] = kInfinity;
    for (BinaryOp op : {BinaryOp::kAdd, BinaryOp::kSub, BinaryOp::kMul, BinaryOp::kDiv}) {
      std::vector<float> expected(count), y = Poisoned(count);
      BinaryArgs args{op, shapes.shape, a.data(), shapes.a, b.data(), shapes.b, expected.data()};
      reference::BinaryBroadcast(args);
      for (float& value : expected) value = Canonical(value);
      args.y = y.data();
      for (int threads : {1, 3}) {
        ASSERT_TRUE(BinaryF32(TestContext(GetParam(), threads), args).ok());
        EXPECT_TRUE(SameBits(expected, y));
      }
    }
  }
}

TEST_P(ElementwiseTest, SiluTimesUpHasTheBitsOfThreeOps) {
  Random random(4);
  for (int64_t width : {1, 17, 256, 5000}) {
    const auto both = random.Normal(6 * width, 3.0f);  // rows of gate, up
    std::vector<float> gate, up;
    for (int64_t r = 0; r < 3; ++r) {
      gate.insert(gate.end(), both.begin() + 2 * r * width, both.begin() + (2 * r + 1) * width);
      up.insert(up.end(), both.begin() + (2 * r + 1) * width, both.begin() + (2 * r + 2) * width);
    }
    const TestContext context(GetParam(), 2);
    auto expected = Evaluate(context, UnaryOp::kSigmoid, gate);
    for (size_t i = 0; i < gate.size(); ++i) expected[i] = (gate[i] * expected[i]) * up[i];
    auto y = Poisoned(gate.size());
    SiluMulArgs args{3,         width,    both.data(), 2 * width, both.data() + width,
                     2 * width, y.data(), width};
    ASSERT_TRUE(SiluMulF32(context, args).ok());
    EXPECT_TRUE(SameBits(expected, y));
  }
}

TEST_P(ElementwiseTest, RefusesWhatContradictsItself) {
  const TestContext context(GetParam());
  UnaryArgs unary;
  unary.rows = 1;
  unary.width = 4;
  EXPECT_EQ(UnaryF32(context, unary).code, StatusCode::kInvalidArgument);
  const std::vector<int64_t> shape = {2, 3}, strides = {1};
  EXPECT_EQ(
      BinaryF32(context, {BinaryOp::kAdd, shape, nullptr, strides, nullptr, shape, nullptr}).code,
      StatusCode::kInvalidArgument);
  SiluMulArgs silu;
  silu.rows = 1;
  silu.width = 4;
  EXPECT_EQ(SiluMulF32(context, silu).code, StatusCode::kInvalidArgument);
  AddCompared(3);
}

BI_INSTANTIATE_INSTRUCTION_SETS(ElementwiseTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
