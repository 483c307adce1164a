// MultiHeadAttention and Attention on CUDA: close to float64 over layouts, masks, biases and past;
// and the bytes of a query, whatever its neighbours, its place and the length of its row.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "batch_invariant/cuda/multi_head_attention.h"
#include "cuda/common/data_type_of.h"
#include "cuda/common/device_test.h"

namespace batch_invariant::cuda::test {
namespace {

template <typename T>
constexpr ElementType ElementTypeOf() {
  if (std::is_same_v<T, float>) return ElementType::kFloat32;
  return std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16;
}

enum class Mask { kNone, kBias, kBiasByHead, kFloat32Bias, kBool, kShortBool, kColumn };

struct Case {
  int batch, sequence, kv_sequence, past, heads, kv_heads, head_size, value_size;
  bool causal = false;
  bool biases = false;
  bool present = false;
  KeyMask key_mask = KeyMask::kNone;
  bool mask_by_query = false;
  float filter = -10000.0f;
  Mask mask = Mask::kNone;
  bool lengths = false;
  float softcap = 0.0f;
  bool packed = false;  // query, key and value in one tensor
};

std::string Name(const Case& c) {
  return std::to_string(c.batch) + " x " + std::to_string(c.sequence) + " queries, " +
         std::to_string(c.past) + " + " + std::to_string(c.kv_sequence) + " keys, heads " +
         std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) + " of " +
         std::to_string(c.head_size) + "/" + std::to_string(c.value_size) +
         (c.causal ? " causal" : "") + (c.biases ? " biases" : "") + (c.present ? " present" : "") +
         " key mask " + std::to_string(static_cast<int>(c.key_mask)) + " mask " +
         std::to_string(static_cast<int>(c.mask)) + (c.lengths ? " lengths" : "") +
         (c.packed ? " packed" : "");
}

const Case kCases[] = {
    {2, 17, 17, 0, 4, 4, 64, 64},
    {2, 17, 17, 0, 4, 4, 64, 64, true},
    {2, 40, 40, 0, 4, 4, 32, 32, false, false, false, KeyMask::kNone, false, 0, Mask::kNone, false,
     0, true},
    {2, 5, 5, 130, 4, 4, 64, 64, true, true, true},
    {1, 300, 300, 0, 2, 2, 128, 128, true, true},
    // More queries than keys, fewer queries than new keys, none of the keys new.
    {2, 70, 9, 0, 2, 2, 64, 64},
    {2, 70, 9, 3, 2, 2, 64, 64, true},
    {2, 6, 20, 40, 2, 2, 64, 64, true},
    {2, 6, 0, 40, 2, 2, 64, 64},
    // Head sizes of their own.
    {2, 20, 20, 7, 3, 3, 20, 12, true, true, true},
    {2, 20, 20, 0, 4, 2, 64, 96},
    {1, 9, 9, 0, 2, 2, 100, 100},
    {2, 12, 12, 30, 8, 2, 64, 64, true, false, true, KeyMask::kNone, false, 0, Mask::kNone, false,
     15.0f},
    // Masks.
    {3, 20, 20, 0, 4, 4, 64, 64, false, false, false, KeyMask::kLengths},
    {3, 20, 200, 0, 4, 4, 64, 64, false, false, false, KeyMask::kEndStart},
    {3, 20, 20, 150, 4, 4, 64, 64, true, false, true, KeyMask::kValues},
    {3, 20, 20, 0, 4, 4, 64, 64, false, false, false, KeyMask::kValues, true},
    {2, 20, 20, 0, 4, 4, 64, 64, false, false, false, KeyMask::kValues, false, -2.5f, Mask::kBias},
    {2, 20, 20, 9, 4, 4, 64, 64, false, false, false, KeyMask::kNone, false, 0, Mask::kBias},
    {2, 20, 20, 9, 4, 2, 64, 64, true, false, false, KeyMask::kNone, false, 0, Mask::kBiasByHead},
    {2, 20, 20, 9, 4, 2, 64, 64, true, false, false, KeyMask::kNone, false, 0, Mask::kFloat32Bias},
    {2, 20, 20, 9, 4, 2, 64, 64, false, false, false, KeyMask::kNone, false, 0, Mask::kBool},
    {2, 20, 20, 9, 4, 2, 64, 64, false, false, false, KeyMask::kNone, false, 0, Mask::kShortBool},
    {2, 20, 20, 9, 4, 2, 64, 64, false, false, false, KeyMask::kNone, false, 0, Mask::kColumn},
    {3, 4, 300, 0, 4, 2, 64, 64, false, false, false, KeyMask::kNone, false, 0, Mask::kNone, true},
    {3, 4, 300, 0, 4, 2, 64, 64, true, false, false, KeyMask::kNone, false, 0, Mask::kBool, true},
};

template <typename T>
__global__ void FillMask(void* mask, DataType type, std::int64_t count, std::uint64_t seed) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint64_t bits = Mix(seed ^ Mix(i));
  const bool out = bits % 8 == 0;
  const float value = out ? -INFINITY : static_cast<float>((bits >> 20) % 1024) / 512.0f - 1.0f;
  if (type == DataType::kBool) {
    static_cast<bool*>(mask)[i] = !out;
  } else if (type == DataType::kFloat32) {
    static_cast<float*>(mask)[i] = value;
  } else {
    static_cast<T*>(mask)[i] = FromFloat<T>(value);
  }
}

template <typename T>
class Problem {
 public:
  explicit Problem(const Case& c)
      : c(c),
        total(c.past + c.kv_sequence),
        query(std::int64_t{c.batch} * c.sequence * c.heads * c.head_size * (c.packed ? 3 : 1)),
        key(std::int64_t{c.batch} * c.kv_sequence * c.kv_heads * c.head_size),
        value(std::int64_t{c.batch} * c.kv_sequence * c.kv_heads * c.value_size),
        past_key(std::int64_t{c.batch} * c.past * c.kv_heads * c.head_size),
        past_value(std::int64_t{c.batch} * c.past * c.kv_heads * c.value_size),
        query_bias(c.heads * c.head_size),
        key_bias(c.kv_heads * c.head_size),
        value_bias(c.kv_heads * c.value_size),
        present_key(std::int64_t{c.batch} * total * c.kv_heads * c.head_size),
        present_value(std::int64_t{c.batch} * total * c.kv_heads * c.value_size),
        output(std::int64_t{c.batch} * c.sequence * c.heads * c.value_size) {
    for (Buffer<T>* buffer :
         {&query, &key, &value, &past_key, &past_value, &query_bias, &key_bias, &value_bias}) {
      Randomize(buffer->data(), buffer->size(), 16);
    }
    const std::int64_t d = c.head_size, v = c.value_size;
    args.type = ElementTypeOf<T>();
    args.batch = c.batch;
    args.sequence = c.sequence;
    args.kv_sequence = c.kv_sequence;
    args.past_sequence = c.past;
    args.heads = c.heads;
    args.kv_heads = c.kv_heads;
    args.head_size = c.head_size;
    args.value_size = c.value_size;
    if (c.packed) {
      const auto part = [&](int i) {
        return HeadTensor{query.data() + i * d, c.sequence * c.heads * 3 * d, 3 * d,
                          c.heads * 3 * d};
      };
      args.query = part(0);
      args.key = part(1);
      args.value = part(2);
    } else {
      args.query = {query.data(), c.sequence * c.heads * d, d, c.heads * d};
      args.key = {key.data(), c.kv_sequence * c.kv_heads * d, d, c.kv_heads * d};
      // [batch, heads, tokens, size], as key and value may be too.
      args.value = {value.data(), c.kv_heads * c.kv_sequence * v, c.kv_sequence * v, v};
    }
    if (c.biases) {
      args.query_bias = query_bias.data();
      args.key_bias = key_bias.data();
      args.value_bias = value_bias.data();
    }
    if (c.past > 0) {
      args.past_key = past_key.data();
      args.past_value = past_value.data();
    }
    args.causal = c.causal;
    args.softcap = c.softcap;
    args.output = output.data();
    args.output_strides = {nullptr, c.sequence * c.heads * v, v, c.heads * v};
    if (c.present) {
      args.present_key = present_key.data();
      args.present_value = present_value.data();
    }
    MakeKeyMask();
    MakeMask();
    if (c.lengths) {
      std::vector<std::int64_t> host;
      for (int b = 0; b < c.batch; ++b) host.push_back(total - 41 * b);
      lengths = std::make_unique<Buffer<std::int64_t>>(c.batch);
      lengths->Set(host);
      args.key_lengths = lengths->data();
    }
  }

  void MakeKeyMask() {
    args.key_mask = c.key_mask;
    args.filter = c.filter;
    std::vector<std::int32_t> host;
    std::mt19937_64 random(NextSeed());
    if (c.key_mask == KeyMask::kLengths || c.key_mask == KeyMask::kEndStart) {
      for (int b = 0; b < c.batch; ++b) host.push_back(total - 3 * b);
      for (int b = 0; b < c.batch; ++b) host.push_back(2 * b);
    } else if (c.key_mask == KeyMask::kValues) {
      const int rows = c.batch * (c.mask_by_query ? c.sequence : 1);
      for (int i = 0; i < rows * total; ++i) host.push_back(random() % 4 != 0);
      args.mask_query_stride = c.mask_by_query ? total : 0;
      args.mask_batch_stride = std::int64_t{total} * (c.mask_by_query ? c.sequence : 1);
    } else {
      return;
    }
    key_mask = std::make_unique<Buffer<std::int32_t>>(host.size());
    key_mask->Set(host);
    args.mask = key_mask->data();
  }

  void MakeMask() {
    if (c.mask == Mask::kNone) return;
    const bool by_head = c.mask == Mask::kBiasByHead;
    const bool is_bool = c.mask == Mask::kBool || c.mask == Mask::kShortBool;
    args.bias_type = is_bool                        ? DataType::kBool
                     : c.mask == Mask::kFloat32Bias ? DataType::kFloat32
                                                    : TypeOf<T>();
    const std::int64_t columns = c.mask == Mask::kColumn ? 1 : total;
    const std::int64_t count =
        std::int64_t{c.batch} * (by_head ? c.heads : 1) * c.sequence * columns;
    mask = std::make_unique<Buffer<std::uint8_t>>(count * SizeOf(args.bias_type));
    FillMask<T><<<static_cast<unsigned>((count + 255) / 256), 256>>>(mask->data(), args.bias_type,
                                                                     count, NextSeed());
    args.bias = mask->data();
    args.bias_keys = c.mask == Mask::kShortBool ? total - 5 : total;
    args.bias_key_stride = c.mask == Mask::kColumn ? 0 : 1;
    args.bias_query_stride = columns;
    args.bias_head_stride = by_head ? c.sequence * columns : 0;
    args.bias_batch_stride = c.sequence * columns * (by_head ? c.heads : 1);
  }

  void Run() {
    std::size_t bytes = 0;
    ASSERT_STATUS_OK(MultiHeadAttentionWorkspaceBytes(args, &bytes));
    Buffer<uint4> workspace((bytes + 15) / 16);
    output.Poison();
    ASSERT_STATUS_OK(MultiHeadAttention(args, workspace.data(), bytes, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
    EXPECT_TRUE(workspace.GuardsIntact());
    EXPECT_TRUE(output.GuardsIntact());
    EXPECT_TRUE(present_key.GuardsIntact() && present_value.GuardsIntact());
  }

  double MaskAt(const std::vector<std::uint8_t>& host, std::int64_t at) const {
    switch (args.bias_type) {
      case DataType::kBool:
        return host[at] ? 0.0 : -INFINITY;
      case DataType::kFloat32:
        return reinterpret_cast<const float*>(host.data())[at];
      default:
        return static_cast<float>(reinterpret_cast<const T*>(host.data())[at]);
    }
  }

  // Relative error of the output against float64, by the definition of the ops.
  double Error() const {
    const auto q = query.Host(), k = key.Host(), v = value.Host();
    const auto pk = past_key.Host(), pv = past_value.Host(), y = output.Host();
    const auto qb = query_bias.Host(), kb = key_bias.Host(), vb = value_bias.Host();
    const std::vector<std::uint8_t> m = mask ? mask->Host() : std::vector<std::uint8_t>();
    const std::vector<std::int32_t> km = key_mask ? key_mask->Host() : std::vector<std::int32_t>();
    const std::vector<std::int64_t> length =
        lengths ? lengths->Host() : std::vector<std::int64_t>();
    const auto read = [&](const HeadTensor& place, const T* base, const std::vector<T>& host, int b,
                          int h, int t, int d) -> double {
      const std::int64_t first = static_cast<const T*>(place.data) - base;
      return static_cast<float>(host[first + b * place.batch_stride + h * place.head_stride +
                                     t * place.token_stride + d]);
    };
    const T* key_base = c.packed ? query.data() : key.data();
    const T* value_base = c.packed ? query.data() : value.data();
    double error = 0, norm = 0;
    for (int b = 0; b < c.batch; ++b) {
      for (int h = 0; h < c.heads; ++h) {
        const int kv = h / (c.heads / c.kv_heads);
        for (int t = 0; t < c.sequence; ++t) {
          std::vector<double> score(total);
          double most = -INFINITY;
          for (int j = 0; j < total; ++j) {
            double dot = 0;
            for (int d = 0; d < c.head_size; ++d) {
              double x = read(args.query, query.data(), q, b, h, t, d);
              if (c.biases) x += static_cast<float>(qb[h * c.head_size + d]);
              double w =
                  j < c.past
                      ? static_cast<float>(
                            pk[((std::int64_t{b} * c.kv_heads + kv) * c.past + j) * c.head_size +
                               d])
                      : read(args.key, key_base, c.packed ? q : k, b, kv, j - c.past, d);
              if (c.biases && j >= c.past) w += static_cast<float>(kb[kv * c.head_size + d]);
              dot += x * w;
            }
            double z = dot / std::sqrt(static_cast<double>(c.head_size));
            if (c.softcap > 0) z = c.softcap * std::tanh(z / c.softcap);
            if (mask) {
              z += j < args.bias_keys
                       ? MaskAt(m, b * args.bias_batch_stride + h * args.bias_head_stride +
                                       t * args.bias_query_stride + j * args.bias_key_stride)
                       : -INFINITY;
            }
            bool hidden = false;
            if (c.key_mask == KeyMask::kLengths) hidden = j >= km[b];
            if (c.key_mask == KeyMask::kEndStart) hidden = j >= km[b] || j < km[c.batch + b];
            if (c.key_mask == KeyMask::kValues) {
              hidden = km[b * args.mask_batch_stride + t * args.mask_query_stride + j] == 0;
            }
            if (hidden) z = c.filter > -1000 ? z + c.filter : -INFINITY;
            if (c.causal && j > (lengths ? length[b] - c.sequence : c.past) + t) z = -INFINITY;
            if (lengths && j >= length[b]) z = -INFINITY;
            score[j] = z;
            most = std::max(most, z);
          }
          double sum = 0;
          for (double& z : score) sum += z = most == -INFINITY ? 0 : std::exp(z - most);
          for (int d = 0; d < c.value_size; ++d) {
            double expected = 0;
            for (int j = 0; j < total; ++j) {
              double w =
                  j < c.past
                      ? static_cast<float>(
                            pv[((std::int64_t{b} * c.kv_heads + kv) * c.past + j) * c.value_size +
                               d])
                      : read(args.value, value_base, c.packed ? q : v, b, kv, j - c.past, d);
              if (c.biases && j >= c.past) w += static_cast<float>(vb[kv * c.value_size + d]);
              expected += sum == 0 ? 0 : score[j] / sum * w;
            }
            const double got = static_cast<float>(
                y[((std::int64_t{b} * c.sequence + t) * c.heads + h) * c.value_size + d]);
            error += (got - expected) * (got - expected);
            norm += expected * expected;
          }
        }
      }
    }
    Compared() += y.size();
    return std::sqrt(error / norm);
  }

  const Case c;
  const int total;
  Buffer<T> query, key, value, past_key, past_value, query_bias, key_bias, value_bias;
  Buffer<T> present_key, present_value, output;
  std::unique_ptr<Buffer<std::int32_t>> key_mask;
  std::unique_ptr<Buffer<std::uint8_t>> mask;
  std::unique_ptr<Buffer<std::int64_t>> lengths;
  MultiHeadAttentionArgs args;
};

template <typename T>
class MultiHeadAttentionTest : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(MultiHeadAttentionTest, Types);

TYPED_TEST(MultiHeadAttentionTest, IsCloseToDouble) {
  using T = TypeParam;
  const double bound = sizeof(T) == 4 ? 1e-6 : std::is_same_v<T, __half> ? 1.5e-3 : 1.2e-2;
  for (const Case& c : kCases) {
    Problem<T> problem(c);
    problem.Run();
    EXPECT_LT(problem.Error(), bound) << Name(c);
  }
}

TYPED_TEST(MultiHeadAttentionTest, EachKernelOnce) {
  Problem<TypeParam> problem({1, 3, 3, 2, 2, 2, 16, 8, true, true, true, KeyMask::kLengths});
  problem.Run();
  EXPECT_LT(problem.Error(), sizeof(TypeParam) == 4 ? 1e-6 : 2e-2);
}

// Past and new tokens lie behind each other in present, biases added.
TYPED_TEST(MultiHeadAttentionTest, PresentHoldsEveryKey) {
  using T = TypeParam;
  Problem<T> problem({2, 5, 5, 11, 3, 3, 24, 16, true, true, true});
  problem.Run();
  const Case& c = problem.c;
  const auto past = problem.past_key.Host(), added = problem.key.Host();
  const auto bias = problem.key_bias.Host(), present = problem.present_key.Host();
  std::int64_t same = 0;
  for (int b = 0; b < c.batch; ++b) {
    for (int h = 0; h < c.kv_heads; ++h) {
      for (int j = 0; j < problem.total; ++j) {
        for (int d = 0; d < c.head_size; ++d) {
          const std::int64_t row = std::int64_t{b} * c.kv_heads + h;
          const T expected =
              j < c.past
                  ? past[(row * c.past + j) * c.head_size + d]
                  : T(static_cast<float>(
                          added[((std::int64_t{b} * c.kv_sequence + j - c.past) * c.kv_heads + h) *
                                    c.head_size +
                                d]) +
                      static_cast<float>(bias[h * c.head_size + d]));
          const T got = present[(row * problem.total + j) * c.head_size + d];
          same += std::memcmp(&got, &expected, sizeof(T)) == 0;
        }
      }
    }
  }
  EXPECT_EQ(same, static_cast<std::int64_t>(present.size()));
  Compared() += same;
}

// A sequence alone, and the same one in a batch whose others are NaN and infinity.
TYPED_TEST(MultiHeadAttentionTest, NeighboursDoNotMatter) {
  using T = TypeParam;
  for (Case c : kCases) {
    if (c.batch < 2 || c.packed) continue;
    Problem<T> whole(c);
    whole.Run();
    Buffer<T> expected(whole.output.size());
    cudaMemcpy(expected.data(), whole.output.data(), expected.size() * sizeof(T),
               cudaMemcpyDeviceToDevice);
    const std::int64_t row = whole.output.size() / c.batch;
    for (int own = 0; own < c.batch; ++own) {
      Problem<T> other(c);
      const auto take = [&](Buffer<T>& to, const Buffer<T>& from) {
        const std::int64_t size = from.size() / c.batch;
        if (size == 0) return;
        for (int b = 0; b < c.batch; ++b) {
          FillValue<<<static_cast<unsigned>((size + 255) / 256), 256>>>(to.data() + b * size, size,
                                                                        b % 2 ? NAN : INFINITY);
        }
        cudaMemcpy(to.data() + own * size, from.data() + own * size, size * sizeof(T),
                   cudaMemcpyDeviceToDevice);
      };
      take(other.query, whole.query);
      take(other.key, whole.key);
      take(other.value, whole.value);
      take(other.past_key, whole.past_key);
      take(other.past_value, whole.past_value);
      other.args.query_bias = whole.args.query_bias;
      other.args.key_bias = whole.args.key_bias;
      other.args.value_bias = whole.args.value_bias;
      other.args.mask = whole.args.mask;
      other.args.bias = whole.args.bias;
      other.Run();
      ASSERT_EQ(Differences(other.output.data() + own * row, row, expected.data() + own * row, row,
                            1, row),
                0u)
          << Name(c) << ", sequence " << own;
    }
  }
}

// The tokens of a causal sequence one by one, each with the past that the one before left, against
// all at once; with a mask of keys that hides some.
TYPED_TEST(MultiHeadAttentionTest, DecodeEqualsPrefill) {
  using T = TypeParam;
  for (const bool masked : {false, true}) {
    Case c{2, 150, 150, 0, 4, 4, 64, 64, true, true, true};
    if (masked) c.key_mask = KeyMask::kValues;
    Problem<T> whole(c);
    whole.Run();
    const std::int64_t width = c.heads * c.head_size;
    auto past_key = std::make_unique<Buffer<T>>(1), past_value = std::make_unique<Buffer<T>>(1);
    for (int t = 0; t < c.sequence; ++t) {
      MultiHeadAttentionArgs step = whole.args;
      const std::int64_t size = std::int64_t{c.batch} * c.heads * (t + 1) * c.head_size;
      auto key = std::make_unique<Buffer<T>>(size), value = std::make_unique<Buffer<T>>(size);
      Buffer<T> y(c.batch * width);
      step.sequence = step.kv_sequence = 1;
      step.past_sequence = t;
      step.past_key = t > 0 ? past_key->data() : nullptr;
      step.past_value = t > 0 ? past_value->data() : nullptr;
      step.present_key = key->data();
      step.present_value = value->data();
      step.query.data = whole.query.data() + t * width;
      step.key.data = whole.key.data() + t * width;
      step.value.data = whole.value.data() + t * c.value_size;
      step.output = y.data();
      step.output_strides = {nullptr, width, c.value_size, width};
      std::size_t bytes = 0;
      ASSERT_STATUS_OK(MultiHeadAttentionWorkspaceBytes(step, &bytes));
      Buffer<uint4> workspace((bytes + 15) / 16);
      ASSERT_STATUS_OK(MultiHeadAttention(step, workspace.data(), bytes, nullptr));
      ASSERT_CUDA(cudaDeviceSynchronize());
      ASSERT_EQ(Differences(y.data(), width, whole.output.data() + t * width, c.sequence * width,
                            c.batch, width),
                0u)
          << "token " << t << (masked ? " masked" : "");
      past_key = std::move(key);
      past_value = std::move(value);
    }
  }
}

// Keys behind those that a length mask shows change nothing, NaN or not, nor does their number.
TYPED_TEST(MultiHeadAttentionTest, PaddingDoesNotMatter) {
  using T = TypeParam;
  Case c{1, 7, 137, 0, 4, 4, 64, 64, false, false, false, KeyMask::kLengths};
  Problem<T> base(c);
  base.Run();
  for (const int padding : {1, 100, 400}) {
    Case longer = c;
    longer.kv_sequence += padding;
    Problem<T> problem(longer);
    FillValue<<<static_cast<unsigned>((problem.key.size() + 255) / 256), 256>>>(
        problem.key.data(), problem.key.size(), NAN);
    FillValue<<<static_cast<unsigned>((problem.value.size() + 255) / 256), 256>>>(
        problem.value.data(), problem.value.size(), NAN);
    cudaMemcpy(problem.query.data(), base.query.data(), base.query.size() * sizeof(T),
               cudaMemcpyDeviceToDevice);
    cudaMemcpy(problem.key.data(), base.key.data(), base.key.size() * sizeof(T),
               cudaMemcpyDeviceToDevice);
    for (int h = 0; h < c.heads; ++h) {
      cudaMemcpy(problem.value.data() + std::int64_t{h} * longer.kv_sequence * 64,
                 base.value.data() + std::int64_t{h} * c.kv_sequence * 64,
                 c.kv_sequence * 64 * sizeof(T), cudaMemcpyDeviceToDevice);
    }
    problem.args.mask = base.args.mask;
    problem.Run();
    ASSERT_EQ(
        Differences(problem.output.data(), 64, base.output.data(), 64, base.output.size() / 64, 64),
        0u)
        << padding;
  }
}

// A query that sees no key gives zeros, and so does a row without any.
TYPED_TEST(MultiHeadAttentionTest, NothingToSeeGivesZeros) {
  using T = TypeParam;
  for (const int keys : {0, 5}) {
    Problem<T> problem({2, 3, keys, 0, 2, 2, 16, 16, false, false, false, KeyMask::kLengths});
    problem.key_mask->Set({0, 0, 0, 0});
    problem.Run();
    for (const T& value : problem.output.Host()) EXPECT_EQ(static_cast<float>(value), 0.0f);
    Compared() += problem.output.size();
  }
}

TYPED_TEST(MultiHeadAttentionTest, RefusesWhatItCannotServe) {
  Problem<TypeParam> problem({1, 3, 3, 0, 2, 2, 16, 16});
  std::size_t bytes = 0;
  MultiHeadAttentionArgs args = problem.args;
  args.head_size = args.value_size = 264;
  EXPECT_FALSE(MultiHeadAttentionWorkspaceBytes(args, &bytes).ok());
  args = problem.args;
  args.kv_heads = 3;
  EXPECT_FALSE(MultiHeadAttentionWorkspaceBytes(args, &bytes).ok());
  args = problem.args;
  args.past_sequence = 4;
  EXPECT_FALSE(MultiHeadAttentionWorkspaceBytes(args, &bytes).ok());
  args = problem.args;
  args.output = nullptr;
  EXPECT_FALSE(MultiHeadAttention(args, nullptr, 0, nullptr).ok());
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
