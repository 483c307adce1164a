// Every GEMM kernel against the plain reference, bit for bit, and against float64.
#include <cmath>
#include <string>
#include <vector>

#include "batch_invariant/cuda/elementwise.h"
#include "batch_invariant/cuda/gemm.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "cuda/gemm/reference.cuh"
#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda::test {
namespace {

DeviceInfo Device() {
  DeviceInfo device;
  EXPECT_TRUE(CurrentDevice(&device).ok());
  return device;
}

template <typename T>
class GemmTest : public ::testing::Test {
 protected:
  using Type = T;

  // y of the reference for a [m, k] and b as [n, k], both with rows of `stride` elements.
  static void Reference(const T* a, const T* b, std::int64_t m, std::int64_t n, std::int64_t k,
                        std::int64_t stride, T* y) {
    Buffer<float> sums(m * n);
    ReferenceSums<T>(a, b, sums.data(), {m, n, 0, k, stride, 1, 1, stride});
    Finish<T>(sums.data(), nullptr, 0, 0, 1.0f, 1.0f, m, n, y, n);
    ASSERT_CUDA(cudaDeviceSynchronize());
  }

  static GemmArgs Args(const T* a, const T* b, std::int64_t m, std::int64_t n, std::int64_t k,
                       std::int64_t stride, T* y) {
    GemmArgs g;
    g.type = ElementTypeOf<T>();
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = {a, stride, 1};
    g.b = {b, 1, stride};
    g.y = y;
    g.y_row_stride = n;
    return g;
  }
};

using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(GemmTest, Types);

struct Shape {
  std::int64_t m, n, k;
};

TYPED_TEST(GemmTest, EveryKernelGivesTheReferenceBytes) {
  using T = TypeParam;
  const DeviceInfo device = Device();
  const Shape shapes[] = {{1, 64, 64},      {1, 4096, 4096},   {2, 100, 80},     {3, 8, 16},
                          {7, 1000, 1000},  {8, 512, 4096},    {9, 256, 14336},  {16, 520, 1024},
                          {17, 96, 2048},   {31, 512, 4096},   {33, 1032, 520},  {48, 256, 14336},
                          {64, 1024, 4096}, {65, 264, 1024},   {100, 512, 264},  {128, 320, 4096},
                          {129, 776, 512},  {200, 512, 14336}, {257, 1288, 640}, {300, 256, 4096},
                          {511, 768, 1024}, {640, 2056, 256},  {1030, 520, 128}};
  int kernels_run = 0;
  for (const Shape& s : shapes) {
    for (const Data data : kAllData) {
      if (s.m * s.n * s.k > 200'000'000 && data == Data::kIntegers) continue;
      const std::int64_t stride = (s.k + 7) / 8 * 8;
      Buffer<T> a(s.m * stride), b(s.n * stride), expected(s.m * s.n), y(s.m * s.n);
      Randomize(a.data(), a.size(), stride, data, false);
      Randomize(b.data(), b.size(), stride, data, true);
      TestFixture::Reference(a.data(), b.data(), s.m, s.n, s.k, stride, expected.data());
      const GemmArgs g = TestFixture::Args(a.data(), b.data(), s.m, s.n, s.k, stride, y.data());
      for (const GemmKernel& kernel : GemmKernels()) {
        if (!Serves(kernel, g, device)) continue;
        y.Poison();
        ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
        ASSERT_CUDA(cudaDeviceSynchronize()) << kernel.name;
        EXPECT_EQ(Differences(y.data(), s.n, expected.data(), s.n, s.m, s.n), 0u)
            << kernel.name << " m " << s.m << " n " << s.n << " k " << s.k << ' ' << Name(data);
        EXPECT_TRUE(y.GuardsIntact()) << kernel.name << " m " << s.m << " n " << s.n;
        ++kernels_run;
      }
    }
  }
  EXPECT_GT(kernels_run, 0);
}

// More tiles than blocks, so that a tile leaves while the next one is multiplied; few and many
// steps of K, fewer and more than a ring has stages. y has columns that belong to no one, which
// keep their bytes, and rows that are 16-byte aligned or are not.
TYPED_TEST(GemmTest, TilesFollowOneAnother) {
  using T = TypeParam;
  if constexpr (sizeof(T) == 2) {
    const DeviceInfo device = Device();
    int kernels_run = 0;
    for (const Shape& s :
         {Shape{3000, 4104, 64}, Shape{3000, 4104, 328}, Shape{2500, 2072, 1096}}) {
      Buffer<T> a(s.m * s.k), b(s.n * s.k), expected(s.m * s.n);
      Randomize(a.data(), a.size(), s.k);
      Randomize(b.data(), b.size(), s.k);
      TestFixture::Reference(a.data(), b.data(), s.m, s.n, s.k, s.k, expected.data());
      Buffer<unsigned char> packed(PackedGemmWeightBytes(ElementTypeOf<T>(), s.k, s.n));
      ASSERT_STATUS_OK(PackGemmWeights(ElementTypeOf<T>(), s.k, s.n, {b.data(), 1, s.k},
                                       packed.data(), nullptr));
      for (const std::int64_t pad : {8, 3}) {
        const std::int64_t stride = s.n + pad;
        Buffer<T> y(s.m * stride), untouched(s.m * pad);
        GemmArgs g = TestFixture::Args(a.data(), b.data(), s.m, s.n, s.k, s.k, y.data());
        g.y_row_stride = stride;
        for (const bool is_packed : {false, true}) {
          if (is_packed) {
            g.b = {};
            g.packed_b = packed.data();
          }
          for (const GemmKernel& kernel : GemmKernels()) {
            if (!Serves(kernel, g, device)) continue;
            y.Poison();
            ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
            ASSERT_CUDA(cudaDeviceSynchronize()) << kernel.name;
            EXPECT_EQ(Differences(y.data(), stride, expected.data(), s.n, s.m, s.n), 0u)
                << kernel.name << " k " << s.k << " pad " << pad << " packed " << is_packed;
            EXPECT_EQ(Differences(y.data() + s.n, stride, untouched.data(), pad, s.m, pad), 0u)
                << kernel.name << " wrote outside of y, pad " << pad;
            EXPECT_TRUE(y.GuardsIntact()) << kernel.name;
            ++kernels_run;
          }
        }
      }
    }
    EXPECT_GT(kernels_run, 0);
  }
}

// Small enough for compute-sanitizer: b by rows, by columns and packed, and gated.
TYPED_TEST(GemmTest, EachKernelOnce) {
  using T = TypeParam;
  const DeviceInfo device = Device();
  const std::int64_t m = 17, n = 72, k = 328;
  Buffer<T> a(m * k), by_rows(n * k), by_columns(n * k), expected(m * n), y(m * n);
  Buffer<unsigned char> packed(PackedGemmWeightBytes(ElementTypeOf<T>(), k, n)),
      alternating(PackedGemmWeightBytes(ElementTypeOf<T>(), k, 2 * n));
  Randomize(a.data(), a.size(), k);
  Randomize(by_columns.data(), by_columns.size(), n);
  const std::vector<T> stored = by_columns.Host();
  std::vector<T> transposed(n * k);
  for (std::int64_t i = 0; i < n * k; ++i) transposed[i] = stored[i % k * n + i / k];
  by_rows.Set(transposed);
  const MatrixView view{by_columns.data(), n, 1};
  ASSERT_STATUS_OK(PackGemmWeights(ElementTypeOf<T>(), k, n, view, packed.data(), nullptr));
  ASSERT_STATUS_OK(
      PackGatedGemmWeights(ElementTypeOf<T>(), k, n, view, view, alternating.data(), nullptr));
  TestFixture::Reference(a.data(), by_rows.data(), m, n, k, k, expected.data());
  GemmArgs rows = TestFixture::Args(a.data(), by_rows.data(), m, n, k, k, y.data());
  GemmArgs columns = rows, ready = rows;
  columns.b = {by_columns.data(), n, 1};
  ready.b = {};
  ready.packed_b = packed.data();
  ready.packed_b_is_ready = true;
  GemmArgs gated = ready;
  gated.n = 2 * n;
  gated.packed_b = alternating.data();
  gated.silu_gated = true;
  Buffer<T> expected_gated(m * n);
  GatedArgs gate{UnaryOp::kSilu, ElementTypeOf<T>(), true};
  gate.rows = m;
  gate.width = gate.gate_stride = gate.up_stride = gate.y_stride = n;
  gate.gate = gate.up = expected.data();
  gate.y = expected_gated.data();
  ASSERT_STATUS_OK(Gated(gate, nullptr));
  for (const GemmKernel& kernel : GemmKernels()) {
    for (const GemmArgs& args : {rows, columns, ready, gated}) {
      if (!Serves(kernel, args, device)) continue;
      y.Poison();
      ASSERT_STATUS_OK(kernel.launch(args, device, nullptr));
      const T* right = args.silu_gated ? expected_gated.data() : expected.data();
      EXPECT_EQ(Differences(y.data(), n, right, n, m, n), 0u) << kernel.name;
    }
  }
}

// b as ONNX stores it, read in place and packed; a transposed; unaligned bases and strides.
TYPED_TEST(GemmTest, LayoutsAndAlignmentChangeNoByte) {
  using T = TypeParam;
  const DeviceInfo device = Device();
  const Shape shapes[] = {{1, 64, 64},   {5, 33, 7},     {16, 128, 100},  {20, 200, 333},
                          {70, 264, 96}, {130, 136, 64}, {300, 65, 1001}, {128, 512, 2048}};
  for (const Shape& s : shapes) {
    for (const int offset : {0, 1, 3, 8}) {
      for (const int pad : {0, 1, 8}) {
        const std::int64_t lda = s.k + pad, ldb = s.n + pad, lda_t = s.m + pad;
        Buffer<T> a(s.m * lda + offset), b(s.k * ldb + offset), a_t(s.k * lda_t + offset);
        Buffer<T> expected(s.m * s.n), y(s.m * (s.n + pad) + offset);
        Randomize(a.data(), a.size(), lda);
        Randomize(b.data(), b.size(), ldb);
        Randomize(a_t.data(), a_t.size(), lda_t);
        Buffer<float> sums(s.m * s.n);
        for (const bool transposed : {false, true}) {
          const MatrixView view = transposed ? MatrixView{a_t.data() + offset, 1, lda_t}
                                             : MatrixView{a.data() + offset, lda, 1};
          ReferenceSums<T>(static_cast<const T*>(view.data), b.data() + offset, sums.data(),
                           {s.m, s.n, 0, s.k, view.row_stride, view.column_stride, ldb, 1});
          Finish<T>(sums.data(), nullptr, 0, 0, 1.0f, 1.0f, s.m, s.n, expected.data(), s.n);

          GemmArgs g;
          g.type = ElementTypeOf<T>();
          g.m = s.m;
          g.n = s.n;
          g.k = s.k;
          g.a = view;
          g.b = {b.data() + offset, ldb, 1};
          g.y = y.data() + offset;
          g.y_row_stride = s.n + pad;
          for (const GemmKernel& kernel : GemmKernels()) {
            if (!Serves(kernel, g, device)) continue;
            y.Poison();
            ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
            EXPECT_EQ(Differences(y.data() + offset, s.n + pad, expected.data(), s.n, s.m, s.n), 0u)
                << kernel.name << " m " << s.m << " n " << s.n << " k " << s.k << " offset "
                << offset << " pad " << pad << " transposed " << transposed;
            EXPECT_TRUE(y.GuardsIntact());
          }

          Buffer<unsigned char> packed(PackedGemmWeightBytes(g.type, s.k, s.n));
          ASSERT_STATUS_OK(PackGemmWeights(g.type, s.k, s.n, g.b, packed.data(), nullptr));
          EXPECT_TRUE(packed.GuardsIntact());
          g.b = {};
          g.packed_b = packed.data();
          for (const GemmKernel& kernel : GemmKernels()) {
            if (!Serves(kernel, g, device)) continue;
            y.Poison();
            ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
            EXPECT_EQ(Differences(y.data() + offset, s.n + pad, expected.data(), s.n, s.m, s.n), 0u)
                << kernel.name << " packed, m " << s.m << " n " << s.n << " k " << s.k;
          }
        }
      }
    }
  }
}

TYPED_TEST(GemmTest, AlphaBetaAndBroadcastC) {
  using T = TypeParam;
  const DeviceInfo device = Device();
  for (const Shape& s : {Shape{1, 64, 64}, Shape{19, 96, 256}, Shape{150, 296, 512}}) {
    Buffer<T> a(s.m * s.k), b(s.n * s.k), c(s.m * s.n), expected(s.m * s.n), y(s.m * s.n);
    Randomize(a.data(), a.size(), s.k);
    Randomize(b.data(), b.size(), s.k);
    Randomize(c.data(), c.size(), s.n);
    // A row of zeros: its sums are +0, and -0 once a negative alpha has scaled them.
    FillValue<<<static_cast<unsigned>((s.k + 255) / 256), 256>>>(a.data(), s.k, 0.0f);
    Buffer<float> sums(s.m * s.n);
    ReferenceSums<T>(a.data(), b.data(), sums.data(), {s.m, s.n, 0, s.k, s.k, 1, 1, s.k});
    const std::pair<std::int64_t, std::int64_t> strides[] = {{s.n, 1}, {0, 1}, {1, 0}, {0, 0}};
    const std::pair<float, float> scales[] = {
        {1.0f, 1.0f}, {0.3f, 1.0f}, {1.0f, -1.7f}, {0.7f, 0.0f}, {-0.7f, 0.0f}};
    for (const auto& [row, column] : strides) {
      for (const auto& [alpha, beta] : scales) {
        GemmArgs g = TestFixture::Args(a.data(), b.data(), s.m, s.n, s.k, s.k, y.data());
        g.c = {c.data(), row, column};
        g.alpha = alpha;
        g.beta = beta;
        Finish<T>(sums.data(), beta == 0.0f ? nullptr : c.data(), row, column, alpha, beta, s.m,
                  s.n, expected.data(), s.n);
        for (const GemmKernel& kernel : GemmKernels()) {
          if (!Serves(kernel, g, device)) continue;
          y.Poison();
          ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
          EXPECT_EQ(Differences(y.data(), s.n, expected.data(), s.n, s.m, s.n), 0u)
              << kernel.name << " alpha " << alpha << " beta " << beta << " c strides " << row
              << ' ' << column;
        }
      }
    }
  }
}

TYPED_TEST(GemmTest, BatchesEqualSingleProducts) {
  using T = TypeParam;
  const DeviceInfo device = Device();
  for (const Shape& s : {Shape{1, 64, 128}, Shape{40, 72, 96}, Shape{140, 264, 200}}) {
    constexpr std::int64_t kBatch = 5;
    Buffer<T> a(kBatch * s.m * s.k), b(kBatch * s.n * s.k);
    Buffer<T> expected(kBatch * s.m * s.n), y(kBatch * s.m * s.n);
    Randomize(a.data(), a.size(), s.k);
    Randomize(b.data(), b.size(), s.k);
    for (const bool share_a : {false, true}) {
      for (const bool share_b : {false, true}) {
        GemmArgs g = TestFixture::Args(a.data(), b.data(), s.m, s.n, s.k, s.k, y.data());
        g.batch = kBatch;
        g.a_batch_stride = share_a ? 0 : s.m * s.k;
        g.b_batch_stride = share_b ? 0 : s.n * s.k;
        g.y_batch_stride = s.m * s.n;
        for (std::int64_t p = 0; p < kBatch; ++p) {
          TestFixture::Reference(a.data() + p * g.a_batch_stride, b.data() + p * g.b_batch_stride,
                                 s.m, s.n, s.k, s.k, expected.data() + p * s.m * s.n);
        }
        for (const GemmKernel& kernel : GemmKernels()) {
          if (!Serves(kernel, g, device)) continue;
          y.Poison();
          ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
          EXPECT_EQ(Differences(y.data(), s.n, expected.data(), s.n, kBatch * s.m, s.n), 0u)
              << kernel.name << " shared a " << share_a << " shared b " << share_b;
        }
      }
    }
  }
}

// One fp32 accumulator over K: the error stays under K ulps of the sum of magnitudes, far from it
// in practice, plus one rounding to the element type.
TYPED_TEST(GemmTest, CloseToFloat64) {
  using T = TypeParam;
  const double element_epsilon = sizeof(T) == 4              ? 0.0
                                 : std::is_same_v<T, __half> ? std::ldexp(1.0, -11)
                                                             : std::ldexp(1.0, -8);
  for (const Shape& s : {Shape{5, 300, 4096}, Shape{100, 128, 14336}, Shape{260, 512, 1024}}) {
    Buffer<T> a(s.m * s.k), b(s.n * s.k), y(s.m * s.n);
    Randomize(a.data(), a.size(), s.k);
    Randomize(b.data(), b.size(), s.k);
    ASSERT_STATUS_OK(
        Gemm(TestFixture::Args(a.data(), b.data(), s.m, s.n, s.k, s.k, y.data()), nullptr));
    Buffer<double> exact(s.m * s.n), magnitude(s.m * s.n);
    ReferenceDouble<T><<<static_cast<unsigned>((s.m * s.n + 127) / 128), 128>>>(
        a.data(), b.data(), exact.data(), magnitude.data(), {s.m, s.n, 0, s.k, s.k, 1, 1, s.k});
    const std::vector<T> got = y.Host();
    const std::vector<double> want = exact.Host(), size = magnitude.Host();
    double error = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double value = static_cast<double>(static_cast<float>(got[i]));
      // The tensor cores truncate where they add, so one step may lose two ulps.
      const double bound =
          std::ldexp(size[i] * s.k, -24) * 0.125 + element_epsilon * std::abs(want[i]) + 1e-7;
      ASSERT_LE(std::abs(value - want[i]), bound) << "element " << i;
      error += (value - want[i]) * (value - want[i]);
      norm += want[i] * want[i];
    }
    const double relative = std::sqrt(error / norm);
    std::printf("k %lld: relative error %.2e\n", static_cast<long long>(s.k), relative);
    EXPECT_LT(relative, element_epsilon + 4e-5);
  }
}

TYPED_TEST(GemmTest, EmptyAndRefusedSizes) {
  using T = TypeParam;
  Buffer<T> a(64), b(64), c(8), y(64);
  Randomize(c.data(), c.size(), 8);
  GemmArgs g = TestFixture::Args(a.data(), b.data(), 4, 8, 0, 8, y.data());
  ASSERT_STATUS_OK(Gemm(g, nullptr));
  const std::vector<T> zeros = y.Host();
  for (int i = 0; i < 32; ++i) EXPECT_EQ(static_cast<float>(zeros[i]), 0.0f);
  g.m = 0;
  EXPECT_TRUE(Gemm(g, nullptr).ok());
  g.m = -1;
  EXPECT_EQ(Gemm(g, nullptr).code, StatusCode::kInvalidArgument);
  g.m = 4;
  g.k = 8;
  g.b.data = nullptr;
  EXPECT_EQ(Gemm(g, nullptr).code, StatusCode::kInvalidArgument);
  g.k = std::int64_t{1} << 40;
  EXPECT_EQ(Gemm(g, nullptr).code, StatusCode::kUnsupported);
}

// The fp32 contract is the CPU's: the same chain of fused multiply-adds, the same NaN.
TEST(GemmF32Test, EqualsTheChainOnTheHost) {
  const std::int64_t m = 7, n = 33, k = 517;
  Buffer<float> a(m * k), b(n * k), y(m * n);
  Randomize(a.data(), a.size(), k, Data::kSpread);
  Randomize(b.data(), b.size(), k, Data::kSpread);
  FillValue<<<1, 256>>>(a.data(), 1, NAN);  // the first row ends as NaN
  const DeviceInfo device = Device();
  const std::vector<float> host_a = a.Host(), host_b = b.Host();
  std::vector<float> expected(m * n);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      float acc = 0.0f;
      for (std::int64_t kk = 0; kk < k; ++kk) {
        acc = std::fma(host_a[i * k + kk], host_b[j * k + kk], acc);
      }
      if (std::isnan(acc)) {
        const std::uint32_t quiet = 0x7fc00000u;
        std::memcpy(&acc, &quiet, sizeof(acc));
      }
      expected[i * n + j] = acc;
    }
  }
  GemmArgs g;
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = {a.data(), k, 1};
  g.b = {b.data(), 1, k};
  g.y = y.data();
  g.y_row_stride = n;
  for (const GemmKernel& kernel : GemmKernels()) {
    if (!Serves(kernel, g, device)) continue;
    y.Poison();
    ASSERT_STATUS_OK(kernel.launch(g, device, nullptr));
    const std::vector<float> got = y.Host();
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0)
        << kernel.name;
    Compared() += got.size();
  }
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
