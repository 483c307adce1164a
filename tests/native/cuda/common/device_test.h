// What the CUDA kernel tests share: device buffers, fresh random data made on the device, bitwise
// comparison on the device.
#ifndef BATCH_INVARIANT_TESTS_CUDA_COMMON_DEVICE_TEST_H_
#define BATCH_INVARIANT_TESTS_CUDA_COMMON_DEVICE_TEST_H_

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/common/convert.cuh"

namespace batch_invariant::cuda::test {

#define ASSERT_CUDA(expression) ASSERT_EQ((expression), cudaSuccess)
#define ASSERT_STATUS_OK(expression)                   \
  do {                                                 \
    const ::batch_invariant::Status s_ = (expression); \
    ASSERT_TRUE(s_.ok()) << s_.message;                \
  } while (false)

// One seed a process, printed so that a failure can be repeated.
inline std::uint64_t NextSeed() {
  static std::uint64_t seed = [] {
    const char* fixed = std::getenv("BATCH_INVARIANT_TEST_SEED");
    const std::uint64_t s =
        fixed ? std::strtoull(fixed, nullptr, 10) : (std::uint64_t{std::random_device{}()} << 20);
    std::printf("seed %llu (BATCH_INVARIANT_TEST_SEED repeats it)\n",
                static_cast<unsigned long long>(s));
    return s;
  }();
  return ++seed;
}

// Device memory with `Guard` elements on either side that must keep their bytes.
template <typename T>
class Buffer {
 public:
  static constexpr std::size_t kGuard = 64;
  explicit Buffer(std::size_t count) : count_(count) {
    const std::size_t bytes = (count + 2 * kGuard) * sizeof(T);
    if (cudaMalloc(&base_, bytes) != cudaSuccess) {
      throw std::runtime_error("the GPU has no memory left for " + std::to_string(bytes) +
                               " bytes; other programs may use it");
    }
    Poison();
  }
  ~Buffer() { cudaFree(base_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return base_ + kGuard; }
  std::size_t size() const { return count_; }
  // Every byte 0xff: NaN in every type.
  void Poison() { cudaMemset(base_, 0xff, (count_ + 2 * kGuard) * sizeof(T)); }
  std::vector<T> Host() const {
    std::vector<T> host(count_);
    cudaMemcpy(host.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return host;
  }
  void Set(const std::vector<T>& host) {
    cudaMemcpy(data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  bool GuardsIntact() const {
    std::vector<unsigned char> bytes((count_ + 2 * kGuard) * sizeof(T));
    cudaMemcpy(bytes.data(), base_, bytes.size(), cudaMemcpyDeviceToHost);
    for (std::size_t i = 0; i < kGuard * sizeof(T); ++i) {
      if (bytes[i] != 0xff || bytes[bytes.size() - 1 - i] != 0xff) return false;
    }
    return true;
  }

 private:
  std::size_t count_;
  T* base_ = nullptr;
};

enum class Data { kNormal, kSpread, kCancelling, kSubnormal, kIntegers, kSparse };
inline constexpr Data kAllData[] = {Data::kNormal,    Data::kSpread,   Data::kCancelling,
                                    Data::kSubnormal, Data::kIntegers, Data::kSparse};
inline const char* Name(Data data) {
  switch (data) {
    case Data::kNormal:
      return "normal";
    case Data::kSpread:
      return "spread magnitudes";
    case Data::kCancelling:
      return "cancelling halves of K";
    case Data::kSubnormal:
      return "subnormal";
    case Data::kIntegers:
      return "small integers";
    default:
      return "98 % zeros";
  }
}

__device__ inline std::uint64_t Mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Rows of `columns` elements. kCancelling: the second half of a row repeats the first with the sign
// turned (of one operand) and small noise.
template <typename T>
__global__ void FillRandom(T* out, std::size_t count, std::size_t columns, Data data, bool negate,
                           std::uint64_t seed) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t source = i;
  const std::size_t column = i % columns, half = columns / 2;
  const bool second = data == Data::kCancelling && half > 0 && column >= half && column < 2 * half;
  if (second) source = i - half;
  const std::uint64_t bits = Mix(seed ^ Mix(source));
  const float u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  const float v = static_cast<float>((bits >> 8) & 0xffffff) * 0x1p-24f;
  float x = sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
  constexpr bool kIsHalf = std::is_same_v<T, __half>;
  switch (data) {
    case Data::kSpread: {
      const int range = kIsHalf ? 6 : 20;
      x = ldexpf(x, static_cast<int>((bits & 0xff) % (2 * range + 1)) - range);
      break;
    }
    case Data::kCancelling:
      if (second) {
        x = x * (1.0f + 0x1p-7f * static_cast<float>(static_cast<int>(Mix(i + seed) % 3) - 1));
        if (negate) x = -x;
      }
      break;
    case Data::kSubnormal:
      x = ldexpf(x, kIsHalf ? -18 : (negate ? -130 : 0));
      break;
    case Data::kIntegers:
      x = static_cast<float>(static_cast<int>(bits % 17) - 8);
      break;
    case Data::kSparse:
      if (Mix(bits) % 100 < 98) x = 0.0f;
      break;
    default:
      break;
  }
  out[i] = FromFloat<T>(x);
}

// `negate` distinguishes the two operands of a product.
template <typename T>
void Randomize(T* out, std::size_t count, std::size_t columns, Data data = Data::kNormal,
               bool negate = false) {
  if (count == 0) return;
  FillRandom<<<static_cast<unsigned>((count + 255) / 256), 256>>>(out, count, columns, data, negate,
                                                                  NextSeed());
}

template <typename T>
__global__ void FillValue(T* out, std::size_t count, float value) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) out[i] = FromFloat<T>(value);
}

template <typename Word>
__global__ void CountDifferences(const Word* x, std::int64_t x_stride, const Word* y,
                                 std::int64_t y_stride, std::int64_t rows, std::int64_t columns,
                                 unsigned long long* differences) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= rows * columns) return;
  const std::int64_t row = i / columns, column = i % columns;
  if (x[row * x_stride + column] != y[row * y_stride + column]) atomicAdd(differences, 1ull);
}

// Elements compared bit for bit so far in this test program.
inline std::uint64_t& Compared() {
  static std::uint64_t compared = 0;
  return compared;
}

// How many of rows x columns elements differ in any bit.
template <typename T>
std::uint64_t Differences(const T* x, std::int64_t x_stride, const T* y, std::int64_t y_stride,
                          std::int64_t rows, std::int64_t columns) {
  static unsigned long long* device = [] {
    unsigned long long* p = nullptr;
    cudaMalloc(&p, sizeof(*p));
    return p;
  }();
  using Word = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
  cudaMemset(device, 0, sizeof(*device));
  CountDifferences<<<static_cast<unsigned>((rows * columns + 255) / 256), 256>>>(
      reinterpret_cast<const Word*>(x), x_stride, reinterpret_cast<const Word*>(y), y_stride, rows,
      columns, device);
  unsigned long long host = ~0ull;
  if (cudaMemcpy(&host, device, sizeof(host), cudaMemcpyDeviceToHost) != cudaSuccess) return ~0ull;
  Compared() += static_cast<std::uint64_t>(rows * columns);
  return host;
}

// Prints the count when the program ends and fails it when nothing was compared.
class ComparedCount : public ::testing::Environment {
 public:
  void TearDown() override {
    std::printf("%llu elements compared bit for bit\n",
                static_cast<unsigned long long>(Compared()));
    EXPECT_GT(Compared(), 0u) << "no element was compared";
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
};

// main() of a test program: skips everything, with the reason, where there is no CUDA device.
inline int RunTests(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  ::testing::AddGlobalTestEnvironment(new ComparedCount);
  return RUN_ALL_TESTS();
}

}  // namespace batch_invariant::cuda::test

#endif  // BATCH_INVARIANT_TESTS_CUDA_COMMON_DEVICE_TEST_H_
