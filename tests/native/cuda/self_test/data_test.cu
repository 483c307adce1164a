// The self-test's data cancels as it says, and its comparison counts what differs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <set>
#include <vector>

#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "kernels/cuda/self_test/data.h"

namespace batch_invariant::cuda::test {
namespace {

float ToFloat(float x) { return x; }
float ToFloat(__half x) { return __half2float(x); }
float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

// The second `period` elements of a line repeat the first ones, negated where the line cancels, and
// a line that cancels ends in zeros. NaN, which the buffers hold at first, equals nothing.
void ExpectMirrored(const std::vector<float>& line, std::size_t period, bool cancels) {
  for (std::size_t i = 0; i < period; ++i) {
    EXPECT_EQ(line[period + i], cancels ? -line[i] : line[i]) << "element " << i;
  }
  for (std::size_t i = 2 * period; i < line.size(); ++i) {
    if (cancels) {
      EXPECT_EQ(line[i], 0.0f) << "element " << i;
    } else {
      EXPECT_TRUE(std::isfinite(line[i])) << "element " << i;
    }
  }
  Compared() += line.size();
}

template <typename T>
void FillsMatrices() {
  constexpr std::int64_t kRows = 6, kColumns = 70, kPeriod = 30;
  for (const bool by_rows : {true, false}) {
    for (const bool cancels : {true, false}) {
      SCOPED_TRACE(testing::Message()
                   << sizeof(T) << " bytes an element, " << (by_rows ? "rows" : "columns")
                   << " in memory, " << (cancels ? "cancelling" : "repeating"));
      Buffer<T> buffer(kRows * kColumns);
      const std::int64_t row_stride = by_rows ? kColumns : 1, column_stride = by_rows ? 1 : kRows;
      ASSERT_STATUS_OK(
          Fill({ElementTypeOf<T>(), buffer.data(), kRows, kColumns, row_stride, column_stride,
                kPeriod, cancels, 3.0f, static_cast<std::uint32_t>(NextSeed())},
               nullptr));
      const std::vector<T> host = buffer.Host();
      EXPECT_TRUE(buffer.GuardsIntact());
      for (std::int64_t row = 0; row < kRows; ++row) {
        std::vector<float> line;
        for (std::int64_t column = 0; column < kColumns; ++column) {
          line.push_back(ToFloat(host[row * row_stride + column * column_stride]));
        }
        ExpectMirrored(line, kPeriod, cancels && row % 2 == 0);
        EXPECT_GT(std::set<float>(line.begin(), line.end()).size(), std::size_t{kPeriod} / 2);
      }
    }
  }
}

template <typename T>
void FillsWeights(int bits, ZeroPoints zero_points) {
  constexpr std::int64_t kN = 6, kBlock = 32, kBlocks = 5, kPeriod = 2 * kBlock;
  SCOPED_TRACE(testing::Message() << bits << " bits");
  MatMulNBitsPlan plan;
  ASSERT_STATUS_OK(MakeMatMulNBitsPlan(ElementTypeOf<T>(), kBlocks * kBlock, kN, bits, kBlock,
                                       zero_points, &plan));
  const std::int64_t zero_bytes = (kBlocks * bits + 7) / 8;
  Buffer<std::uint8_t> b(kN * kBlocks * kBlock * bits / 8), zeros(kN * zero_bytes);
  Buffer<T> scales(kN * kBlocks);
  const bool has_zeros = zero_points == ZeroPoints::kPacked;
  ASSERT_STATUS_OK(FillNBits(plan, kPeriod, 0.5f, static_cast<std::uint32_t>(NextSeed()), b.data(),
                             scales.data(), has_zeros ? zeros.data() : nullptr, nullptr));
  const auto host_b = b.Host(), host_zeros = zeros.Host();
  const std::vector<T> host_scales = scales.Host();
  EXPECT_TRUE(b.GuardsIntact() && zeros.GuardsIntact() && scales.GuardsIntact());
  const auto code = [bits](const std::uint8_t* bytes, std::int64_t i) {
    const std::int64_t bit = i * bits;
    return (bytes[bit / 8] >> (bit % 8)) & ((1 << bits) - 1);
  };
  for (std::int64_t n = 0; n < kN; ++n) {
    std::vector<float> line;
    for (std::int64_t k = 0; k < plan.k; ++k) {
      const std::int64_t block = k / kBlock;
      const int zero =
          has_zeros ? code(host_zeros.data() + n * zero_bytes, block) : 1 << (bits - 1);
      const int difference = code(host_b.data() + n * plan.k * bits / 8, k) - zero;
      line.push_back(static_cast<float>(difference) * ToFloat(host_scales[n * kBlocks + block]));
    }
    ExpectMirrored(line, kPeriod, n % 2 == 0);
    EXPECT_GT(std::abs(ToFloat(host_scales[n * kBlocks])), 0.0f);
  }
}

template <typename Word>
void Counts(std::int64_t count, const std::vector<std::int64_t>& spoilt) {
  Buffer<Word> x(count), y(count);
  Buffer<std::uint32_t> different(1);
  std::vector<Word> host(count);
  std::mt19937_64 random(NextSeed());
  for (Word& word : host) word = static_cast<Word>(random());
  x.Set(host);
  for (const std::int64_t i : spoilt) host[i] ^= Word{1} << (i % (8 * sizeof(Word)));
  y.Set(host);
  different.Set({5});
  ASSERT_STATUS_OK(
      CountDifferent(x.data(), y.data(), count, sizeof(Word), different.data(), nullptr));
  EXPECT_EQ(different.Host()[0], 5 + spoilt.size());
  Compared() += static_cast<std::uint64_t>(count);
}

TEST(SelfTestData, EachKernelOnce) {
  FillsMatrices<float>();
  FillsMatrices<__half>();
  FillsMatrices<__nv_bfloat16>();
  FillsWeights<__half>(4, ZeroPoints::kPacked);
  FillsWeights<__half>(8, ZeroPoints::kDefault);
  FillsWeights<__nv_bfloat16>(4, ZeroPoints::kDefault);
  FillsWeights<float>(8, ZeroPoints::kPacked);

  Buffer<std::int32_t> sequence(300);
  ASSERT_STATUS_OK(FillSequence(sequence.data(), 300, 100, -3, nullptr));
  const auto host = sequence.Host();
  for (int i = 0; i < 300; ++i) EXPECT_EQ(host[i], 100 - 3 * i);
  EXPECT_TRUE(sequence.GuardsIntact());

  Counts<std::uint16_t>(1000, {0, 31, 32, 500, 999});
  Counts<std::uint32_t>(1000, {0, 31, 32, 500, 999});
  Counts<std::uint32_t>(257, {});
}

// The elements in descending order, through shared memory, without the barrier that this needs.
__global__ void ReversedKernel(const std::uint32_t* in, std::uint32_t* out) {
  __shared__ std::uint32_t all[256];
  all[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

// Not for itself: under racecheck, which must complain.
TEST(SelfTestData, DISABLED_ReadsBeforeTheBarrier) {
  constexpr int kCount = 256;
  Buffer<std::uint32_t> in(kCount), out(kCount);
  ReversedKernel<<<1, kCount>>>(in.data(), out.data());
  ASSERT_CUDA(cudaDeviceSynchronize());
  Compared() += kCount;
}

// Not for itself: under memcheck and initcheck, which must complain. Elements that nobody wrote are
// compared with those of a shorter piece of memory.
TEST(SelfTestData, DISABLED_ReadsWhatItMustNot) {
  constexpr std::int64_t kCount = 1000, kShort = 900;
  std::uint16_t* x = nullptr;
  std::uint16_t* y = nullptr;
  Buffer<std::uint32_t> different(1);
  ASSERT_CUDA(cudaMalloc(&x, kCount * sizeof(*x)));
  ASSERT_CUDA(cudaMalloc(&y, kShort * sizeof(*y)));
  ASSERT_STATUS_OK(CountDifferent(x, y, kCount, sizeof(*x), different.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  Compared() += kShort;
  cudaFree(y);
  cudaFree(x);
}

}  // namespace
}  // namespace batch_invariant::cuda::test
