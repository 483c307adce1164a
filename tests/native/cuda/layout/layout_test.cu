// Copies, gathers, Range and rotary embedding against plain host loops.
#include <cmath>
#include <vector>

#include "batch_invariant/cuda/embed.h"
#include "batch_invariant/cuda/gather.h"
#include "batch_invariant/cuda/layout.h"
#include "batch_invariant/cuda/rotary.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

TEST(Layout, CopiesStrided) {
  constexpr std::int64_t kCount = 3 * 5 * 16 * 8;
  Buffer<float> from(kCount), to(kCount);
  Randomize(from.data(), kCount, 8);
  const std::vector<float> host = from.Host();
  struct View {
    std::vector<std::int64_t> shape, from, to;
    std::int64_t start;
  };
  const View views[] = {
      {{3, 16, 5, 8}, {640, 8, 128, 1}, {640, 40, 8, 1}, 0},    // transpose of axes 1 and 2
      {{8, 16, 5, 3}, {1, 8, 128, 640}, {240, 15, 3, 1}, 0},    // transpose of all
      {{3, 5, 4, 8}, {640, 128, 16, 1}, {160, 32, 8, 1}, 8},    // slice with step 2
      {{3, 5, 16, 8}, {640, 128, 8, -1}, {640, 128, 8, 1}, 7},  // reversed
      {{3, 5, 16, 8}, {0, 128, 0, 1}, {640, 128, 8, 1}, 0},     // expand
      {{}, {}, {}, 5},                                          // one element
  };
  for (const View& view : views) {
    to.Poison();
    ASSERT_STATUS_OK(CopyStrided(
        {DataType::kFloat32, view.shape, from.data() + view.start, view.from, to.data(), view.to},
        nullptr));
    const std::vector<float> result = to.Host();
    std::int64_t count = 1;
    for (const std::int64_t extent : view.shape) count *= extent;
    int wrong = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t rest = i, source = view.start, target = 0;
      for (int axis = static_cast<int>(view.shape.size()) - 1; axis >= 0; --axis) {
        source += rest % view.shape[axis] * view.from[axis];
        target += rest % view.shape[axis] * view.to[axis];
        rest /= view.shape[axis];
      }
      wrong += result[target] != host[source];
    }
    Compared() += count;
    EXPECT_EQ(wrong, 0);
    EXPECT_TRUE(to.GuardsIntact());
  }
  const std::int64_t two[] = {2, 2}, one[] = {1};
  EXPECT_EQ(CopyStrided({DataType::kFloat32, two, from.data(), one, to.data(), two}, nullptr).code,
            StatusCode::kInvalidArgument);
}

template <typename T>
class LayoutTypes : public ::testing::Test {};
using AnyTypes = ::testing::Types<std::uint8_t, __half, __nv_bfloat16, float, std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(LayoutTypes, AnyTypes);

TYPED_TEST(LayoutTypes, Transposes) {
  using T = TypeParam;
  Buffer<T> from(15), to(15);
  std::vector<T> host;
  for (int i = 0; i < 15; ++i) host.push_back(T(static_cast<float>(i * 7)));
  from.Set(host);
  const std::int64_t shape[] = {5, 3}, columns[] = {1, 5}, rows[] = {3, 1};
  ASSERT_STATUS_OK(
      CopyStrided({TypeOf<T>(), shape, from.data(), columns, to.data(), rows}, nullptr));
  const std::vector<T> got = to.Host();
  for (int i = 0; i < 15; ++i) {
    EXPECT_EQ(static_cast<float>(got[i]), static_cast<float>(host[i % 3 * 5 + i / 3])) << i;
  }
  Compared() += 15;
}

TYPED_TEST(LayoutTypes, Ranges) {
  using T = TypeParam;
  if constexpr (sizeof(T) > 1) {
    Buffer<T> y(5);
    RangeArgs args;
    args.type = TypeOf<T>();
    args.count = 5;
    args.integer_start = 3;
    args.integer_delta = -2;
    args.start = 3;
    args.delta = -2;
    args.y = y.data();
    ASSERT_STATUS_OK(Range(args, nullptr));
    const std::vector<T> got = y.Host();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(static_cast<float>(got[i]), 3.0f - 2.0f * i) << i;
    Compared() += 5;
  }
}

TYPED_TEST(LayoutTypes, GathersElements) {
  using T = TypeParam;
  Buffer<T> data(10), y(4);
  std::vector<T> host;
  for (int i = 0; i < 10; ++i) host.push_back(T(static_cast<float>(i * 9)));
  data.Set(host);
  Buffer<std::int64_t> indices(4);
  indices.Set({3, -1, 9, 0});
  ASSERT_STATUS_OK(Gather({TypeOf<T>(), DataType::kInt64, 1, 10, 1, 4, data.data(), indices.data(),
                           y.data()},
                          nullptr));
  const std::vector<T> got = y.Host();
  const float expected[] = {27, 81, 81, 0};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(static_cast<float>(got[i]), expected[i]) << i;
  Compared() += 4;
}

TEST(Gather, TakesRows) {
  for (const std::int64_t inner : {1, 7, 64}) {
    Buffer<__half> data(2 * 10 * inner), y(2 * 4 * inner);
    Randomize(data.data(), data.size(), 64);
    Buffer<std::int32_t> indices(4);
    indices.Set({3, -1, 12, 0});
    GatherArgs args{DataType::kFloat16, DataType::kInt32, 2,       10, inner, 4,
                    data.data(),        indices.data(),   y.data()};
    ASSERT_STATUS_OK(Gather(args, nullptr));
    const auto host = data.Host(), result = y.Host();
    const int rows[] = {3, 9, -1, 0};
    for (int o = 0; o < 2; ++o) {
      for (int c = 0; c < 4; ++c) {
        for (std::int64_t i = 0; i < inner; ++i) {
          const float expected =
              rows[c] < 0 ? 0.0f : static_cast<float>(host[(o * 10 + rows[c]) * inner + i]);
          ASSERT_EQ(static_cast<float>(result[(o * 4 + c) * inner + i]), expected);
        }
      }
    }
    Compared() += 8 * inner;
  }
}

template <typename T>
ElementType FloatType() {
  return std::is_same_v<T, float>    ? ElementType::kFloat32
         : std::is_same_v<T, __half> ? ElementType::kFloat16
                                     : ElementType::kBFloat16;
}

template <typename T>
class LayoutFloats : public ::testing::Test {};
using FloatTypes = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(LayoutFloats, FloatTypes);

TYPED_TEST(LayoutFloats, Dequantises) {
  using T = TypeParam;
  constexpr int kRows = 6, kWidth = 96, kBlock = 32, kBlocks = 3;
  for (const int bits : {4, 8}) {
    for (const bool is_signed : {false, true}) {
      for (const bool with_zeros : {false, true}) {
        const int row_bytes = kWidth * bits / 8, zero_bytes = (kBlocks * bits + 7) / 8;
        std::vector<std::uint8_t> data(kRows * row_bytes), zeros(kRows * zero_bytes);
        for (std::size_t i = 0; i < data.size(); ++i)
          data[i] = static_cast<std::uint8_t>(i * 37 + 11);
        for (std::size_t i = 0; i < zeros.size(); ++i)
          zeros[i] = static_cast<std::uint8_t>(i * 53 + 7);
        Buffer<std::uint8_t> device_data(data.size()), device_zeros(zeros.size());
        device_data.Set(data);
        device_zeros.Set(zeros);
        Buffer<T> scales(kRows * kBlocks), y(2 * kWidth);
        Randomize(scales.data(), scales.size(), 3);
        Buffer<std::int64_t> indices(2);
        indices.Set({4, 1});
        GatherBlockQuantizedArgs args;
        args.type = FloatType<T>();
        args.bits = bits;
        args.is_signed = is_signed;
        args.rows = kRows;
        args.width = kWidth;
        args.block_size = kBlock;
        args.count = 2;
        args.data = device_data.data();
        args.scales = scales.data();
        if (with_zeros) args.zero_points = device_zeros.data();
        args.indices = indices.data();
        args.y = y.data();
        ASSERT_STATUS_OK(GatherBlockQuantized(args, nullptr));
        const auto host_scales = scales.Host(), result = y.Host();
        const auto read = [&](const std::uint8_t* row, int i) {
          int v = bits == 8 ? row[i] : row[i / 2] >> (i % 2 * 4) & 15;
          if (is_signed && v >= 1 << (bits - 1)) v -= 1 << bits;
          return v;
        };
        for (int c = 0; c < 2; ++c) {
          const int row = c == 0 ? 4 : 1;
          for (int i = 0; i < kWidth; ++i) {
            const int zero = with_zeros  ? read(&zeros[row * zero_bytes], i / kBlock)
                             : is_signed ? 0
                                         : 1 << (bits - 1);
            const float scale = static_cast<float>(host_scales[row * kBlocks + i / kBlock]);
            const float exact = static_cast<float>(read(&data[row * row_bytes], i) - zero) * scale;
            ASSERT_EQ(static_cast<float>(result[c * kWidth + i]), static_cast<float>(T(exact)));
          }
        }
        Compared() += 2 * kWidth;
      }
    }
  }
}

TYPED_TEST(LayoutFloats, RotatesPairs) {
  using T = TypeParam;
  constexpr std::int64_t kBatch = 2, kHeads = 3, kTokens = 5, kSize = 24, kDim = 16, kRows = 40;
  for (const bool interleaved : {false, true}) {
    Buffer<T> x(kBatch * kTokens * kHeads * kSize), y(x.size()), cosines(kRows * kDim / 2),
        sines(cosines.size());
    Randomize(x.data(), x.size(), kSize);
    Randomize(cosines.data(), cosines.size(), 8);
    Randomize(sines.data(), sines.size(), 8);
    Buffer<std::int64_t> ids(kBatch * kTokens);
    ids.Set({3, 4, 5, 6, 7, 30, 31, 32, 33, 39});
    RotaryArgs args;
    args.type = FloatType<T>();
    args.batch = kBatch;
    args.heads = kHeads;
    args.tokens = kTokens;
    args.head_size = kSize;
    args.rotary_dim = kDim;
    args.interleaved = interleaved;
    args.x = x.data();
    args.y = y.data();
    args.x_batch = args.y_batch = kTokens * kHeads * kSize;
    args.x_token = args.y_token = kHeads * kSize;
    args.x_head = args.y_head = kSize;
    args.position_ids = ids.data();
    args.cos_cache = cosines.data();
    args.sin_cache = sines.data();
    args.cache_rows = kRows;
    ASSERT_STATUS_OK(Rotary(args, nullptr));
    const auto hx = x.Host(), hy = y.Host(), hc = cosines.Host(), hs = sines.Host();
    const auto hid = ids.Host();
    for (std::int64_t t = 0; t < kBatch * kTokens; ++t) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        const auto in = [&](int i) { return static_cast<float>(hx[(t * kHeads + h) * kSize + i]); };
        const auto out = [&](int i) { return static_cast<float>(hy[(t * kHeads + h) * kSize + i]); };
        for (int i = 0; i < kDim / 2; ++i) {
          const int u = interleaved ? 2 * i : i, v = interleaved ? 2 * i + 1 : i + kDim / 2;
          const float c = static_cast<float>(hc[hid[t] * kDim / 2 + i]);
          const float s = static_cast<float>(hs[hid[t] * kDim / 2 + i]);
          ASSERT_EQ(out(u), static_cast<float>(T(std::fmaf(in(u), c, -(in(v) * s)))));
          ASSERT_EQ(out(v), static_cast<float>(T(std::fmaf(in(v), c, in(u) * s))));
        }
        for (int i = kDim; i < kSize; ++i) ASSERT_EQ(out(i), in(i));
      }
    }
    Compared() += x.size();
  }
}

TYPED_TEST(LayoutFloats, AddsEmbeddings) {
  using T = TypeParam;
  constexpr std::int64_t kBatch = 3, kTokens = 5, kWidth = 37, kWords = 11, kSegments = 2;
  Buffer<T> word(kWords * kWidth), position(kTokens * kWidth), segment(kSegments * kWidth);
  for (Buffer<T>* table : {&word, &position, &segment}) {
    Randomize(table->data(), table->size(), kWidth);
  }
  Buffer<std::int32_t> ids(kBatch * kTokens), segments(kBatch * kTokens), counts(kBatch);
  std::vector<std::int32_t> id, part;
  for (int i = 0; i < kBatch * kTokens; ++i) {
    id.push_back(i == 7 ? kWords : i % kWords);  // the eighth is outside
    part.push_back(i % 2);
  }
  ids.Set(id);
  segments.Set(part);
  Buffer<T> sum(kBatch * kTokens * kWidth);
  EmbedArgs args;
  args.type = std::is_same_v<T, float>    ? ElementType::kFloat32
              : std::is_same_v<T, __half> ? ElementType::kFloat16
                                          : ElementType::kBFloat16;
  args.batch = kBatch;
  args.tokens = kTokens;
  args.width = kWidth;
  args.tables[0] = {word.data(), kWords, ids.data(), false};
  args.tables[1] = {position.data(), kTokens, nullptr, false};
  args.tables[2] = {segment.data(), kSegments, segments.data(), false};
  args.sum = sum.data();
  ASSERT_STATUS_OK(AddEmbeddings(args, nullptr));
  ASSERT_STATUS_OK(CountOnes(segments.data(), kBatch, kTokens, counts.data(), nullptr));
  ASSERT_CUDA(cudaDeviceSynchronize());
  const std::vector<T> w = word.Host(), p = position.Host(), s = segment.Host(), got = sum.Host();
  std::int64_t same = 0;
  for (int row = 0; row < kBatch * kTokens; ++row) {
    for (int i = 0; i < kWidth; ++i) {
      const float x = id[row] < kWords ? static_cast<float>(w[id[row] * kWidth + i]) : 0.0f;
      const float y = x + static_cast<float>(p[row % kTokens * kWidth + i]);
      const T expected(y + static_cast<float>(s[part[row] * kWidth + i]));
      same += std::memcmp(&got[row * kWidth + i], &expected, sizeof(T)) == 0;
    }
  }
  EXPECT_EQ(same, static_cast<std::int64_t>(got.size()));
  Compared() += same;
  EXPECT_TRUE(sum.GuardsIntact());
  EXPECT_EQ(counts.Host(), (std::vector<std::int32_t>{2, 3, 2}));
  ASSERT_STATUS_OK(CountOnes(nullptr, kBatch, kTokens, counts.data(), nullptr));
  EXPECT_EQ(counts.Host(), (std::vector<std::int32_t>{0, 0, 0}));
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
