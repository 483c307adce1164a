// MatMul and Gemm: the bits of the reference on every instruction set, whatever the rows, their
// position and neighbours, the threads, strides and packing; and the value of float64.
#include "batch_invariant/cpu/matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "cpu/support/support.h"
#include "kernels/cpu/dispatch/kernel_table.h"
#include "kernels/cpu/matmul/matmul_kernels.h"
#include "kernels/reference/matmul.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class MatMulTest : public InstructionSetTest {};

// A matrix in a buffer that is larger than needed, at an odd offset, in either order.
struct Matrix {
  Matrix(Random& random, int64_t rows, int64_t columns) : rows(rows), columns(columns) {
    const int64_t offset = random.Integer(0, 3);
    const bool transposed = random.Integer(0, 1) == 1;
    const int64_t pitch = (transposed ? rows : columns) + random.Integer(0, 5);
    values = random.Normal(static_cast<size_t>((transposed ? columns : rows) * pitch + offset));
    view.data = values.data() + offset;
    view.row_stride = transposed ? 1 : pitch;
    view.column_stride = transposed ? pitch : 1;
  }
  float at(int64_t row, int64_t column) const {
    return view.data[row * view.row_stride + column * view.column_stride];
  }

  int64_t rows, columns;
  std::vector<float> values;
  MatrixView view;
};

MatMulArgs Args(const Matrix& a, const MatrixView& b, int64_t n, std::vector<float>& y,
                int64_t y_row_stride) {
  MatMulArgs args;
  args.m = a.rows;
  args.n = n;
  args.k = a.columns;
  args.a = a.view;
  args.b = b;
  args.y = y.data();
  args.y_row_stride = y_row_stride;
  return args;
}

std::vector<float> Pack(const Context& context, const Matrix& b) {
  std::vector<float> packed = Poisoned(PackedMatMulBytes(b.rows, b.columns) / sizeof(float));
  EXPECT_TRUE(PackMatMul(context, b.rows, b.columns, b.view, packed.data()).ok());
  return packed;
}

TEST_P(MatMulTest, SameBitsAsReference) {
  Random random(11);
  const int rounds = FuzzCases(GetParam() == InstructionSet::kScalar ? 150 : 600);
  for (int round = 0; round < rounds; ++round) {
    const int64_t m = random.Integer(1, round % 10 == 0 ? 400 : 40);
    const int64_t n = random.Integer(1, round % 7 == 0 ? 1100 : 80);
    const int64_t k = random.Integer(0, round % 3 == 0 ? 700 : 60);
    const Matrix a(random, m, k), b(random, k, n);
    const int64_t stride = n + random.Integer(0, 3);
    std::vector<float> expected = Poisoned(m * stride), actual = expected;
    MatMulArgs args = Args(a, b.view, n, expected, stride);
    const auto c = random.Normal(m * n);
    if (round % 2 == 1) {
      args.alpha = random.Integer(0, 1) == 0 ? 1.0f : random.Uniform(-2, 2);
      args.beta = random.Integer(0, 1) == 0 ? 1.0f : random.Uniform(-2, 2);
      args.c = {c.data(), random.Integer(0, 1) * n, random.Integer(0, 1)};
      if (random.Integer(0, 3) == 0) args.c = {c.data(), 1, m};
      if (random.Integer(0, 3) == 0) args.c.data = nullptr;
    }
    reference::MatMul(args);

    TestContext context(GetParam(), static_cast<int>(random.Integer(1, 4)));
    args.y = actual.data();
    ASSERT_TRUE(MatMul(context, args).ok());
    ASSERT_TRUE(SameBits(expected, actual)) << "m " << m << " n " << n << " k " << k;

    const std::vector<float> packed = Pack(context, b);
    args.packed_b = packed.data();
    args.b.data = nullptr;
    std::fill(actual.begin(), actual.end(), std::bit_cast<float>(kPoisonBits));
    ASSERT_TRUE(MatMul(context, args).ok());
    ASSERT_TRUE(SameBits(expected, actual)) << "packed, m " << m << " n " << n << " k " << k;
  }
}

TEST_P(MatMulTest, RowDependsOnItselfOnly) {
  Random random(12);
  const int64_t k = GetParam() == InstructionSet::kScalar ? 200 : 1000, n = 150;
  const Matrix b(random, k, n);
  TestContext pack_context(GetParam());
  const std::vector<float> packed = Pack(pack_context, b);
  const std::vector<float> row = random.Normal(k);
  std::vector<float> expected = Poisoned(n);
  MatMulArgs reference_args;
  reference_args.m = 1;
  reference_args.n = n;
  reference_args.k = k;
  reference_args.a = {row.data(), k, 1};
  reference_args.b = b.view;
  reference_args.y = expected.data();
  reference_args.y_row_stride = n;
  reference::MatMul(reference_args);

  for (int64_t m = 1; m <= 64; ++m) {
    for (int neighbours = 0; neighbours < 3; ++neighbours) {
      std::vector<float> a = random.Normal(m * k, 100.0f);
      for (float& value : a) {
        if (neighbours == 1) value = kNan;
        if (neighbours == 2) value = kInfinity;
      }
      const int64_t position = random.Integer(0, m - 1);
      std::copy(row.begin(), row.end(), a.begin() + position * k);
      for (bool use_packed : {false, true}) {
        TestContext context(GetParam(), static_cast<int>(1 + m % 4));
        std::vector<float> y = Poisoned(m * n);
        MatMulArgs args = reference_args;
        args.m = m;
        args.a.data = a.data();
        args.y = y.data();
        if (use_packed) {
          args.packed_b = packed.data();
          args.b.data = nullptr;
        }
        ASSERT_TRUE(MatMul(context, args).ok());
        ASSERT_TRUE(SameBits(expected, std::span(y).subspan(position * n, n)))
            << "row " << position << " of " << m << ", neighbours " << neighbours;
      }
    }
  }
}

TEST_P(MatMulTest, ThreadsDoNotMatter) {
  Random random(13);
  for (const auto& [m, n, k] :
       {std::tuple{1, 3000, 500}, std::tuple{17, 900, 300}, std::tuple{500, 130, 310}}) {
    const Matrix a(random, m, k), b(random, k, n);
    std::vector<float> expected;
    for (int threads = 1; threads <= 4; ++threads) {
      TestContext context(GetParam(), threads);
      const std::vector<float> packed = Pack(context, b);
      std::vector<float> y = Poisoned(static_cast<size_t>(m) * n);
      MatMulArgs args = Args(a, {}, n, y, n);
      args.packed_b = packed.data();
      ASSERT_TRUE(MatMul(context, args).ok());
      if (threads == 1) expected = y;
      ASSERT_TRUE(SameBits(expected, y)) << threads << " threads";
    }
  }
}

TEST_P(MatMulTest, CloseToFloat64) {
  Random random(14);
  for (const int64_t k : {1, 16, 100, 1000, 5000}) {
    const int64_t m = 5, n = 37;
    const Matrix a(random, m, k), b(random, k, n);
    std::vector<float> y = Poisoned(m * n);
    TestContext context(GetParam());
    ASSERT_TRUE(MatMul(context, Args(a, b.view, n, y, n)).ok());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0, magnitude = 0;
        for (int64_t t = 0; t < k; ++t) {
          const double product = double{a.at(i, t)} * b.at(t, j);
          sum += product;
          magnitude += std::abs(product);
        }
        // k roundings of at most half a last place of the running sum.
        EXPECT_NEAR(y[i * n + j], sum, 0x1p-24 * static_cast<double>(k) * magnitude);
      }
    }
    AddCompared(m * n);
  }
}

TEST_P(MatMulTest, BatchReadsEachProductAtItsOffset) {
  Random random(15);
  const int64_t m = 9, n = 21, k = 40, batch = 5;
  const auto a = random.Normal(3 * m * k), b = random.Normal(2 * k * n);
  const std::vector<int64_t> a_offsets = {0, m * k, 2 * m * k, 0, m * k};
  const std::vector<int64_t> b_offsets = {k * n, 0, k * n, 0, 0};
  std::vector<float> expected = Poisoned(batch * m * n), actual = expected;
  MatMulArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a = {a.data(), k, 1};
  args.b = {b.data(), n, 1};
  args.batch = batch;
  args.a_offsets = a_offsets.data();
  args.b_offsets = b_offsets.data();
  args.y_row_stride = n;
  args.y_batch_stride = m * n;
  args.y = expected.data();
  reference::MatMul(args);
  args.y = actual.data();
  TestContext context(GetParam(), 3);
  ASSERT_TRUE(MatMul(context, args).ok());
  EXPECT_TRUE(SameBits(expected, actual));
}

TEST_P(MatMulTest, ValuesThatAreNotFinite) {
  Random random(16);
  const int64_t m = 7, n = 40, k = 33;
  auto a = random.Normal(m * k), b = random.Normal(k * n);
  a[3] = kNan;
  a[k + 5] = kInfinity;
  a[2 * k + 1] = -kInfinity, a[2 * k + 2] = kInfinity;
  a[3 * k] = std::bit_cast<float>(0xffc12345u);
  std::fill(a.begin() + 4 * k, a.begin() + 5 * k, 1e38f);
  std::fill(a.begin() + 5 * k, a.begin() + 6 * k, 1e-42f);
  b[7] = 0.0f, b[n + 8] = std::bit_cast<float>(0x7f800001u);
  std::vector<float> expected = Poisoned(m * n), actual = expected;
  MatMulArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a = {a.data(), k, 1};
  args.b = {b.data(), n, 1};
  args.y_row_stride = n;
  args.y = expected.data();
  reference::MatMul(args);
  args.y = actual.data();
  TestContext context(GetParam());
  ASSERT_TRUE(MatMul(context, args).ok());
  EXPECT_TRUE(SameBits(expected, actual));
  EXPECT_EQ(std::bit_cast<uint32_t>(actual[0]), 0x7fc00000u);
}

TEST_P(MatMulTest, NoTermsGiveZeroAndC) {
  TestContext context(GetParam());
  const std::vector<float> c = {1, 2, 3};
  std::vector<float> y = Poisoned(6);
  MatMulArgs args;
  args.m = 2;
  args.n = 3;
  args.y = y.data();
  args.y_row_stride = 3;
  ASSERT_TRUE(MatMul(context, args).ok());
  EXPECT_TRUE(SameBits(std::vector<float>(6, 0.0f), y));
  args.c = {c.data(), 0, 1};
  args.beta = 2.0f;
  ASSERT_TRUE(MatMul(context, args).ok());
  EXPECT_TRUE(SameBits(std::vector<float>{2, 4, 6, 2, 4, 6}, y));
}

TEST_P(MatMulTest, RefusesWhatItCannotDo) {
  TestContext context(GetParam());
  float value = 0;
  MatMulArgs args;
  args.m = args.n = 1;
  EXPECT_EQ(MatMul(context, args).code, StatusCode::kInvalidArgument);  // no output
  args.y = &value;
  args.k = 1;
  EXPECT_EQ(MatMul(context, args).code, StatusCode::kInvalidArgument);  // no a
  args.a.data = &value;
  EXPECT_EQ(MatMul(context, args).code, StatusCode::kInvalidArgument);  // no b
  args.m = -1;
  const Status status = MatMul(context, args);
  EXPECT_NE(status.message.find("m = -1"), std::string::npos) << status.message;
  args.m = 0;
  EXPECT_TRUE(MatMul(context, args).ok());
  AddCompared(5);
}

// The comparison itself must be able to fail: two partial sums instead of one differ.
TEST_P(MatMulTest, AnotherOrderIsDetected) {
  Random random(17);
  const int64_t m = 4, n = 64, k = 500;
  const Matrix a(random, m, k), b(random, k, n);
  std::vector<float> y = Poisoned(m * n), other(m * n);
  TestContext context(GetParam());
  ASSERT_TRUE(MatMul(context, Args(a, b.view, n, y, n)).ok());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float even = 0, odd = 0;
      for (int64_t t = 0; t < k; t += 2) {
        even = std::fma(a.at(i, t), b.at(t, j), even);
        odd = std::fma(a.at(i, t + 1), b.at(t + 1, j), odd);
      }
      other[i * n + j] = even + odd;
    }
  }
  const auto result = SameBits(other, y);
  EXPECT_FALSE(result);
  std::cout << "             two partial sums: " << result.message() << "\n";
}

BI_INSTANTIATE_INSTRUCTION_SETS(MatMulTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
