// Norms: the bytes of a row alone, anywhere in a batch, and of the contract written out on the
// host.
#include <cmath>
#include <string>
#include <vector>

#include "batch_invariant/cuda/norm.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

constexpr std::int64_t kWidths[] = {1,    7,    64,   80,   128,  250,   256,   1000,
                                    1024, 2560, 4096, 5120, 8192, 16384, 16392, 20001};

struct Options {
  bool layer = false, skip = false, bias = false, beta = false, round_before_scale = false;
};
const Options kOptions[] = {
    {},
    {false, true, true},
    {false, false, false, false, true},
    {true, false, false, true},
    {true, true, true, true},
    {true},
};

template <typename T>
struct Problem {
  Problem(std::int64_t rows, std::int64_t width, const Options& o)
      : rows(rows),
        width(width),
        o(o),
        x(rows * width),
        skip(rows * width),
        bias(width),
        gamma(width),
        beta(width),
        y(rows * width),
        sum(rows * width),
        mean(rows),
        inv_std(rows) {
    Randomize(x.data(), x.size(), width);
    Randomize(skip.data(), skip.size(), width);
    Randomize(bias.data(), bias.size(), width);
    Randomize(gamma.data(), gamma.size(), width);
    Randomize(beta.data(), beta.size(), width);
  }
  // Rows [first, first + count) as a call of their own, results at the same rows of `to`.
  void Run(std::int64_t first, std::int64_t count, Problem& to) {
    NormArgs args;
    args.type = ElementTypeOf<T>();
    args.rows = count;
    args.width = width;
    args.round_before_scale = o.round_before_scale;
    args.x = x.data() + first * width;
    if (o.skip) {
      args.skip = skip.data() + first * width;
      args.skip_rows = count;
      args.sum = to.sum.data() + first * width;
    }
    if (o.bias) args.bias = bias.data();
    args.gamma = gamma.data();
    args.gamma_is_ready = count % 2 == 1;
    if (o.beta) args.beta = beta.data();
    args.y = to.y.data() + first * width;
    args.mean = to.mean.data() + first;
    args.inv_std = to.inv_std.data() + first;
    ASSERT_STATUS_OK(o.layer ? LayerNorm(args, nullptr) : RmsNorm(args, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
  }
  std::int64_t rows, width;
  Options o;
  Buffer<T> x, skip, bias, gamma, beta, y, sum;
  Buffer<float> mean, inv_std;
};

// S of norm.h, literally.
float ContractSum(const std::vector<float>& values, bool squares) {
  const std::int64_t width = static_cast<std::int64_t>(values.size());
  const std::int64_t rounds = (width + 2047) / 2048;
  const std::int64_t threads = (width + 256 * rounds - 1) / (256 * rounds) * 32;
  std::vector<float> p(threads * 8, 0.0f);
  for (std::int64_t i = 0; i < width; ++i) {
    float& partial = p[i % (threads * 8)];
    partial = squares ? std::fmaf(values[i], values[i], partial) : partial + values[i];
  }
  std::vector<float> t(threads);
  for (std::int64_t i = 0; i < threads; ++i) {
    const float* e = &p[8 * i];
    t[i] = ((e[0] + e[4]) + (e[2] + e[6])) + ((e[1] + e[5]) + (e[3] + e[7]));
  }
  std::vector<float> groups;
  for (std::int64_t g = 0; g < threads; g += 32) {
    std::vector<float> lanes(t.begin() + g, t.begin() + g + 32);
    for (int half = 16; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    groups.push_back(lanes[0]);
  }
  groups.resize(8, 0.0f);
  for (std::size_t half = 4; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) groups[i] += groups[i + half];
  }
  return groups[0];
}

template <typename T>
float Rounded(float x) {
  return static_cast<float>(T(x));
}

template <typename T>
class Norm : public ::testing::Test {};
using Types = ::testing::Types<__half, __nv_bfloat16, float>;
TYPED_TEST_SUITE(Norm, Types);

TYPED_TEST(Norm, RowsAreAlone) {
  for (const std::int64_t width : kWidths) {
    for (const Options& o : kOptions) {
      SCOPED_TRACE("width " + std::to_string(width));
      constexpr std::int64_t kRows = 131;
      Problem<TypeParam> whole(kRows, width, o), parts(1, width, o);
      whole.Run(0, kRows, whole);
      Problem<TypeParam> pieces(kRows, width, o);
      for (std::int64_t first = 0, count = 1; first < kRows;
           first += count, count = count % 9 + 1) {
        whole.Run(first, std::min(count, kRows - first), pieces);
      }
      EXPECT_EQ(Differences(whole.y.data(), width, pieces.y.data(), width, kRows, width), 0u);
      EXPECT_EQ(Differences(whole.inv_std.data(), 1, pieces.inv_std.data(), 1, kRows, 1), 0u);
      EXPECT_EQ(Differences(whole.mean.data(), 1, pieces.mean.data(), 1, kRows, 1), 0u);
      if (o.skip) {
        EXPECT_EQ(Differences(whole.sum.data(), width, pieces.sum.data(), width, kRows, width), 0u);
      }
      EXPECT_TRUE(whole.y.GuardsIntact());
    }
  }
}

TYPED_TEST(Norm, NanAndInfStayInTheirRow) {
  constexpr std::int64_t kRows = 20;
  for (const std::int64_t width : {80, 4096, 20001}) {
    for (const Options& o : kOptions) {
      Problem<TypeParam> clean(kRows, width, o);
      clean.Run(0, kRows, clean);
      Problem<TypeParam> after(kRows, width, o);
      std::vector<TypeParam> x = clean.x.Host();
      for (std::int64_t row = 1; row < kRows; row += 2) {
        x[row * width + row % width] = TypeParam(row % 4 == 1 ? NAN : INFINITY);
      }
      clean.x.Set(x);
      clean.Run(0, kRows, after);
      EXPECT_EQ(Differences(clean.y.data(), 2 * width, after.y.data(), 2 * width, kRows / 2, width),
                0u);
      EXPECT_GT(Differences(clean.y.data() + width, 2 * width, after.y.data() + width, 2 * width,
                            kRows / 2, width),
                0u);
    }
  }
}

TYPED_TEST(Norm, HasTheBytesOfTheContract) {
  for (const std::int64_t width : kWidths) {
    for (const Options& o : kOptions) {
      SCOPED_TRACE("width " + std::to_string(width));
      Problem<TypeParam> problem(2, width, o);
      problem.Run(0, 2, problem);
      const auto x = problem.x.Host(), skip = problem.skip.Host(), bias = problem.bias.Host(),
                 gamma = problem.gamma.Host(), beta = problem.beta.Host(), y = problem.y.Host();
      const auto inv_std = problem.inv_std.Host();
      std::uint64_t different = 0;
      double error = 0.0, norm = 0.0;
      for (std::int64_t row = 0; row < 2; ++row) {
        std::vector<float> s(width), d(width);
        double exact_mean = 0.0, exact_square = 0.0;
        for (std::int64_t i = 0; i < width; ++i) {
          float value = static_cast<float>(x[row * width + i]);
          if (o.skip) value += static_cast<float>(skip[row * width + i]);
          if (o.bias) value += static_cast<float>(bias[i]);
          s[i] = Rounded<TypeParam>(value);
          exact_mean += o.layer ? s[i] / static_cast<double>(width) : 0.0;
        }
        const float n = static_cast<float>(width);
        const float mean = o.layer ? ContractSum(s, false) / n : 0.0f;
        for (std::int64_t i = 0; i < width; ++i) {
          d[i] = o.layer ? s[i] - mean : s[i];
          exact_square += (s[i] - exact_mean) * (s[i] - exact_mean) / width;
        }
        const float inverse = 1.0f / std::sqrt(ContractSum(d, true) / n + 1e-5f);
        different += inverse != inv_std[row];
        for (std::int64_t i = 0; i < width; ++i) {
          float value = d[i] * inverse;
          if (o.round_before_scale) value = Rounded<TypeParam>(value);
          const float g = static_cast<float>(gamma[i]);
          value = o.beta ? std::fmaf(value, g, static_cast<float>(beta[i])) : value * g;
          const float got = static_cast<float>(y[row * width + i]);
          different += Rounded<TypeParam>(value) != got;
          const double exact = (s[i] - exact_mean) / std::sqrt(exact_square + 1e-5) * g +
                               (o.beta ? static_cast<double>(static_cast<float>(beta[i])) : 0.0);
          error += (got - exact) * (got - exact);
          norm += exact * exact;
        }
        Compared() += width;
      }
      EXPECT_EQ(different, 0u);
      const double limit = std::is_same_v<TypeParam, float>    ? 1e-6
                           : std::is_same_v<TypeParam, __half> ? 1e-3
                                                               : 8e-3;
      if (width > 1) EXPECT_LT(std::sqrt(error / norm), limit);
    }
  }
}

// The comparison sees another tree: the plain ascending sum.
TEST(NormComparison, SeesAnotherOrder) {
  Problem<float> problem(8, 4096, {});
  problem.Run(0, 8, problem);
  const auto x = problem.x.Host();
  const auto inv_std = problem.inv_std.Host();
  int different = 0;
  for (int row = 0; row < 8; ++row) {
    float sum = 0.0f;
    for (int i = 0; i < 4096; ++i) sum = std::fmaf(x[row * 4096 + i], x[row * 4096 + i], sum);
    different += 1.0f / std::sqrt(sum / 4096.0f + 1e-5f) != inv_std[row];
  }
  EXPECT_GT(different, 0);
}

TEST(NormErrors, NamesWhatIsWrong) {
  Problem<float> problem(4, 64, {});
  NormArgs args;
  args.rows = 4;
  args.width = 64;
  EXPECT_EQ(RmsNorm(args, nullptr).code, StatusCode::kInvalidArgument);
  args.x = problem.x.data();
  args.y = problem.y.data();
  args.skip = problem.skip.data();
  args.skip_rows = 3;
  EXPECT_EQ(LayerNorm(args, nullptr).code, StatusCode::kInvalidArgument);
  args.skip_rows = 2;
  EXPECT_TRUE(LayerNorm(args, nullptr).ok());
  args.rows = 0;
  EXPECT_TRUE(RmsNorm(args, nullptr).ok());
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
