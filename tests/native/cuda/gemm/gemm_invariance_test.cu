// The bytes of a row do not depend on the other rows, on how many there are, on where it stands, on
// the stream or on graph capture. The last test shows that the comparison can fail.
#include <vector>

#include "batch_invariant/cuda/gemm.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "cuda/gemm/reference.cuh"

namespace batch_invariant::cuda::test {
namespace {

template <typename T>
class GemmInvarianceTest : public ::testing::Test {
 protected:
  // y = a[first : first + rows] b, b as [n, k].
  static Status Run(const T* a, const T* b, std::int64_t first, std::int64_t rows, std::int64_t n,
                    std::int64_t k, T* y, Stream stream = nullptr) {
    GemmArgs g;
    g.type = ElementTypeOf<T>();
    g.m = rows;
    g.n = n;
    g.k = k;
    g.a = {a + first * k, k, 1};
    g.b = {b, 1, k};
    g.y = y;
    g.y_row_stride = n;
    return Gemm(g, stream);
  }
};

using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(GemmInvarianceTest, Types);

TYPED_TEST(GemmInvarianceTest, RowCountAndPosition) {
  using T = TypeParam;
  const bool is_float = sizeof(T) == 4;
  struct Case {
    std::int64_t n, k, rows;
  };
  const std::vector<Case> cases =
      is_float ? std::vector<Case>{{256, 512, 1024}}
               : std::vector<Case>{{512, 4096, 8192}, {4096, 1024, 4096}, {264, 14336, 2048}};
  for (const auto& [n, k, max_rows] : cases) {
    Buffer<T> a(max_rows * k), b(n * k), whole(max_rows * n), y(max_rows * n);
    Randomize(a.data(), a.size(), k);
    Randomize(b.data(), b.size(), k);
    ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, max_rows, n, k, whole.data()));
    std::vector<std::int64_t> counts;
    for (std::int64_t m = 1; m <= 64; ++m) counts.push_back(m);
    for (std::int64_t m = 65; m < max_rows; m += m / 3 + 1) counts.push_back(m);
    counts.push_back(max_rows);
    for (const std::int64_t m : counts) {
      // First rows, last rows, and a window that starts at an odd place.
      for (const std::int64_t first : {std::int64_t{0}, max_rows - m, (max_rows - m) / 2 | 1}) {
        if (first + m > max_rows) continue;
        y.Poison();
        ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), first, m, n, k, y.data()));
        ASSERT_EQ(Differences(y.data(), n, whole.data() + first * n, n, m, n), 0u)
            << "rows " << m << " from " << first << " n " << n << " k " << k;
      }
    }
  }
}

TYPED_TEST(GemmInvarianceTest, NeighboursWithNanAndInfinity) {
  using T = TypeParam;
  const std::int64_t n = 384, k = sizeof(T) == 4 ? 300 : 2048;
  for (const std::int64_t m : {2, 8, 16, 17, 33, 64, 65, 128, 200, 513}) {
    Buffer<T> a(m * k), b(n * k), clean(m * n), y(m * n);
    Randomize(a.data(), a.size(), k);
    Randomize(b.data(), b.size(), k);
    ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, clean.data()));
    for (const std::int64_t row : {std::int64_t{0}, m / 2, m - 1}) {
      Buffer<T> hostile(m * k);
      cudaMemcpy(hostile.data(), a.data(), m * k * sizeof(T), cudaMemcpyDeviceToDevice);
      for (std::int64_t other = 0; other < m; ++other) {
        if (other == row) continue;
        const float value = other % 3 == 0 ? NAN : other % 3 == 1 ? INFINITY : -INFINITY;
        FillValue<<<static_cast<unsigned>((k + 255) / 256), 256>>>(hostile.data() + other * k, k,
                                                                   value);
      }
      y.Poison();
      ASSERT_STATUS_OK(TestFixture::Run(hostile.data(), b.data(), 0, m, n, k, y.data()));
      ASSERT_EQ(Differences(y.data() + row * n, n, clean.data() + row * n, n, 1, n), 0u)
          << "row " << row << " of " << m;
    }
  }
}

TYPED_TEST(GemmInvarianceTest, StreamsGraphsAndRepeats) {
  using T = TypeParam;
  const std::int64_t n = 512, k = 1024;
  for (const std::int64_t m : {1, 30, 64, 300}) {
    Buffer<T> a(m * k), b(n * k), first(m * n), y(m * n), y2(m * n);
    Randomize(a.data(), a.size(), k);
    Randomize(b.data(), b.size(), k);
    ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, first.data()));
    ASSERT_CUDA(cudaDeviceSynchronize());

    cudaStream_t streams[2];
    for (cudaStream_t& stream : streams) {
      ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    }
    for (int repeat = 0; repeat < 20; ++repeat) {
      y.Poison();
      y2.Poison();
      ASSERT_CUDA(cudaDeviceSynchronize());
      ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, y.data(), streams[0]));
      ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, y2.data(), streams[1]));
      ASSERT_CUDA(cudaDeviceSynchronize());
      ASSERT_EQ(Differences(y.data(), n, first.data(), n, m, n), 0u);
      ASSERT_EQ(Differences(y2.data(), n, first.data(), n, m, n), 0u);
    }

    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ASSERT_CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
    ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, y.data(), streams[0]));
    ASSERT_CUDA(cudaStreamEndCapture(streams[0], &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (int replay = 0; replay < 3; ++replay) {
      y.Poison();
      ASSERT_CUDA(cudaDeviceSynchronize());
      ASSERT_CUDA(cudaGraphLaunch(executable, streams[0]));
      ASSERT_CUDA(cudaStreamSynchronize(streams[0]));
      ASSERT_EQ(Differences(y.data(), n, first.data(), n, m, n), 0u) << "replay " << replay;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    for (cudaStream_t stream : streams) cudaStreamDestroy(stream);
  }
}

// Two halves of K, each its own accumulator, added at the end: what a split-K kernel does. The
// comparison that the tests above rest on must see it.
TYPED_TEST(GemmInvarianceTest, SplittingKIsSeen) {
  using T = TypeParam;
  const std::int64_t m = 64, n = 256, k = 4096;
  Buffer<T> a(m * k), b(n * k), y(m * n), split(m * n);
  Randomize(a.data(), a.size(), k);
  Randomize(b.data(), b.size(), k);
  ASSERT_STATUS_OK(TestFixture::Run(a.data(), b.data(), 0, m, n, k, y.data()));
  Buffer<float> low(m * n), high(m * n);
  ReferenceSums<T>(a.data(), b.data(), low.data(), {m, n, 0, k / 2, k, 1, 1, k});
  ReferenceSums<T>(a.data(), b.data(), high.data(), {m, n, k / 2, k, k, 1, 1, k});
  std::vector<float> sums = low.Host();
  const std::vector<float> rest = high.Host();
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += rest[i];
  low.Set(sums);
  Finish<T>(low.data(), nullptr, 0, 0, 1.0f, 1.0f, m, n, split.data(), n);
  const std::uint64_t different = Differences(y.data(), n, split.data(), n, m, n);
  std::printf("split K: %llu of %lld elements differ\n", static_cast<unsigned long long>(different),
              static_cast<long long>(m * n));
  EXPECT_GT(different, 0u);
}

}  // namespace
}  // namespace batch_invariant::cuda::test
