// silu(a gate) * (a up) in one product has the bytes of the nodes one by one, from every kernel;
// and kernels that start before the ones ahead have finished see what those wrote.
#include <vector>

#include "batch_invariant/cuda/elementwise.h"
#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/norm.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda::test {
namespace {

template <typename T>
GemmArgs Args(const T* a, std::int64_t stride, std::int64_t m, std::int64_t n, std::int64_t k,
              const void* packed, T* y) {
  GemmArgs g;
  g.type = ElementTypeOf<T>();
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = {a, stride, 1};
  g.packed_b = packed;
  g.y = y;
  g.y_row_stride = n;
  return g;
}

template <typename T>
void Multiply(const T* a, const T* b, T* y, std::int64_t count) {
  const std::int64_t shape[] = {count}, one[] = {1};
  ASSERT_STATUS_OK(Binary({BinaryOp::kMul, TypeOf<T>(), shape, a, one, b, one, y}, nullptr));
}

template <typename T>
class GatedGemmTest : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(GatedGemmTest, Types);

// Weights [k, n] each; every kernel that serves them, with each number of rows.
template <typename T>
void RunEveryKernel(std::int64_t n, std::int64_t k, const std::vector<std::int64_t>& rows,
                    int* kernels_run) {
  DeviceInfo device;
  ASSERT_STATUS_OK(CurrentDevice(&device));
  Buffer<T> gate(k * n), up(k * n);
  Randomize(gate.data(), gate.size(), n);
  Randomize(up.data(), up.size(), n);
  Buffer<unsigned char> packed_gate(PackedGemmWeightBytes(ElementTypeOf<T>(), k, n)),
      packed_up(PackedGemmWeightBytes(ElementTypeOf<T>(), k, n)),
      packed(PackedGemmWeightBytes(ElementTypeOf<T>(), k, 2 * n));
  ASSERT_STATUS_OK(
      PackGemmWeights(ElementTypeOf<T>(), k, n, {gate.data(), n, 1}, packed_gate.data(), nullptr));
  ASSERT_STATUS_OK(
      PackGemmWeights(ElementTypeOf<T>(), k, n, {up.data(), n, 1}, packed_up.data(), nullptr));
  ASSERT_STATUS_OK(PackGatedGemmWeights(ElementTypeOf<T>(), k, n, {gate.data(), n, 1},
                                        {up.data(), n, 1}, packed.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  ASSERT_TRUE(packed.GuardsIntact());
  for (const std::int64_t m : rows) {
    // A stride that is no multiple of 16 bytes sends it to a kernel that does not gate.
    for (const std::int64_t stride : {k, k + 3}) {
      Buffer<T> a(m * stride), g(m * n), u(m * n), s(m * n), y(m * n);
      Randomize(a.data(), a.size(), k);
      ASSERT_STATUS_OK(
          Gemm(Args(a.data(), stride, m, n, k, packed_gate.data(), g.data()), nullptr));
      ASSERT_STATUS_OK(Gemm(Args(a.data(), stride, m, n, k, packed_up.data(), u.data()), nullptr));
      UnaryArgs unary{UnaryOp::kSigmoid, TypeOf<T>(), m, n, 1.0f, g.data(), nullptr, s.data()};
      ASSERT_STATUS_OK(Unary(unary, nullptr));
      Multiply(g.data(), s.data(), s.data(), m * n);
      Multiply(s.data(), u.data(), s.data(), m * n);

      GemmArgs args = Args(a.data(), stride, m, 2 * n, k, packed.data(), y.data());
      args.silu_gated = true;
      args.y_row_stride = n;
      args.packed_b_is_ready = true;
      std::size_t bytes = 0;
      ASSERT_STATUS_OK(GatedGemmWorkspaceBytes(args, &bytes));
      Buffer<unsigned char> workspace(bytes);
      ASSERT_STATUS_OK(GatedGemm(args, workspace.data(), nullptr));
      EXPECT_EQ(Differences(y.data(), n, s.data(), n, m, n), 0u)
          << "m " << m << " n " << n << " k " << k << " stride " << stride;
      EXPECT_TRUE(y.GuardsIntact());
      for (const GemmKernel& kernel : GemmKernels()) {
        if (!Serves(kernel, args, device)) continue;
        y.Poison();
        ASSERT_STATUS_OK(kernel.launch(args, device, nullptr));
        EXPECT_EQ(Differences(y.data(), n, s.data(), n, m, n), 0u)
            << kernel.name << " m " << m << " n " << n << " k " << k;
        EXPECT_TRUE(y.GuardsIntact()) << kernel.name;
        ++*kernels_run;
      }
    }
  }
}

void ExpectKernels(int kernels_run, std::size_t element_bytes) {
  DeviceInfo device;
  ASSERT_STATUS_OK(CurrentDevice(&device));
  if (device.compute_capability == 90 && element_bytes == 2) EXPECT_GT(kernels_run, 0);
}

TYPED_TEST(GatedGemmTest, EveryKernelHasTheBytesOfTheNodes) {
  using T = TypeParam;
  struct Shape {
    std::int64_t n, k;
  };
  int kernels_run = 0;
  for (const auto& [n, k] : std::vector<Shape>{{72, 200}, {8, 64}, {264, 1024}, {520, 4096}}) {
    RunEveryKernel<T>(n, k, {1, 7, 16, 33, 64, 130, 300}, &kernels_run);
  }
  if (sizeof(T) == 2) RunEveryKernel<T>(2056, 320, {1600}, &kernels_run);  // tiles in a row
  ExpectKernels(kernels_run, sizeof(T));
}

// Small enough for compute-sanitizer.
TYPED_TEST(GatedGemmTest, EachKernelOnce) {
  using T = TypeParam;
  int kernels_run = 0;
  RunEveryKernel<T>(72, 200, {130}, &kernels_run);
  ExpectKernels(kernels_run, sizeof(T));
}

// A step of a decoder in small: every kernel reads what the one before wrote, and writes over what
// the one before that read.
TYPED_TEST(GatedGemmTest, KernelsThatOverlapSeeEachOther) {
  using T = TypeParam;
  constexpr std::int64_t kWidth = 1024, kInner = 2048, kRounds = 40;
  Buffer<T> up(kWidth * kInner), down(kInner * kWidth), gamma(kWidth), first(64 * kWidth);
  Randomize(up.data(), up.size(), kWidth);
  Randomize(down.data(), down.size(), kInner);
  // Small, so that no product leaves fp16.
  FillValue<<<(kWidth + 255) / 256, 256>>>(gamma.data(), kWidth, 0x1p-6f);
  Randomize(first.data(), first.size(), kWidth);
  Buffer<unsigned char> packed_up(PackedGemmWeightBytes(ElementTypeOf<T>(), kWidth, 2 * kInner)),
      packed_down(PackedGemmWeightBytes(ElementTypeOf<T>(), kInner, kWidth));
  ASSERT_STATUS_OK(PackGatedGemmWeights(ElementTypeOf<T>(), kWidth, kInner, {up.data(), kInner, 1},
                                        {up.data(), kInner, 1}, packed_up.data(), nullptr));
  ASSERT_STATUS_OK(PackGemmWeights(ElementTypeOf<T>(), kInner, kWidth, {down.data(), kWidth, 1},
                                   packed_down.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const std::int64_t m : {1, 8, 64}) {
    const auto run = [&](T* x, T* normed, T* inner, unsigned char* workspace, bool synchronized) {
      const auto settle = [&] {
        return !synchronized || cudaStreamSynchronize(stream) == cudaSuccess;
      };
      for (int round = 0; round < kRounds; ++round) {
        NormArgs norm;
        norm.type = ElementTypeOf<T>();
        norm.rows = m;
        norm.width = kWidth;
        norm.epsilon = 1e-5f;
        norm.x = x;
        norm.gamma = gamma.data();
        norm.gamma_is_ready = true;
        norm.y = normed;
        ASSERT_STATUS_OK(RmsNorm(norm, stream));
        ASSERT_TRUE(settle());
        GemmArgs gated = Args(normed, kWidth, m, 2 * kInner, kWidth, packed_up.data(), inner);
        gated.silu_gated = true;
        gated.y_row_stride = kInner;
        gated.packed_b_is_ready = true;
        ASSERT_STATUS_OK(GatedGemm(gated, workspace, stream));
        ASSERT_TRUE(settle());
        GemmArgs back = Args(inner, kInner, m, kWidth, kInner, packed_down.data(), x);
        back.packed_b_is_ready = true;
        ASSERT_STATUS_OK(Gemm(back, stream));
        ASSERT_TRUE(settle());
      }
    };
    Buffer<T> x(m * kWidth), expected(m * kWidth), normed(m * kWidth), inner(m * kInner);
    Buffer<unsigned char> workspace(m * 2 * kInner * sizeof(T));
    const auto start = [&](T* to) {
      return cudaMemcpy(to, first.data(), m * kWidth * sizeof(T), cudaMemcpyDeviceToDevice);
    };
    ASSERT_CUDA(start(expected.data()));
    ASSERT_CUDA(cudaDeviceSynchronize());
    run(expected.data(), normed.data(), inner.data(), workspace.data(), true);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    run(x.data(), normed.data(), inner.data(), workspace.data(), false);
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (const bool captured : {false, true, true}) {
      ASSERT_CUDA(start(x.data()));
      normed.Poison();
      inner.Poison();
      ASSERT_CUDA(cudaDeviceSynchronize());
      if (captured) {
        ASSERT_CUDA(cudaGraphLaunch(executable, stream));
      } else {
        run(x.data(), normed.data(), inner.data(), workspace.data(), false);
      }
      ASSERT_CUDA(cudaStreamSynchronize(stream));
      EXPECT_EQ(Differences(x.data(), kWidth, expected.data(), kWidth, m, kWidth), 0u)
          << "m " << m << " captured " << captured;
    }
    ASSERT_CUDA(cudaGraphExecDestroy(executable));
    ASSERT_CUDA(cudaGraphDestroy(graph));
  }
  ASSERT_CUDA(cudaStreamDestroy(stream));
}

}  // namespace
}  // namespace batch_invariant::cuda::test
