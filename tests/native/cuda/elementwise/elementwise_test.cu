// Elementwise ops: an element's bytes do not depend on where it stands, and are close to float64.
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "batch_invariant/cuda/elementwise.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "kernels/common/power.h"

namespace batch_invariant::cuda::test {
namespace {

struct NamedUnary {
  UnaryOp op;
  const char* name;
  std::function<double(double)> exact;
  double low, high;  // inputs
  double absolute;   // error allowed beside rounding, absolute
};
const NamedUnary kUnary[] = {
    {UnaryOp::kSigmoid, "Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }, -80, 80, 0},
    {UnaryOp::kTanh, "Tanh", [](double x) { return std::tanh(x); }, -12, 12, 0},
    {UnaryOp::kErf, "Erf", [](double x) { return std::erf(x); }, -5, 5, 0},
    {UnaryOp::kExp, "Exp", [](double x) { return std::exp(x); }, -80, 11, 0},
    {UnaryOp::kLog, "Log", [](double x) { return std::log(x); }, 1e-3, 300, 6e-8},
    {UnaryOp::kSqrt, "Sqrt", [](double x) { return std::sqrt(x); }, 0, 300, 0},
    {UnaryOp::kReciprocal, "Reciprocal", [](double x) { return 1 / x; }, 0.01, 300, 0},
    {UnaryOp::kNeg, "Neg", [](double x) { return -x; }, -9, 9, 0},
    {UnaryOp::kCos, "Cos", [](double x) { return std::cos(x); }, -1000, 1000, 0},
    {UnaryOp::kSin, "Sin", [](double x) { return std::sin(x); }, -1000, 1000, 0},
    {UnaryOp::kGelu, "Gelu", [](double x) { return x / 2 * (1 + std::erf(x * std::sqrt(0.5))); },
     -6, 6, 4e-7},
    {UnaryOp::kGeluTanh, "FastGelu",
     [](double x) {
       return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
     },
     -6, 6, 1e-6},
    {UnaryOp::kQuickGelu, "QuickGelu", [](double x) { return x / (1 + std::exp(-1.702f * x)); }, -9,
     9, 1e-9},
    {UnaryOp::kSilu, "SiLU", [](double x) { return x / (1 + std::exp(-x)); }, -20, 20, 0},
    {UnaryOp::kSoftplus, "Softplus", [](double x) { return std::log1p(std::exp(x)); }, -8, 20,
     1e-7},
};

template <typename T>
class Elementwise : public ::testing::Test {};
using Types = ::testing::Types<__half, __nv_bfloat16, float>;
TYPED_TEST_SUITE(Elementwise, Types);

TYPED_TEST(Elementwise, UnaryIsTheSameEverywhereAndCloseToDouble) {
  using T = TypeParam;
  constexpr int kCount = 100003;
  const double rounding = std::is_same_v<T, float>    ? 6e-7
                          : std::is_same_v<T, __half> ? 5.2e-4
                                                      : 4.1e-3;
  for (const NamedUnary& named : kUnary) {
    SCOPED_TRACE(named.name);
    Buffer<T> x(kCount), y(kCount), shifted(kCount);
    std::vector<T> host;
    for (int i = 0; i < kCount; ++i) {
      host.push_back(
          T(static_cast<float>(named.low + (named.high - named.low) * i / (kCount - 1))));
    }
    x.Set(host);
    UnaryArgs args;
    args.op = named.op;
    args.type = TypeOf<T>();
    args.rows = 1;
    args.width = kCount;
    args.x = x.data();
    args.y = y.data();
    ASSERT_STATUS_OK(Unary(args, nullptr));
    EXPECT_TRUE(y.GuardsIntact());
    // From odd offsets, in pieces: no vector, other threads, other tails.
    for (int first = 0, count = 1; first < kCount; first += count, count = count * 3 + 1) {
      args.width = std::min(count, kCount - first);
      args.x = x.data() + first;
      args.y = shifted.data() + first;
      ASSERT_STATUS_OK(Unary(args, nullptr));
    }
    EXPECT_EQ(Differences(y.data(), kCount, shifted.data(), kCount, 1, kCount), 0u);
    const std::vector<T> result = y.Host();
    int far = 0;
    for (int i = 0; i < kCount; ++i) {
      const double exact = named.exact(static_cast<float>(host[i]));
      const double got = static_cast<float>(result[i]);
      const double tiny = std::is_same_v<T, __half> ? 6e-8 : 1e-37;
      far += !(std::fabs(got - exact) <= rounding * std::fabs(exact) + named.absolute + tiny);
    }
    EXPECT_EQ(far, 0);
  }
}

TYPED_TEST(Elementwise, BinaryBroadcasts) {
  using T = TypeParam;
  const std::int64_t shape[] = {5, 7, 33};
  constexpr std::int64_t kCount = 5 * 7 * 33;
  Buffer<T> a(kCount), b(kCount), y(kCount);
  Buffer<bool> flags(kCount);
  Randomize(a.data(), kCount, 33);
  Randomize(b.data(), kCount, 33);
  const std::vector<T> ha = a.Host(), hb = b.Host();
  const std::int64_t full[] = {231, 33, 1};
  const std::vector<std::vector<std::int64_t>> broadcasts = {
      {231, 33, 1}, {0, 0, 1}, {0, 0, 0}, {33, 0, 1}, {7, 1, 0}};
  for (const auto& strides : broadcasts) {
    for (const BinaryOp op :
         {BinaryOp::kAdd, BinaryOp::kSub, BinaryOp::kMul, BinaryOp::kDiv, BinaryOp::kMin,
          BinaryOp::kMax, BinaryOp::kLess, BinaryOp::kEqual, BinaryOp::kGreaterOrEqual}) {
      const bool comparison = IsComparison(op);
      ASSERT_STATUS_OK(Binary({op, TypeOf<T>(), shape, a.data(), full, b.data(), strides,
                               comparison ? static_cast<void*>(flags.data()) : y.data()},
                              nullptr));
      const std::vector<T> result = y.Host();
      std::vector<std::uint8_t> flag(kCount);
      cudaMemcpy(flag.data(), flags.data(), kCount, cudaMemcpyDeviceToHost);
      int wrong = 0;
      for (std::int64_t i = 0; i < kCount; ++i) {
        const float u = static_cast<float>(ha[i]);
        const float v = static_cast<float>(
            hb[i / 231 * strides[0] + i / 33 % 7 * strides[1] + i % 33 * strides[2]]);
        const float exact = op == BinaryOp::kAdd   ? u + v
                            : op == BinaryOp::kSub ? u - v
                            : op == BinaryOp::kMul ? u * v
                            : op == BinaryOp::kDiv ? u / v
                            : op == BinaryOp::kMin ? std::min(u, v)
                            : op == BinaryOp::kMax ? std::max(u, v)
                                                   : 0.0f;
        const bool truth = op == BinaryOp::kLess ? u < v : op == BinaryOp::kEqual ? u == v : u >= v;
        wrong += comparison ? flag[i] != truth
                            : static_cast<float>(result[i]) != static_cast<float>(T(exact));
      }
      Compared() += kCount;
      EXPECT_EQ(wrong, 0) << "op " << static_cast<int>(op);
    }
  }
  EXPECT_TRUE(y.GuardsIntact());
}

// The device gives the bytes of the host, where the accuracy is tested.
template <typename Base, typename Exponent>
void CheckPow() {
  const std::int64_t shape[] = {70, 300}, full[] = {300, 1};
  constexpr std::int64_t kCount = 70 * 300;
  const std::vector<std::vector<std::int64_t>> broadcasts = {{300, 1}, {0, 1}, {1, 0}, {0, 0}};
  const auto random = [](auto tag, int i) {
    using T = decltype(tag);
    const auto mixed = static_cast<std::uint32_t>(i) * 2654435761u;
    const double value = static_cast<double>(mixed >> 8) / (1 << 23) - 1;  // [-1, 1)
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(value * 7);
    } else {
      return static_cast<T>(static_cast<float>(i % 3 == 0 ? value * 20 : std::fabs(value) * 3));
    }
  };
  std::vector<Base> base;
  std::vector<Exponent> exponent;
  for (int i = 0; i < kCount; ++i) {
    base.push_back(random(Base{}, i));
    exponent.push_back(i % 5 == 0 ? Exponent(2.0f) : random(Exponent{}, i + 12345));
  }
  Buffer<Base> b(kCount), y(kCount);
  Buffer<Exponent> e(kCount);
  b.Set(base);
  e.Set(exponent);
  for (const auto& strides : broadcasts) {
    ASSERT_STATUS_OK(Pow(
        {shape, TypeOf<Base>(), b.data(), full, TypeOf<Exponent>(), e.data(), strides, y.data()},
        nullptr));
    const std::vector<Base> result = y.Host();
    int wrong = 0;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const Exponent power = exponent[i / 300 * strides[0] + i % 300 * strides[1]];
      Base expected;
      if constexpr (std::is_integral_v<Base> && std::is_integral_v<Exponent>) {
        expected = power::WholePower(base[i], static_cast<std::int64_t>(power));
      } else if constexpr (std::is_integral_v<Base> || std::is_same_v<Base, double>) {
        expected = power::Pow(base[i], static_cast<double>(power));
      } else {
        const double wide = std::is_integral_v<Exponent> || std::is_same_v<Exponent, double>
                                ? static_cast<double>(power)
                                : static_cast<double>(static_cast<float>(power));
        const float f = power::Pow(static_cast<float>(base[i]), wide);
        expected = Base(f);
        if (f != f && result[i] != result[i]) continue;  // fp16's NaN is the device's own
      }
      wrong += std::memcmp(&expected, &result[i], sizeof(Base)) != 0;
    }
    Compared() += kCount;
    EXPECT_EQ(wrong, 0);
  }
  EXPECT_TRUE(y.GuardsIntact());
}

template <typename Base>
void CheckPowOfBase() {
  CheckPow<Base, float>();
  CheckPow<Base, double>();
  CheckPow<Base, std::int32_t>();
  CheckPow<Base, std::int64_t>();
  CheckPow<Base, __half>();
  CheckPow<Base, __nv_bfloat16>();
}

TYPED_TEST(Elementwise, PowHasTheBytesOfTheHost) { CheckPowOfBase<TypeParam>(); }
TEST(ElementwisePow, Float64) { CheckPowOfBase<double>(); }
TEST(ElementwisePow, Int32) { CheckPowOfBase<std::int32_t>(); }
TEST(ElementwisePow, Int64) { CheckPowOfBase<std::int64_t>(); }

TYPED_TEST(Elementwise, GatedActivationEqualsSeparateOps) {
  using T = TypeParam;
  constexpr std::int64_t kRows = 9;
  struct Case {
    UnaryOp activation;
    std::int64_t width;
  };
  const Case cases[] = {{UnaryOp::kSilu, 8},     {UnaryOp::kSilu, 100},
                        {UnaryOp::kSilu, 4096},  {UnaryOp::kGelu, 100},
                        {UnaryOp::kGelu, 256},   {UnaryOp::kGeluTanh, 256},
                        {UnaryOp::kSigmoid, 64}, {UnaryOp::kQuickGelu, 256}};
  for (const auto& [activation, width] : cases) {
    Buffer<T> both(kRows * 2 * width), sigmoid(kRows * width), fused(kRows * width),
        gate(kRows * width), up(kRows * width);
    Randomize(both.data(), both.size(), width);
    cudaMemcpy2D(gate.data(), sizeof(T) * width, both.data(), sizeof(T) * 2 * width,
                 sizeof(T) * width, kRows, cudaMemcpyDeviceToDevice);
    cudaMemcpy2D(up.data(), sizeof(T) * width, both.data() + width, sizeof(T) * 2 * width,
                 sizeof(T) * width, kRows, cudaMemcpyDeviceToDevice);
    GatedArgs args;
    args.type = std::is_same_v<T, float>    ? ElementType::kFloat32
                : std::is_same_v<T, __half> ? ElementType::kFloat16
                                            : ElementType::kBFloat16;
    args.activation = activation;
    args.round_between = true;
    args.rows = kRows;
    args.width = width;
    args.gate = both.data();
    args.up = both.data() + width;
    args.gate_stride = args.up_stride = 2 * width;
    args.y = fused.data();
    args.y_stride = width;
    ASSERT_STATUS_OK(Gated(args, nullptr));
    const bool silu = activation == UnaryOp::kSilu;
    UnaryArgs unary{silu ? UnaryOp::kSigmoid : activation,
                    TypeOf<T>(),
                    kRows,
                    width,
                    1.702f,
                    gate.data(),
                    nullptr,
                    sigmoid.data()};
    ASSERT_STATUS_OK(Unary(unary, nullptr));
    const std::int64_t shape[] = {kRows * width}, one[] = {1};
    if (silu) {
      ASSERT_STATUS_OK(Binary({BinaryOp::kMul, TypeOf<T>(), shape, gate.data(), one, sigmoid.data(),
                               one, sigmoid.data()},
                              nullptr));
    }
    ASSERT_STATUS_OK(Binary(
        {BinaryOp::kMul, TypeOf<T>(), shape, sigmoid.data(), one, up.data(), one, sigmoid.data()},
        nullptr));
    EXPECT_EQ(Differences(fused.data(), width, sigmoid.data(), width, kRows, width), 0u)
        << "activation " << static_cast<int>(activation) << " width " << width;
  }
}

TEST(ElementwiseCast, ConvertsEveryPair) {
  const std::vector<float> values = {0.0f,   1.0f,   -1.0f, 2.5f, -2.5f,
                                     100.0f, 127.0f, 0.25f, 3.0f, 64.0f};
  Buffer<float> x(values.size());
  x.Set(values);
  const DataType kinds[] = {DataType::kFloat32, DataType::kFloat16, DataType::kBFloat16,
                            DataType::kFloat64, DataType::kInt8,    DataType::kInt16,
                            DataType::kInt32,   DataType::kInt64,   DataType::kBool,
                            DataType::kUInt8,   DataType::kUInt16,  DataType::kUInt32,
                            DataType::kUInt64};
  const std::int64_t count = static_cast<std::int64_t>(values.size());
  for (const DataType first : kinds) {
    for (const DataType second : kinds) {
      Buffer<double> one(values.size()), two(values.size()), back(values.size());
      ASSERT_STATUS_OK(Cast({DataType::kFloat32, first, count, x.data(), one.data()}, nullptr));
      ASSERT_STATUS_OK(Cast({first, second, count, one.data(), two.data()}, nullptr));
      ASSERT_STATUS_OK(Cast({second, DataType::kFloat64, count, two.data(), back.data()}, nullptr));
      const auto narrow = [](DataType type, double v) {
        switch (type) {
          case DataType::kFloat32:
          case DataType::kFloat16:
          case DataType::kBFloat16:
          case DataType::kFloat64:
            return v;  // every value here is exact
          case DataType::kBool:
            return v != 0 ? 1.0 : 0.0;
          case DataType::kUInt8:
            return static_cast<double>(static_cast<std::uint8_t>(static_cast<std::int64_t>(v)));
          case DataType::kUInt16:
            return static_cast<double>(static_cast<std::uint16_t>(static_cast<std::int64_t>(v)));
          case DataType::kUInt32:
            return static_cast<double>(static_cast<std::uint32_t>(static_cast<std::int64_t>(v)));
          case DataType::kUInt64:
            return static_cast<double>(static_cast<std::uint64_t>(static_cast<std::int64_t>(v)));
          case DataType::kInt8:
            return static_cast<double>(static_cast<std::int8_t>(static_cast<std::int64_t>(v)));
          default:
            return std::trunc(v);
        }
      };
      const std::vector<double> result = back.Host();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double start = narrow(first, values[i]);
        // A negative number turned into a wide unsigned one has no exact or wrapped image
        // everywhere.
        if (values[i] < 0 && (first == DataType::kUInt64 || first == DataType::kUInt32 ||
                              first == DataType::kUInt16)) {
          continue;
        }
        EXPECT_EQ(result[i], narrow(second, start))
            << "from " << static_cast<int>(first) << " to " << static_cast<int>(second) << " of "
            << values[i];
      }
    }
  }
}

// Copies of a host vector; std::vector<bool> has no bytes.
template <typename T>
std::vector<T> Read(const Buffer<T>& buffer) {
  std::vector<T> host(buffer.size());
  for (std::size_t i = 0; i < host.size(); ++i) {
    T value;
    cudaMemcpy(&value, buffer.data() + i, sizeof(T), cudaMemcpyDeviceToHost);
    host[i] = value;
  }
  return host;
}
template <typename T>
void Write(Buffer<T>& buffer, std::initializer_list<int> values) {
  std::size_t i = 0;
  for (const int value : values) {
    const T element = static_cast<T>(value);
    cudaMemcpy(buffer.data() + i++, &element, sizeof(T), cudaMemcpyHostToDevice);
  }
}

template <typename T>
class ElementwiseTypes : public ::testing::Test {};
using AnyTypes = ::testing::Types<bool, std::uint8_t, std::int32_t, std::int64_t, __half>;
TYPED_TEST_SUITE(ElementwiseTypes, AnyTypes);

TYPED_TEST(ElementwiseTypes, WhereChooses) {
  using T = TypeParam;
  Buffer<bool> condition(6);
  Write(condition, {1, 0, 1, 1, 0, 0});
  Buffer<T> a(6), b(1), y(6);
  Write(a, {1, 2, 3, 4, 5, 6});
  Write(b, {0});
  const std::int64_t shape[] = {2, 3}, full[] = {3, 1}, none[] = {0, 0};
  ASSERT_STATUS_OK(Where(
      {TypeOf<T>(), shape, condition.data(), full, a.data(), full, b.data(), none, y.data()},
      nullptr));
  const std::vector<T> got = Read(y);
  const int expected[] = {1, 0, 3, 4, 0, 0};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(float(got[i]), float(T(expected[i]))) << i;
  Compared() += 6;
}

template <typename T>
class ElementwiseIntegers : public ::testing::Test {};
using IntegerTypes = ::testing::Types<bool, std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(ElementwiseIntegers, IntegerTypes);

// Flat, with b broadcast along the first axis, and one operand.
TYPED_TEST(ElementwiseIntegers, EachOpOnce) {
  using T = TypeParam;
  constexpr bool kIsBool = std::is_same_v<T, bool>;
  Buffer<T> a(6), b(6), y(6);
  Buffer<bool> flags(6);
  Write(a, {1, 0, 1, 1, 0, 7});
  Write(b, {0, 0, 1, 5, 1, 1});
  const std::vector<T> x = Read(a), z = Read(b);
  const std::int64_t shape[] = {2, 3}, full[] = {3, 1}, rows[] = {0, 1};
  for (const std::int64_t* strides : {full, rows}) {
    const auto other = [&](int i) { return z[strides == full ? i : i % 3]; };
    const std::span<const std::int64_t> b_strides(strides, 2);
    ASSERT_STATUS_OK(Binary({kIsBool ? BinaryOp::kXor : BinaryOp::kSub, TypeOf<T>(), shape,
                             a.data(), full, b.data(), b_strides, y.data()},
                            nullptr));
    std::vector<T> got = Read(y);
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(got[i], kIsBool ? T(x[i] != other(i)) : T(x[i] - other(i))) << i;
    }
    if constexpr (!kIsBool) {
      ASSERT_STATUS_OK(Binary({BinaryOp::kLess, TypeOf<T>(), shape, a.data(), full, b.data(),
                               b_strides, flags.data()},
                              nullptr));
      const std::vector<bool> truth = Read(flags);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(truth[i], x[i] < other(i)) << i;
    }
    Compared() += 6;
  }
  ASSERT_STATUS_OK(Unary({kIsBool ? UnaryOp::kNot : UnaryOp::kNeg, TypeOf<T>(), 2, 3, 0.0f,
                          a.data(), nullptr, y.data()},
                         nullptr));
  const std::vector<T> got = Read(y);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(got[i], kIsBool ? T(!x[i]) : T(-x[i])) << i;
}

TEST(ElementwiseInt64, DividesTowardsZero) {
  Buffer<std::int64_t> a(4), b(4), y(4);
  a.Set({7, -7, 9, 5});
  b.Set({2, 2, -4, 0});
  const std::int64_t shape[] = {4}, one[] = {1};
  const auto run = [&](BinaryOp op) {
    EXPECT_TRUE(
        Binary({op, DataType::kInt64, shape, a.data(), one, b.data(), one, y.data()}, nullptr)
            .ok());
    return y.Host();
  };
  EXPECT_EQ(run(BinaryOp::kDiv), (std::vector<std::int64_t>{3, -3, -2, 0}));
  EXPECT_EQ(run(BinaryOp::kMod), (std::vector<std::int64_t>{1, 1, -3, 0}));
  EXPECT_EQ(run(BinaryOp::kSub), (std::vector<std::int64_t>{5, -9, 13, 5}));
  EXPECT_EQ(
      Binary({BinaryOp::kAnd, DataType::kInt64, shape, a.data(), one, b.data(), one, y.data()},
             nullptr)
          .code,
      StatusCode::kUnsupported);
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
