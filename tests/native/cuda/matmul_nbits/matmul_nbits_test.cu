// Every MatMulNBits kernel against dequantisation written out plainly and the GEMM reference, bit
// for bit; and that a row's bytes do not depend on the others.
#include <cmath>
#include <string>
#include <vector>

#include "batch_invariant/cuda/elementwise.h"
#include "batch_invariant/cuda/matmul_nbits.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"
#include "cuda/gemm/reference.cuh"
#include "kernels/cuda/matmul_nbits/nbits_kernels.h"

namespace batch_invariant::cuda::test {
namespace {

__global__ void RandomBytes(std::uint8_t* out, std::size_t count, std::uint64_t seed) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) out[i] = static_cast<std::uint8_t>(Mix(seed ^ Mix(i)) >> 17);
}

void Randomize(std::uint8_t* out, std::size_t count) {
  RandomBytes<<<static_cast<unsigned>((count + 255) / 256), 256>>>(out, count, NextSeed());
}

// Zero points of the element type: integers and what lies between them.
template <typename T>
__global__ void RandomZeros(T* out, std::size_t count, float limit, std::uint64_t seed) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float u = static_cast<float>(Mix(seed ^ Mix(i)) >> 40) * 0x1p-24f * limit;
  out[i] = FromFloat<T>(i % 2 ? u : floorf(u));
}

// w [n, k], as the operator's definition has it.
template <typename T>
__global__ void Dequantize(MatMulNBitsPlan plan, const std::uint8_t* b, const T* scales,
                           const void* zeros, const std::int32_t* group_index, T* w) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= plan.n * plan.k) return;
  const std::int64_t n = i / plan.k, k = i % plan.k;
  const std::int64_t blocks = (plan.k + plan.block_size - 1) / plan.block_size;
  const std::int64_t blob = plan.block_size * plan.bits / 8;
  const auto mask = (1u << plan.bits) - 1;
  const std::int64_t bit = k % plan.block_size * plan.bits;
  const std::uint8_t byte = b[(n * blocks + k / plan.block_size) * blob + bit / 8];
  const std::int64_t block = group_index == nullptr ? k / plan.block_size : group_index[k];
  const auto code = static_cast<float>((byte >> (bit % 8)) & mask);
  float zero = static_cast<float>(1 << (plan.bits - 1));
  if (plan.zero_points == ZeroPoints::kPacked) {
    const std::int64_t row_bytes = (blocks * plan.bits + 7) / 8, zero_bit = block * plan.bits;
    const std::uint8_t packed =
        static_cast<const std::uint8_t*>(zeros)[n * row_bytes + zero_bit / 8];
    zero = static_cast<float>((packed >> (zero_bit % 8)) & mask);
  } else if (plan.zero_points == ZeroPoints::kElement) {
    zero = ToFloat(static_cast<const T*>(zeros)[n * blocks + block]);
  }
  w[i] = FromFloat<T>((code - zero) * ToFloat(scales[n * blocks + block]));
}

// Weights of one node: as ONNX has them, packed, and written out.
template <typename T>
struct Weights {
  Weights(std::int64_t k, std::int64_t n, int bits, std::int64_t block_size, ZeroPoints kind,
          bool has_group_index = false)
      : plan(MakePlan(k, n, bits, block_size, kind, has_group_index)),
        b(n * plan.blocks() * block_size * bits / 8),
        scales(n * plan.blocks()),
        packed_zeros(n * ((plan.blocks() * bits + 7) / 8)),
        element_zeros(n * plan.blocks()),
        group_index(k),
        packed(PackedMatMulNBitsBytes(plan)),
        w(n * k) {
    Randomize(b.data(), b.size());
    test::Randomize(scales.data(), scales.size(), plan.blocks());
    Randomize(packed_zeros.data(), packed_zeros.size());
    RandomZeros<T><<<static_cast<unsigned>((element_zeros.size() + 255) / 256), 256>>>(
        element_zeros.data(), element_zeros.size(), static_cast<float>(1 << bits), NextSeed());
    const void* zeros = kind == ZeroPoints::kPacked    ? static_cast<void*>(packed_zeros.data())
                        : kind == ZeroPoints::kElement ? static_cast<void*>(element_zeros.data())
                                                       : nullptr;
    std::vector<std::int32_t> indices(k);
    std::mt19937_64 random(NextSeed());
    for (std::int32_t& index : indices) index = static_cast<std::int32_t>(random() % plan.blocks());
    group_index.Set(indices);
    const std::int32_t* groups = has_group_index ? group_index.data() : nullptr;
    Dequantize<T><<<static_cast<unsigned>((n * k + 255) / 256), 256>>>(
        plan, b.data(), scales.data(), zeros, groups, w.data());
    const Status status =
        PackMatMulNBits(plan, b.data(), scales.data(), zeros, packed.data(), nullptr, groups);
    EXPECT_TRUE(status.ok()) << status.message;
    EXPECT_TRUE(packed.GuardsIntact());
  }

  static MatMulNBitsPlan MakePlan(std::int64_t k, std::int64_t n, int bits, std::int64_t block_size,
                                  ZeroPoints kind, bool has_group_index) {
    MatMulNBitsPlan plan;
    const Status status = MakeMatMulNBitsPlan(ElementTypeOf<T>(), k, n, bits, block_size, kind,
                                              &plan, has_group_index);
    EXPECT_TRUE(status.ok()) << status.message;
    return plan;
  }

  MatMulNBitsArgs Args(std::int64_t m, const T* a, T* y) const {
    MatMulNBitsArgs args;
    args.m = m;
    args.a = a;
    args.a_row_stride = plan.k;
    args.packed = packed.data();
    args.y = y;
    args.y_row_stride = plan.n;
    return args;
  }

  MatMulNBitsPlan plan;
  Buffer<std::uint8_t> b;
  Buffer<T> scales;
  Buffer<std::uint8_t> packed_zeros;
  Buffer<T> element_zeros;
  Buffer<std::int32_t> group_index;
  Buffer<std::uint8_t> packed;
  Buffer<T> w;
};

__global__ void AddSums(const float* part, std::size_t count, float* sums) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) sums[i] = __fadd_rn(sums[i], part[i]);
}

// fp32 sums by the contract: each run of K by itself, then their sums, ascending.
template <typename T>
void ReferenceRuns(const MatMulNBitsPlan& plan, int runs, const T* a, const T* w, std::int64_t m,
                   Buffer<float>* sums) {
  const std::int64_t n = plan.n, k = plan.k, length = k / runs;
  ReferenceSums<T>(a, w, sums->data(), {m, n, 0, length, k, 1, 1, k});
  Buffer<float> part(m * n);
  for (int run = 1; run < runs; ++run) {
    ReferenceSums<T>(a, w, part.data(), {m, n, run * length, (run + 1) * length, k, 1, 1, k});
    AddSums<<<static_cast<unsigned>((m * n + 255) / 256), 256>>>(part.data(), m * n, sums->data());
  }
}

template <typename T>
class MatMulNBitsTest : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(MatMulNBitsTest, Types);

TYPED_TEST(MatMulNBitsTest, EveryKernelGivesTheReferenceBytes) {
  using T = TypeParam;
  DeviceInfo device;
  ASSERT_STATUS_OK(CurrentDevice(&device));
  struct Shape {
    std::int64_t n, k;
  };
  int kernels_run = 0;
  for (const int bits : {2, 4, 8}) {
    for (const std::int64_t block_size : {16, 32, 64, 128, 256}) {
      for (const ZeroPoints kind :
           {ZeroPoints::kDefault, ZeroPoints::kPacked, ZeroPoints::kElement}) {
        const std::vector<Shape> shapes =
            block_size == 32 ? std::vector<Shape>{{64, 128},   {1000, 1024}, {72, 200},
                                                  {256, 4096}, {17, 333},    {40, 14336},
                                                  {264, 3400}}
                             : std::vector<Shape>{{136, 512}, {33, 100}, {72, 2048}};
        for (const auto& [n, k] : shapes) {
          const Weights<T> weights(k, n, bits, block_size, kind);
          for (const std::int64_t m : {1, 7, 8, 16, 23, 64, 65, 130, 300}) {
            if (block_size != 32 && m != 7 && m != 65 && m != 130) continue;
            Buffer<T> a(m * k), bias(n), expected(m * n), y(m * n);
            test::Randomize(a.data(), a.size(), k);
            test::Randomize(bias.data(), bias.size(), n);
            Buffer<float> sums(m * n);
            ReferenceRuns<T>(weights.plan, weights.plan.runs(), a.data(), weights.w.data(), m,
                             &sums);
            for (const bool with_bias : {false, true}) {
              Finish<T>(sums.data(), with_bias ? bias.data() : nullptr, 0, 1, 1.0f, 1.0f, m, n,
                        expected.data(), n);
              MatMulNBitsArgs args = weights.Args(m, a.data(), y.data());
              args.bias = with_bias ? bias.data() : nullptr;
              for (const NBitsKernel& kernel : NBitsKernels()) {
                if (!Serves(kernel, weights.plan, args, device)) continue;
                y.Poison();
                ASSERT_STATUS_OK(kernel.launch(weights.plan, args, device, nullptr));
                ASSERT_CUDA(cudaDeviceSynchronize()) << kernel.name;
                EXPECT_EQ(Differences(y.data(), n, expected.data(), n, m, n), 0u)
                    << kernel.name << " m " << m << " n " << n << " k " << k << " bits " << bits
                    << " block " << block_size << " zeros " << static_cast<int>(kind) << " bias "
                    << with_bias;
                EXPECT_TRUE(y.GuardsIntact()) << kernel.name;
                ++kernels_run;
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(kernels_run, 0);
}

// More tiles than blocks, so that a tile leaves while the next one is multiplied, plain and gated.
// y has columns that belong to no one, which keep their bytes, and rows that are 16-byte aligned or
// are not.
TYPED_TEST(MatMulNBitsTest, TilesFollowOneAnother) {
  using T = TypeParam;
  if constexpr (sizeof(T) == 2) {
    DeviceInfo device;
    ASSERT_STATUS_OK(CurrentDevice(&device));
    const std::int64_t m = 2300, n = 4104;
    int kernels_run = 0;
    // Blocks of 16 leave 256 rows two stages.
    const std::pair<std::int64_t, std::int64_t> sizes[] = {{128, 32}, {640, 16}, {2048, 32}};
    for (const int bits : {4, 8}) {
      for (const auto& [k, block_size] : sizes) {
        const Weights<T> weights(k, n, bits, block_size, ZeroPoints::kPacked);
        const MatMulNBitsPlan both = GatedPlan(weights.plan);
        Buffer<std::uint8_t> alternating(PackedMatMulNBitsBytes(both));
        const NBitsTensors tensors{weights.b.data(), weights.scales.data(),
                                   weights.packed_zeros.data()};
        ASSERT_STATUS_OK(
            PackGatedMatMulNBits(weights.plan, tensors, tensors, alternating.data(), nullptr));
        Buffer<T> a(m * k), expected(m * n), expected_gated(m * n);
        test::Randomize(a.data(), a.size(), k);
        Buffer<float> sums(m * n);
        ReferenceRuns<T>(weights.plan, weights.plan.runs(), a.data(), weights.w.data(), m, &sums);
        Finish<T>(sums.data(), nullptr, 0, 1, 1.0f, 1.0f, m, n, expected.data(), n);
        GatedArgs gate{UnaryOp::kSilu, ElementTypeOf<T>(), true};
        gate.rows = m;
        gate.width = gate.gate_stride = gate.up_stride = gate.y_stride = n;
        gate.gate = gate.up = expected.data();
        gate.y = expected_gated.data();
        ASSERT_STATUS_OK(Gated(gate, nullptr));
        for (const std::int64_t pad : {8, 3}) {
          const std::int64_t stride = n + pad;
          Buffer<T> y(m * stride), untouched(m * pad);
          MatMulNBitsArgs args = weights.Args(m, a.data(), y.data());
          args.y_row_stride = stride;
          for (const bool is_gated : {false, true}) {
            const MatMulNBitsPlan& plan = is_gated ? both : weights.plan;
            if (is_gated) args.packed = alternating.data();
            args.silu_gated = is_gated;
            for (const NBitsKernel& kernel : NBitsKernels()) {
              if (!Serves(kernel, plan, args, device)) continue;
              y.Poison();
              ASSERT_STATUS_OK(kernel.launch(plan, args, device, nullptr));
              ASSERT_CUDA(cudaDeviceSynchronize()) << kernel.name;
              const T* right = is_gated ? expected_gated.data() : expected.data();
              EXPECT_EQ(Differences(y.data(), stride, right, n, m, n), 0u)
                  << kernel.name << " k " << k << " pad " << pad << " gated " << is_gated;
              EXPECT_EQ(Differences(y.data() + n, stride, untouched.data(), pad, m, pad), 0u)
                  << kernel.name << " wrote outside of y, pad " << pad << " gated " << is_gated;
              EXPECT_TRUE(y.GuardsIntact()) << kernel.name;
              ++kernels_run;
            }
          }
        }
      }
    }
    EXPECT_GT(kernels_run, 0);
  }
}

// Small enough for compute-sanitizer: with one run of K and with eight, with and without stored
// zero points, read before and after the kernels ahead, gated, and with g_idx. `refills`: the
// products that fill a stage of a kernel's ring a second time, and none but these. One lane then
// arrives at a barrier for its warp, which racecheck does not follow: to it the others still read
// what is overwritten.
template <typename T>
void EachKernel(bool refills) {
  DeviceInfo device;
  ASSERT_STATUS_OK(CurrentDevice(&device));
  const std::int64_t m = 17, n = 72;
  struct Case {
    int bits;
    ZeroPoints kind;
    std::int64_t k;
    bool has_group_index;
  };
  std::vector<Case> cases;
  if (!refills) cases.push_back({4, ZeroPoints::kPacked, 264, true});
  for (const std::int64_t k : {264, 2048}) {
    if (k == 2048 && sizeof(T) == 4) continue;  // one run for any K
    if (k != 2048 && refills) continue;
    cases.push_back({2, ZeroPoints::kElement, k, false});
    for (const int bits : {4, 8}) {
      cases.push_back({bits, ZeroPoints::kDefault, k, false});
      cases.push_back({bits, ZeroPoints::kPacked, k, false});
    }
  }
  for (const Case& c : cases) {
    const Weights<T> weights(c.k, n, c.bits, 32, c.kind, c.has_group_index);
    Buffer<T> a(m * c.k), expected(m * n), y(m * n), expected_gated(m * n);
    test::Randomize(a.data(), a.size(), c.k);
    Buffer<float> sums(m * n);
    ReferenceRuns<T>(weights.plan, weights.plan.runs(), a.data(), weights.w.data(), m, &sums);
    Finish<T>(sums.data(), nullptr, 0, 1, 1.0f, 1.0f, m, n, expected.data(), n);
    MatMulNBitsArgs args = weights.Args(m, a.data(), y.data());
    if (c.has_group_index) {
      ASSERT_STATUS_OK(MatMulNBits(weights.plan, args, nullptr));
      EXPECT_EQ(Differences(y.data(), n, expected.data(), n, m, n), 0u);
      continue;
    }

    const MatMulNBitsPlan both = GatedPlan(weights.plan);
    Buffer<std::uint8_t> alternating(PackedMatMulNBitsBytes(both));
    const NBitsTensors tensors{
        weights.b.data(), weights.scales.data(),
        c.kind == ZeroPoints::kPacked    ? static_cast<const void*>(weights.packed_zeros.data())
        : c.kind == ZeroPoints::kElement ? static_cast<const void*>(weights.element_zeros.data())
                                         : nullptr};
    ASSERT_STATUS_OK(
        PackGatedMatMulNBits(weights.plan, tensors, tensors, alternating.data(), nullptr));
    GatedArgs gate{UnaryOp::kSilu, ElementTypeOf<T>(), true};
    gate.rows = m;
    gate.width = gate.gate_stride = gate.up_stride = gate.y_stride = n;
    gate.gate = gate.up = expected.data();
    gate.y = expected_gated.data();
    ASSERT_STATUS_OK(Gated(gate, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
    args.packed_is_ready = c.kind == ZeroPoints::kPacked;
    MatMulNBitsArgs gated = args;
    gated.packed = alternating.data();
    gated.silu_gated = true;
    for (const NBitsKernel& kernel : NBitsKernels()) {
      for (const bool is_gated : {false, true}) {
        const MatMulNBitsPlan& plan = is_gated ? both : weights.plan;
        const MatMulNBitsArgs& call = is_gated ? gated : args;
        if (!Serves(kernel, plan, call, device)) continue;
        if (refills != (c.k == 2048 && kernel.needs_sm90 && kernel.runs == 0)) continue;
        y.Poison();
        ASSERT_STATUS_OK(kernel.launch(plan, call, device, nullptr));
        const T* right = is_gated ? expected_gated.data() : expected.data();
        EXPECT_EQ(Differences(y.data(), n, right, n, m, n), 0u) << kernel.name << ' ' << is_gated;
      }
    }
  }
}

TYPED_TEST(MatMulNBitsTest, EachKernelOnce) { EachKernel<TypeParam>(false); }

TYPED_TEST(MatMulNBitsTest, RingsAreFilledAgain) {
  if constexpr (sizeof(TypeParam) == 2) EachKernel<TypeParam>(true);
}

// g_idx: one run, whatever K and N are; rows alone and in any company.
TYPED_TEST(MatMulNBitsTest, GroupIndexGivesTheReferenceBytes) {
  using T = TypeParam;
  for (const int bits : {2, 4, 8}) {
    for (const ZeroPoints kind :
         {ZeroPoints::kDefault, ZeroPoints::kPacked, ZeroPoints::kElement}) {
      for (const std::int64_t k : {100, 2048}) {
        const std::int64_t n = 72, most = 130;
        const Weights<T> weights(k, n, bits, 32, kind, true);
        ASSERT_EQ(weights.plan.runs(), 1);
        Buffer<T> a(most * k), bias(n), expected(most * n);
        test::Randomize(a.data(), a.size(), k);
        test::Randomize(bias.data(), bias.size(), n);
        Buffer<float> sums(most * n);
        ReferenceRuns<T>(weights.plan, 1, a.data(), weights.w.data(), most, &sums);
        Finish<T>(sums.data(), bias.data(), 0, 1, 1.0f, 1.0f, most, n, expected.data(), n);
        for (const std::int64_t m : {1, 16, 17, 130}) {
          Buffer<T> y(m * n);
          MatMulNBitsArgs args = weights.Args(m, a.data() + (most - m) * k, y.data());
          args.bias = bias.data();
          ASSERT_STATUS_OK(MatMulNBits(weights.plan, args, nullptr));
          EXPECT_EQ(Differences(y.data(), n, expected.data() + (most - m) * n, n, m, n), 0u)
              << "m " << m << " k " << k << " bits " << bits << " zeros " << static_cast<int>(kind);
          EXPECT_TRUE(y.GuardsIntact());
        }
      }
    }
  }
}

// silu(a gate) * (a up) in one product has the bytes of the nodes one by one, from every kernel.
TYPED_TEST(MatMulNBitsTest, GatedHasTheBytesOfTheNodes) {
  using T = TypeParam;
  DeviceInfo device;
  ASSERT_STATUS_OK(CurrentDevice(&device));
  constexpr DataType kType = sizeof(T) == 4              ? DataType::kFloat32
                             : std::is_same_v<T, __half> ? DataType::kFloat16
                                                         : DataType::kBFloat16;
  struct Shape {
    std::int64_t n, k;
  };
  for (const int bits : {4, 8}) {
    for (const ZeroPoints kind :
         {ZeroPoints::kDefault, ZeroPoints::kPacked, ZeroPoints::kElement}) {
      for (const auto& [n, k] : std::vector<Shape>{{72, 200}, {264, 1024}, {520, 4096}}) {
        const Weights<T> gate(k, n, bits, 32, kind), up(k, n, bits, 32, kind);
        const MatMulNBitsPlan both = GatedPlan(gate.plan);
        Buffer<std::uint8_t> packed(PackedMatMulNBitsBytes(both));
        const auto source = [&](const Weights<T>& w) {
          const void* zeros =
              kind == ZeroPoints::kPacked    ? static_cast<void*>(w.packed_zeros.data())
              : kind == ZeroPoints::kElement ? static_cast<void*>(w.element_zeros.data())
                                             : nullptr;
          return NBitsTensors{w.b.data(), w.scales.data(), zeros};
        };
        ASSERT_STATUS_OK(
            PackGatedMatMulNBits(gate.plan, source(gate), source(up), packed.data(), nullptr));
        ASSERT_CUDA(cudaDeviceSynchronize());
        ASSERT_TRUE(packed.GuardsIntact());
        for (const std::int64_t m : {1, 8, 17, 64, 130}) {
          Buffer<T> a(m * k), g(m * n), u(m * n), s(m * n), y(m * n);
          test::Randomize(a.data(), a.size(), k);
          ASSERT_STATUS_OK(MatMulNBits(gate.plan, gate.Args(m, a.data(), g.data()), nullptr));
          ASSERT_STATUS_OK(MatMulNBits(up.plan, up.Args(m, a.data(), u.data()), nullptr));
          const UnaryArgs unary{UnaryOp::kSigmoid, kType, m, n, 1.0f, g.data(), nullptr, s.data()};
          ASSERT_STATUS_OK(Unary(unary, nullptr));
          const std::int64_t shape[] = {m * n}, one[] = {1};
          for (const T* factor : {g.data(), u.data()}) {
            ASSERT_STATUS_OK(Binary(
                {BinaryOp::kMul, kType, shape, s.data(), one, factor, one, s.data()}, nullptr));
          }
          MatMulNBitsArgs args = gate.Args(m, a.data(), y.data());
          args.packed = packed.data();
          args.packed_is_ready = true;
          args.silu_gated = true;
          std::size_t bytes = 0;
          ASSERT_STATUS_OK(GatedMatMulNBitsWorkspaceBytes(both, args, &bytes));
          Buffer<std::uint8_t> workspace(bytes);
          ASSERT_STATUS_OK(GatedMatMulNBits(both, args, workspace.data(), nullptr));
          EXPECT_EQ(Differences(y.data(), n, s.data(), n, m, n), 0u)
              << "m " << m << " n " << n << " bits " << bits;
          EXPECT_TRUE(y.GuardsIntact());
          for (const NBitsKernel& kernel : NBitsKernels()) {
            if (!Serves(kernel, both, args, device)) continue;
            y.Poison();
            ASSERT_STATUS_OK(kernel.launch(both, args, device, nullptr));
            EXPECT_EQ(Differences(y.data(), n, s.data(), n, m, n), 0u)
                << kernel.name << " m " << m << " n " << n << " bits " << bits;
          }
        }
      }
    }
  }
}

TYPED_TEST(MatMulNBitsTest, RowCountPositionAndNeighbours) {
  using T = TypeParam;
  const bool is_float = sizeof(T) == 4;
  const std::int64_t n = 512, k = is_float ? 512 : 4096, max_rows = is_float ? 256 : 8192;
  for (const int bits : {4, 8}) {
    const Weights<T> weights(k, n, bits, 32, ZeroPoints::kPacked);
    Buffer<T> a(max_rows * k), whole(max_rows * n), y(max_rows * n), hostile(max_rows * k);
    test::Randomize(a.data(), a.size(), k);
    ASSERT_STATUS_OK(
        MatMulNBits(weights.plan, weights.Args(max_rows, a.data(), whole.data()), nullptr));
    std::vector<std::int64_t> counts;
    for (std::int64_t m = 1; m <= 64; ++m) counts.push_back(m);
    for (std::int64_t m = 65; m < max_rows; m += m / 3 + 1) counts.push_back(m);
    for (const std::int64_t m : counts) {
      for (const std::int64_t first : {std::int64_t{0}, max_rows - m, (max_rows - m) / 2 | 1}) {
        if (first + m > max_rows) continue;
        y.Poison();
        ASSERT_STATUS_OK(
            MatMulNBits(weights.plan, weights.Args(m, a.data() + first * k, y.data()), nullptr));
        ASSERT_EQ(Differences(y.data(), n, whole.data() + first * n, n, m, n), 0u)
            << "rows " << m << " from " << first << " bits " << bits;
      }
      // The same row among rows of NaN and infinity.
      const std::int64_t row = m / 2;
      for (std::int64_t other = 0; other < m; ++other) {
        FillValue<<<static_cast<unsigned>((k + 255) / 256), 256>>>(hostile.data() + other * k, k,
                                                                   other % 2 ? NAN : INFINITY);
      }
      cudaMemcpy(hostile.data() + row * k, a.data() + row * k, k * sizeof(T),
                 cudaMemcpyDeviceToDevice);
      y.Poison();
      ASSERT_STATUS_OK(
          MatMulNBits(weights.plan, weights.Args(m, hostile.data(), y.data()), nullptr));
      ASSERT_EQ(Differences(y.data() + row * n, n, whole.data() + row * n, n, 1, n), 0u)
          << "row " << row << " of " << m << " bits " << bits;
    }
  }
}

// The number of runs is a matter of the contract: another one gives other bytes, and the comparison
// that the tests above rest on sees it.
TYPED_TEST(MatMulNBitsTest, AnotherNumberOfRunsIsSeen) {
  using T = TypeParam;
  const std::int64_t m = 64, n = 256, k = 4096;
  const Weights<T> weights(k, n, 4, 32, ZeroPoints::kDefault);
  EXPECT_EQ(weights.plan.runs(), sizeof(T) == 4 ? 1 : 8);
  Buffer<T> a(m * k), y(m * n), other(m * n);
  test::Randomize(a.data(), a.size(), k);
  ASSERT_STATUS_OK(MatMulNBits(weights.plan, weights.Args(m, a.data(), y.data()), nullptr));
  for (const int runs : {1, 2, 8}) {
    Buffer<float> sums(m * n);
    ReferenceRuns<T>(weights.plan, runs, a.data(), weights.w.data(), m, &sums);
    Finish<T>(sums.data(), nullptr, 0, 1, 1.0f, 1.0f, m, n, other.data(), n);
    const std::uint64_t different = Differences(y.data(), n, other.data(), n, m, n);
    std::printf("%d runs: %llu of %lld elements differ\n", runs,
                static_cast<unsigned long long>(different), static_cast<long long>(m * n));
    if (runs == weights.plan.runs()) {
      EXPECT_EQ(different, 0u);
    } else {
      EXPECT_GT(different, 0u);
    }
  }
}

// Against float64 over the exact weights: dequantisation and the result are each rounded once.
TYPED_TEST(MatMulNBitsTest, CloseToFloat64) {
  using T = TypeParam;
  const std::int64_t m = 33, n = 300, k = 4096;
  const double epsilon = sizeof(T) == 4              ? 0.0
                         : std::is_same_v<T, __half> ? std::ldexp(1.0, -11)
                                                     : std::ldexp(1.0, -8);
  const Weights<T> weights(k, n, 4, 32, ZeroPoints::kDefault);
  Buffer<T> a(m * k), y(m * n);
  test::Randomize(a.data(), a.size(), k);
  ASSERT_STATUS_OK(MatMulNBits(weights.plan, weights.Args(m, a.data(), y.data()), nullptr));
  const std::vector<T> host_a = a.Host(), scales = weights.scales.Host(), got = y.Host();
  const std::vector<std::uint8_t> b = weights.b.Host();
  double error = 0.0, norm = 0.0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (std::int64_t kk = 0; kk < k; ++kk) {
        const int code = b[(j * k + kk) / 2] >> (kk % 2 * 4) & 15;
        sum += static_cast<double>(static_cast<float>(host_a[i * k + kk])) * (code - 8) *
               static_cast<double>(static_cast<float>(scales[j * (k / 32) + kk / 32]));
      }
      const double value = static_cast<double>(static_cast<float>(got[i * n + j]));
      error += (value - sum) * (value - sum);
      norm += sum * sum;
    }
  }
  const double relative = std::sqrt(error / norm);
  std::printf("relative error %.2e\n", relative);
  EXPECT_LT(relative, epsilon + 4e-5);
}

TEST(MatMulNBitsPlanTest, RefusesWhatTheOperatorDoesNotDefine) {
  MatMulNBitsPlan plan;
  const auto make = [&](std::int64_t bits, std::int64_t block_size) {
    return MakeMatMulNBitsPlan(ElementType::kFloat16, 64, 64, bits, block_size,
                               ZeroPoints::kDefault, &plan)
        .code;
  };
  EXPECT_EQ(make(4, 32), StatusCode::kOk);
  EXPECT_EQ(make(3, 32), StatusCode::kInvalidArgument);
  EXPECT_EQ(make(4, 8), StatusCode::kInvalidArgument);
  EXPECT_EQ(make(4, 48), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
