#include "cpu/support/support.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>

namespace batch_invariant::cpu::testing {
namespace {

int64_t g_compared = 0;

std::string Hex(uint32_t bits) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", bits);
  return text;
}

template <typename Value, typename Bits>
::testing::AssertionResult Compare(std::span<const Value> expected, std::span<const Value> actual) {
  if (expected.size() != actual.size()) {
    return ::testing::AssertionFailure()
           << actual.size() << " elements where " << expected.size() << " were expected";
  }
  AddCompared(static_cast<int64_t>(expected.size()));
  size_t differences = 0;
  size_t first = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&expected[i], &actual[i], sizeof(Value)) == 0) continue;
    if (differences++ == 0) first = i;
  }
  if (differences == 0) return ::testing::AssertionSuccess();
  Bits expected_bits, actual_bits;
  std::memcpy(&expected_bits, &expected[first], sizeof(Value));
  std::memcpy(&actual_bits, &actual[first], sizeof(Value));
  return ::testing::AssertionFailure()
         << differences << " of " << expected.size() << " elements differ, first at " << first
         << ": expected " << expected[first] << " (" << Hex(expected_bits) << "), got "
         << actual[first] << " (" << Hex(actual_bits) << ")";
}

}  // namespace

TestContext::TestContext(InstructionSet instruction_set, int threads) {
  context_.instruction_set = instruction_set;
  context_.parallel.threads = threads;
  if (threads > 1) {
    context_.parallel.run = &TestContext::Run;
    context_.parallel.self = this;
  }
  context_.scratch.allocate = &TestContext::Allocate;
  context_.scratch.self = this;
}

TestContext::~TestContext() = default;

void TestContext::Run(void* self, int64_t items, Parallel::Work work, void* item_context) {
  std::atomic<int64_t> next = 0;
  auto drain = [&] {
    for (int64_t item = next++; item < items; item = next++) work(item_context, item);
  };
  std::vector<std::thread> threads;
  const int count = static_cast<TestContext*>(self)->context_.parallel.threads;
  for (int i = 1; i < count; ++i) threads.emplace_back(drain);
  drain();
  for (std::thread& thread : threads) thread.join();
}

void* TestContext::Allocate(void* self, size_t bytes) {
  auto& blocks = static_cast<TestContext*>(self)->blocks_;
  const size_t floats = (bytes + 3) / 4 + 32;
  blocks.push_back(std::make_unique<char[]>(floats * 4));
  char* block = blocks.back().get();
  for (size_t i = 0; i < floats; ++i) std::memcpy(block + 4 * i, &kPoisonBits, 4);
  return block + (64 - reinterpret_cast<uintptr_t>(block) % 64) % 64;
}

std::vector<float> Poisoned(size_t count) {
  std::vector<float> values(count);
  for (float& value : values) std::memcpy(&value, &kPoisonBits, sizeof(value));
  return values;
}

int64_t Random::Integer(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(engine_);
}

float Random::Uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(engine_);
}

std::vector<float> Random::Normal(size_t count, float deviation) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine_);
  return values;
}

std::vector<uint8_t> Random::Bytes(size_t count) {
  std::vector<uint8_t> values(count);
  for (uint8_t& value : values) value = static_cast<uint8_t>(engine_() & 0xff);
  return values;
}

::testing::AssertionResult SameBits(std::span<const float> expected,
                                    std::span<const float> actual) {
  return Compare<float, uint32_t>(expected, actual);
}

::testing::AssertionResult SameBits(std::span<const uint16_t> expected,
                                    std::span<const uint16_t> actual) {
  return Compare<uint16_t, uint16_t>(expected, actual);
}

int FuzzCases(int usual) {
  const char* asked = std::getenv("ORT_BATCH_INVARIANT_FUZZ_CASES");
  return asked == nullptr ? usual : std::max(std::atoi(asked), 1);
}

void AddCompared(int64_t count) { g_compared += count; }

void ReportCompared() {
  const int64_t compared = g_compared;
  g_compared = 0;
  if (::testing::Test::IsSkipped()) return;
  ::testing::Test::RecordProperty("elements_compared", std::to_string(compared));
  std::cout << "             " << compared << " elements compared\n";
  EXPECT_GT(compared, 0) << "the test compared nothing";
}

void InstructionSetTest::SetUp() { g_compared = 0; }

std::vector<InstructionSet> InstructionSets() {
  const auto available = AvailableInstructionSets();
  return {available.begin(), available.end()};
}

std::string InstructionSetName(const ::testing::TestParamInfo<InstructionSet>& info) {
  return std::string(Name(info.param));
}

}  // namespace batch_invariant::cpu::testing
