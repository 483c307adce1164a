// Softmax, LogSoftmax and reductions: rows alone and in company, close to float64.
#include <cmath>
#include <string>
#include <vector>

#include "batch_invariant/cuda/reduce.h"
#include "batch_invariant/cuda/softmax.h"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

constexpr std::int64_t kLengths[] = {1, 5, 64, 333, 1024, 4097, 32000};
constexpr std::int64_t kRows = 37;

template <typename T>
class Rows : public ::testing::Test {
 public:
  static ElementType Element() {
    return std::is_same_v<T, float>    ? ElementType::kFloat32
           : std::is_same_v<T, __half> ? ElementType::kFloat16
                                       : ElementType::kBFloat16;
  }
  static DataType Data() {
    return std::is_same_v<T, float>    ? DataType::kFloat32
           : std::is_same_v<T, __half> ? DataType::kFloat16
                                       : DataType::kBFloat16;
  }
  static double Limit() {
    return std::is_same_v<T, float> ? 1e-6 : std::is_same_v<T, __half> ? 1e-3 : 8e-3;
  }
};
using Types = ::testing::Types<__half, __nv_bfloat16, float>;
TYPED_TEST_SUITE(Rows, Types);

TYPED_TEST(Rows, SoftmaxRowsAreAloneAndCloseToDouble) {
  using T = TypeParam;
  for (const std::int64_t length : kLengths) {
    for (const bool logarithm : {false, true}) {
      SCOPED_TRACE("length " + std::to_string(length));
      Buffer<T> x(kRows * length), y(kRows * length), alone(kRows * length),
          columns(kRows * length), x_columns(kRows * length);
      Randomize(x.data(), x.size(), length);
      const auto run = [&](const T* from, T* to, std::int64_t outer, std::int64_t inner) {
        SoftmaxArgs args{TestFixture::Element(), outer, length, inner, from, to};
        return logarithm ? LogSoftmax(args, nullptr) : Softmax(args, nullptr);
      };
      ASSERT_STATUS_OK(run(x.data(), y.data(), kRows, 1));
      for (std::int64_t row = 0; row < kRows; ++row) {
        ASSERT_STATUS_OK(run(x.data() + row * length, alone.data() + row * length, 1, 1));
      }
      EXPECT_EQ(Differences(y.data(), length, alone.data(), length, kRows, length), 0u);
      // The same rows as columns of a [1, length, rows] tensor.
      const std::vector<T> host = x.Host(), result = y.Host();
      std::vector<T> turned(host.size());
      for (std::int64_t row = 0; row < kRows; ++row) {
        for (std::int64_t i = 0; i < length; ++i) turned[i * kRows + row] = host[row * length + i];
      }
      x_columns.Set(turned);
      ASSERT_STATUS_OK(run(x_columns.data(), columns.data(), 1, kRows));
      const std::vector<T> by_column = columns.Host();
      std::uint64_t different = 0;
      double error = 0.0, norm = 0.0;
      for (std::int64_t row = 0; row < kRows; ++row) {
        double m = -INFINITY, sum = 0.0;
        for (std::int64_t i = 0; i < length; ++i) {
          m = std::max(m, static_cast<double>(static_cast<float>(host[row * length + i])));
        }
        for (std::int64_t i = 0; i < length; ++i) {
          sum += std::exp(static_cast<float>(host[row * length + i]) - m);
        }
        for (std::int64_t i = 0; i < length; ++i) {
          const double d = static_cast<float>(host[row * length + i]) - m;
          const double exact = logarithm ? d - std::log(sum) : std::exp(d) / sum;
          const double got = static_cast<float>(result[row * length + i]);
          error += (got - exact) * (got - exact);
          norm += exact * exact;
          different += static_cast<float>(by_column[i * kRows + row]) != got;
        }
      }
      Compared() += kRows * length;
      EXPECT_EQ(different, 0u);
      if (length > 1) EXPECT_LT(std::sqrt(error / norm), TestFixture::Limit());
    }
  }
}

// Small enough for compute-sanitizer.
TYPED_TEST(Rows, EachKernelOnce) {
  using T = TypeParam;
  constexpr std::int64_t kLength = 333;
  Buffer<T> x(3 * kLength), y(3 * kLength), alone(3 * kLength), sums(3), sum_alone(3);
  Randomize(x.data(), x.size(), kLength);
  const auto softmax = [&](std::int64_t first, std::int64_t count, T* to) {
    return Softmax({TestFixture::Element(), count, kLength, 1, x.data() + first * kLength, to},
                   nullptr);
  };
  const auto sum = [&](std::int64_t first, std::int64_t count, T* to) {
    return Reduce(
        {ReduceOp::kSum, TestFixture::Data(), count, kLength, 1, x.data() + first * kLength, to},
        nullptr);
  };
  ASSERT_STATUS_OK(softmax(0, 3, y.data()));
  ASSERT_STATUS_OK(sum(0, 3, sums.data()));
  for (std::int64_t row = 0; row < 3; ++row) {
    ASSERT_STATUS_OK(softmax(row, 1, alone.data() + row * kLength));
    ASSERT_STATUS_OK(sum(row, 1, sum_alone.data() + row));
  }
  EXPECT_EQ(Differences(y.data(), kLength, alone.data(), kLength, 3, kLength), 0u);
  EXPECT_EQ(Differences(sums.data(), 1, sum_alone.data(), 1, 3, 1), 0u);
}

TYPED_TEST(Rows, NanAndInfStayInTheirRow) {
  using T = TypeParam;
  constexpr std::int64_t kLength = 700;
  Buffer<T> x(4 * kLength), clean(4 * kLength), y(4 * kLength);
  Randomize(x.data(), x.size(), kLength);
  ASSERT_STATUS_OK(
      Softmax({TestFixture::Element(), 4, kLength, 1, x.data(), clean.data()}, nullptr));
  std::vector<T> host = x.Host();
  host[1 * kLength + 3] = T(NAN);
  host[3 * kLength + 699] = T(INFINITY);
  x.Set(host);
  ASSERT_STATUS_OK(Softmax({TestFixture::Element(), 4, kLength, 1, x.data(), y.data()}, nullptr));
  EXPECT_EQ(Differences(y.data(), 2 * kLength, clean.data(), 2 * kLength, 2, kLength), 0u);
  const std::vector<T> result = y.Host();
  for (const std::int64_t row : {1, 3}) {
    for (std::int64_t i = 0; i < kLength; ++i) {
      ASSERT_TRUE(std::isnan(static_cast<float>(result[row * kLength + i])));
    }
  }
}

TYPED_TEST(Rows, ReductionsAreAloneAndCloseToDouble) {
  using T = TypeParam;
  for (const std::int64_t length : kLengths) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMax, ReduceOp::kMin,
                              ReduceOp::kL2, ReduceOp::kSumSquare}) {
      SCOPED_TRACE("length " + std::to_string(length) + " op " +
                   std::to_string(static_cast<int>(op)));
      Buffer<T> x(kRows * length), y(kRows), alone(kRows);
      Randomize(x.data(), x.size(), length);
      const auto run = [&](std::int64_t first, std::int64_t count, T* to) {
        return Reduce({op, TestFixture::Data(), count, length, 1, x.data() + first * length, to},
                      nullptr);
      };
      ASSERT_STATUS_OK(run(0, kRows, y.data()));
      for (std::int64_t row = 0; row < kRows; ++row) {
        ASSERT_STATUS_OK(run(row, 1, alone.data() + row));
      }
      EXPECT_EQ(Differences(y.data(), 1, alone.data(), 1, kRows, 1), 0u);
      const std::vector<T> host = x.Host(), result = y.Host();
      for (std::int64_t row = 0; row < kRows; ++row) {
        double sum = 0.0, squares = 0.0, magnitude = 0.0, high = -INFINITY, low = INFINITY;
        for (std::int64_t i = 0; i < length; ++i) {
          const double v = static_cast<float>(host[row * length + i]);
          sum += v;
          squares += v * v;
          magnitude += std::fabs(v);
          high = std::max(high, v);
          low = std::min(low, v);
        }
        const double n = static_cast<double>(length);
        const double exact = op == ReduceOp::kSum    ? sum
                             : op == ReduceOp::kMean ? sum / n
                             : op == ReduceOp::kMax  ? high
                             : op == ReduceOp::kMin  ? low
                             : op == ReduceOp::kL2   ? std::sqrt(squares)
                                                     : squares;
        const double scale = op == ReduceOp::kSum    ? magnitude
                             : op == ReduceOp::kMean ? magnitude / n
                                                     : std::fabs(exact);
        const double got = static_cast<float>(result[row]);
        // fp16 overflows where its range ends.
        if (std::is_same_v<T, __half> && std::fabs(exact) > 65504.0) {
          EXPECT_TRUE(std::isinf(got));
        } else {
          EXPECT_LE(std::fabs(got - exact), TestFixture::Limit() * scale);
        }
      }
    }
  }
}

template <typename T>
class ReduceIntegers : public ::testing::Test {};
using IntegerTypes = ::testing::Types<std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(ReduceIntegers, IntegerTypes);

TYPED_TEST(ReduceIntegers, AreExact) {
  using T = TypeParam;
  constexpr DataType kType = sizeof(T) == 4 ? DataType::kInt32 : DataType::kInt64;
  Buffer<T> x(3 * 500), y(3);
  std::vector<T> host;
  for (int i = 0; i < 1500; ++i) host.push_back((i * 7919) % 1001 - 500);
  x.Set(host);
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMax, ReduceOp::kMin}) {
    ASSERT_STATUS_OK(Reduce({op, kType, 3, 500, 1, x.data(), y.data()}, nullptr));
    const auto result = y.Host();
    for (int row = 0; row < 3; ++row) {
      T sum = 0, high = -1000, low = 1000;
      for (int i = 0; i < 500; ++i) {
        sum += host[row * 500 + i];
        high = std::max(high, host[row * 500 + i]);
        low = std::min(low, host[row * 500 + i]);
      }
      EXPECT_EQ(result[row], op == ReduceOp::kSum    ? sum
                             : op == ReduceOp::kMean ? sum / 500
                             : op == ReduceOp::kMax  ? high
                                                     : low);
    }
  }
  EXPECT_EQ(Reduce({ReduceOp::kL2, kType, 3, 500, 1, x.data(), y.data()}, nullptr).code,
            StatusCode::kUnsupported);
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
