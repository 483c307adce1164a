// Rows that lie more than 2^31 elements apart, and none of them aligned: what the kernels compute
// offsets in. The memory between the rows is reserved and never touched. And tensors of more than
// 2^31 elements, whose pages are a few ones again and again, except for the last rows.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "batch_invariant/cpu/attention.h"
#include "batch_invariant/cpu/elementwise.h"
#include "batch_invariant/cpu/matmul.h"
#include "batch_invariant/cpu/matmul_nbits.h"
#include "batch_invariant/cpu/norm.h"
#include "batch_invariant/cpu/reduce.h"
#include "batch_invariant/cpu/rotary.h"
#include "batch_invariant/cpu/softmax.h"
#include "cpu/support/support.h"

namespace batch_invariant::cpu::testing {
namespace {

constexpr int64_t kFar = (int64_t{1} << 31) + 24;  // elements from one row to the next
constexpr int64_t kRows = 3;

// Rows of `width` floats, kFar apart, beginning one float behind an aligned address.
class FarRows {
 public:
  FarRows() {
    memory_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~FarRows() {
    if (ok()) munmap(memory_, kBytes);
  }
  FarRows(const FarRows&) = delete;
  FarRows& operator=(const FarRows&) = delete;

  bool ok() const { return memory_ != MAP_FAILED; }
  float* data() const { return static_cast<float*>(memory_) + 1; }

  void Put(const std::vector<float>& rows) {
    const size_t width = rows.size() / kRows;
    for (int64_t r = 0; r < kRows; ++r) {
      std::copy_n(rows.begin() + r * static_cast<int64_t>(width), width, data() + r * kFar);
    }
  }
  std::vector<float> Take(int64_t width) const {
    std::vector<float> rows;
    for (int64_t r = 0; r < kRows; ++r) {
      rows.insert(rows.end(), data() + r * kFar, data() + r * kFar + width);
    }
    return rows;
  }

 private:
  static constexpr size_t kBytes = static_cast<size_t>(kRows) * kFar * sizeof(float);
  void* memory_;
};

class OffsetsTest : public InstructionSetTest {
 protected:
  void SetUp() override {
    InstructionSetTest::SetUp();
    if (!a_.ok() || !y_.ok()) GTEST_SKIP() << "no address space of 48 GiB";
  }
  FarRows a_, y_;
};

TEST_P(OffsetsTest, MatMulAndMatMulNBits) {
  Random random(91);
  const TestContext context(GetParam(), 2);
  const int64_t k = 70, n = 37;
  const auto a = random.Normal(kRows * k), b = random.Normal(k * n);
  MatMulArgs args;
  args.m = kRows;
  args.n = n;
  args.k = k;
  args.a = {a.data(), k, 1};
  args.b = {b.data(), n, 1};
  std::vector<float> near = Poisoned(kRows * n);
  args.y = near.data();
  args.y_row_stride = n;
  ASSERT_TRUE(MatMul(context, args).ok());
  a_.Put(a);
  args.a = {a_.data(), kFar, 1};
  args.y = y_.data();
  args.y_row_stride = kFar;
  ASSERT_TRUE(MatMul(context, args).ok());
  EXPECT_TRUE(SameBits(near, y_.Take(n)));

  for (const int64_t level : {0, 4}) {
    MatMulNBitsPlan plan;
    ASSERT_TRUE(MakeMatMulNBitsPlan(k, n, 4, 32, level, ZeroPoints::kDefault, &plan).ok());
    const auto weights = random.Bytes(n * plan.blocks() * 16);
    const auto scales = random.Normal(n * plan.blocks());
    std::vector<uint8_t> packed(PackedMatMulNBitsBytes(plan));
    ASSERT_TRUE(
        PackMatMulNBits(context, plan, weights.data(), scales.data(), nullptr, packed.data()).ok());
    MatMulNBitsArgs bits = {kRows, a.data(), k, packed.data(), nullptr, near.data(), n};
    ASSERT_TRUE(MatMulNBits(context, plan, bits).ok());
    bits.a = a_.data();
    bits.y = y_.data();
    bits.a_row_stride = bits.y_row_stride = kFar;
    ASSERT_TRUE(MatMulNBits(context, plan, bits).ok());
    EXPECT_TRUE(SameBits(near, y_.Take(n)));
  }
}

TEST_P(OffsetsTest, AttentionAndRotary) {
  Random random(92);
  const TestContext context(GetParam(), 2);
  const int64_t heads = 2, size = 24, width = heads * size;  // one token a row, rows as batch
  const auto x = random.Normal(kRows * width);
  a_.Put(x);
  AttentionArgs args;
  args.batch = kRows;
  args.query_heads = args.kv_heads = heads;
  args.queries = args.keys = 1;
  args.head_size = args.value_size = size;
  std::vector<float> near = Poisoned(kRows * width);
  args.query = args.key = args.value = {x.data(), width, size, width};
  args.output = {near.data(), width, size, width};
  ASSERT_TRUE(AttentionF32(context, args).ok());
  args.query = args.key = args.value = {a_.data(), kFar, size, width};
  args.output = {y_.data(), kFar, size, width};
  ASSERT_TRUE(AttentionF32(context, args).ok());
  EXPECT_TRUE(SameBits(near, y_.Take(width)));

  const auto cosine = random.Normal(8 * size / 2), sine = random.Normal(8 * size / 2);
  const std::vector<int64_t> positions = {5, 0, 7};
  RotaryArgs rotary;
  rotary.batch = kRows;
  rotary.heads = heads;
  rotary.tokens = 1;
  rotary.head_size = rotary.rotary_dim = size;
  rotary.x = x.data();
  rotary.y = near.data();
  rotary.x_batch = rotary.y_batch = rotary.x_token = rotary.y_token = width;
  rotary.x_head = rotary.y_head = size;
  rotary.position_ids = positions.data();
  rotary.cos_cache = cosine.data();
  rotary.sin_cache = sine.data();
  rotary.cache_rows = 8;
  ASSERT_TRUE(RotaryF32(context, rotary).ok());
  rotary.x = a_.data();
  rotary.y = y_.data();
  rotary.x_batch = rotary.y_batch = kFar;
  ASSERT_TRUE(RotaryF32(context, rotary).ok());
  EXPECT_TRUE(SameBits(near, y_.Take(width)));
}

TEST_P(OffsetsTest, SiluMul) {
  Random random(93);
  const TestContext context(GetParam(), 2);
  const int64_t width = 45;
  const auto gate = random.Normal(kRows * width), up = random.Normal(kRows * width);
  std::vector<float> near = Poisoned(kRows * width);
  SiluMulArgs args = {kRows, width, gate.data(), width, up.data(), width, near.data(), width};
  ASSERT_TRUE(SiluMulF32(context, args).ok());
  a_.Put(gate);
  args.gate = a_.data();
  args.y = y_.data();
  args.gate_stride = args.y_stride = kFar;
  ASSERT_TRUE(SiluMulF32(context, args).ok());
  EXPECT_TRUE(SameBits(near, y_.Take(width)));
}

// ThreadSanitizer keeps four bytes for each byte that is touched, 72 GiB for the tensors below.
#ifndef __SANITIZE_THREAD__
// More than 2^31 floats in kPieces pieces: all but the last are the same memory.
class ManyRows {
 public:
  static constexpr int64_t kWidth = 4096;
  static constexpr int64_t kPieceRows = 4096;
  static constexpr int64_t kPieces = 130;
  static constexpr int64_t kRows = kPieces * kPieceRows;
  static_assert(kRows * kWidth > (int64_t{1} << 31));

  ManyRows() : file_(memfd_create("rows", 0)) {
    if (file_ < 0 || ftruncate(file_, 2 * kPieceBytes) != 0) return;
    void* memory = mmap(nullptr, kPieces * kPieceBytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    memory_ = static_cast<char*>(memory);
    for (int64_t piece = 0; piece < kPieces; ++piece) {
      if (mmap(memory_ + piece * kPieceBytes, kPieceBytes, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED, file_,
               piece + 1 < kPieces ? 0 : kPieceBytes) == MAP_FAILED) {
        return;
      }
    }
    ok_ = true;
  }
  ~ManyRows() {
    if (memory_ != nullptr) munmap(memory_, kPieces * kPieceBytes);
    if (file_ >= 0) close(file_);
  }
  ManyRows(const ManyRows&) = delete;
  ManyRows& operator=(const ManyRows&) = delete;

  bool ok() const { return ok_; }
  float* data() const { return reinterpret_cast<float*>(memory_); }
  // The last row of all.
  std::span<float> Last() const {
    return {data() + (kRows - 1) * kWidth, static_cast<size_t>(kWidth)};
  }

 private:
  static constexpr int64_t kPieceBytes = kPieceRows * kWidth * sizeof(float);
  int file_;
  char* memory_ = nullptr;
  bool ok_ = false;
};

TEST(ManyElementsTest, TheLastRowHasTheBytesOfARowAlone) {
  const ManyRows x, y;
  if (!x.ok() || !y.ok()) GTEST_SKIP() << "no address space of 18 GiB";
  Random random(94);
  const TestContext context(BestInstructionSet(), 2);
  constexpr int64_t kWidth = ManyRows::kWidth;
  const auto row = random.Normal(kWidth);
  std::copy(row.begin(), row.end(), x.Last().begin());
  const auto both = [&](auto run) {
    std::vector<float> alone = Poisoned(kWidth);
    ASSERT_TRUE(run(1, row.data(), alone.data()).ok());
    const auto poison = Poisoned(kWidth);
    std::copy(poison.begin(), poison.end(), y.Last().begin());
    ASSERT_TRUE(run(ManyRows::kRows, x.data(), y.data()).ok());
    EXPECT_TRUE(SameBits(alone, y.Last()));
  };
  both([&](int64_t rows, const float* from, float* to) {
    NormArgs args;
    args.rows = rows;
    args.width = kWidth;
    args.x = from;
    args.y = to;
    return RmsNormF32(context, args);
  });
  both([&](int64_t rows, const float* from, float* to) {
    return SoftmaxF32(context, {rows, kWidth, 1, from, to});
  });
  both([&](int64_t rows, const float* from, float* to) {
    return UnaryF32(context, {UnaryOp::kSilu, rows, kWidth, 0.0f, from, nullptr, to});
  });
  both([&](int64_t rows, const float* from, float* to) {
    const int64_t shape[] = {rows, kWidth}, strides[] = {kWidth, 1};
    return BinaryF32(context, {BinaryOp::kAdd, shape, from, strides, from, strides, to});
  });
  float alone, sum;
  ASSERT_TRUE(ReduceF32(context, {ReduceOp::kSum, 1, kWidth, row.data(), &alone}).ok());
  ASSERT_TRUE(
      ReduceF32(context, {ReduceOp::kSum, ManyRows::kRows, kWidth, x.data(), y.data()}).ok());
  sum = y.data()[ManyRows::kRows - 1];
  EXPECT_TRUE(SameBits(std::span(&alone, 1), std::span(&sum, 1)));
  ReportCompared();
}
#endif  // __SANITIZE_THREAD__

BI_INSTANTIATE_INSTRUCTION_SETS(OffsetsTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
