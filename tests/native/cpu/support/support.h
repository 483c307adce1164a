// What every CPU kernel test needs: contexts with any instruction set and thread count, random and
// poisoned data, and a comparison of bits that says how much it compared.
#ifndef BATCH_INVARIANT_TESTS_NATIVE_CPU_SUPPORT_SUPPORT_H_
#define BATCH_INVARIANT_TESTS_NATIVE_CPU_SUPPORT_SUPPORT_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu::testing {

// A context that owns its threads' and scratch's memory. Scratch is filled with NaN, so that a
// kernel which reads what it has not written shows.
class TestContext {
 public:
  explicit TestContext(InstructionSet instruction_set, int threads = 1);
  ~TestContext();
  TestContext(const TestContext&) = delete;
  TestContext& operator=(const TestContext&) = delete;

  const Context& get() const { return context_; }
  operator const Context&() const { return context_; }

 private:
  static void Run(void* self, int64_t items, Parallel::Work work, void* item_context);
  static void* Allocate(void* self, size_t bytes);

  Context context_;
  std::vector<std::unique_ptr<char[]>> blocks_;
};

// The NaN that poison writes. No kernel produces it: results that are NaN are 0x7fc00000.
inline constexpr uint32_t kPoisonBits = 0x7fbadbad;
std::vector<float> Poisoned(size_t count);

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  int64_t Integer(int64_t low, int64_t high);  // both included
  float Uniform(float low, float high);
  std::vector<float> Normal(size_t count, float deviation = 1.0f);
  std::vector<uint8_t> Bytes(size_t count);

 private:
  std::mt19937 engine_;
};

// Compares bits. The result names the first difference and how many there are.
::testing::AssertionResult SameBits(std::span<const float> expected, std::span<const float> actual);
::testing::AssertionResult SameBits(std::span<const uint16_t> expected,
                                    std::span<const uint16_t> actual);

// How many random cases a test runs: `usual`, or what the environment variable
// ORT_BATCH_INVARIANT_FUZZ_CASES asks for.
int FuzzCases(int usual);

// How many elements the running test has compared with SameBits, over all calls. A test's fixture
// calls ReportCompared() from TearDown: it prints and records the number, and fails when it is 0.
void AddCompared(int64_t count);
void ReportCompared();

// A fixture whose parameter is an instruction set; names its instances by set.
class InstructionSetTest : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override;
  void TearDown() override { ReportCompared(); }
};
std::vector<InstructionSet> InstructionSets();
std::string InstructionSetName(const ::testing::TestParamInfo<InstructionSet>& info);

}  // namespace batch_invariant::cpu::testing

#define BI_INSTANTIATE_INSTRUCTION_SETS(Suite)                                             \
  INSTANTIATE_TEST_SUITE_P(                                                                \
      Cpu, Suite, ::testing::ValuesIn(::batch_invariant::cpu::testing::InstructionSets()), \
      ::batch_invariant::cpu::testing::InstructionSetName)

#endif  // BATCH_INVARIANT_TESTS_NATIVE_CPU_SUPPORT_SUPPORT_H_
