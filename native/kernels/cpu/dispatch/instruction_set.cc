// Which instruction sets this processor, and the operating system under it, can run.
#include <array>
#include <cstdint>

#include "batch_invariant/cpu/context.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace batch_invariant::cpu {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers Cpuid(uint32_t leaf) {
  Registers r;
#if defined(_MSC_VER)
  int highest[4];
  __cpuid(highest, 0);
  if (static_cast<uint32_t>(highest[0]) < leaf) return r;
  int values[4];
  __cpuidex(values, static_cast<int>(leaf), 0);
  r = {static_cast<uint32_t>(values[0]), static_cast<uint32_t>(values[1]),
       static_cast<uint32_t>(values[2]), static_cast<uint32_t>(values[3])};
#else
  __get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// The register states that the operating system saves and restores.
uint64_t SavedStates() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool All(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

bool Supported(InstructionSet instruction_set) {
  const Registers features = Cpuid(1);
  const Registers extended = Cpuid(7);
  constexpr uint32_t kFma = 1u << 12, kOsXsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;
  constexpr uint32_t kAvx2Bit = 1u << 5;
  constexpr uint64_t kSseAndAvxState = 0x6, kAvx512State = 0xe6;
  const bool avx2 = All(features.ecx, kFma | kOsXsave | kAvx | kF16c) &&
                    All(extended.ebx, kAvx2Bit) && All(SavedStates(), kSseAndAvxState);
  switch (instruction_set) {
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kAvx512: {
      constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
      constexpr uint32_t kVnni = 1u << 11;
      return avx2 && All(extended.ebx, kF | kDq | kBw | kVl) && All(extended.ecx, kVnni) &&
             All(SavedStates(), kAvx512State);
    }
    default:
      return false;
  }
}

#elif defined(__aarch64__) || defined(_M_ARM64)

bool Supported(InstructionSet instruction_set) {
  return instruction_set == InstructionSet::kNeon;  // part of AArch64 itself
}

#else

bool Supported(InstructionSet) { return false; }

#endif

struct Sets {
  std::array<InstructionSet, 4> values = {InstructionSet::kScalar};
  size_t count = 1;
};

const Sets& Available() {
  static const Sets sets = [] {
    Sets found;
    for (InstructionSet set :
         {InstructionSet::kNeon, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
      if (Supported(set)) found.values[found.count++] = set;
    }
    return found;
  }();
  return sets;
}

}  // namespace

std::span<const InstructionSet> AvailableInstructionSets() {
  return {Available().values.data(), Available().count};
}

InstructionSet BestInstructionSet() { return AvailableInstructionSets().back(); }

std::string_view Name(InstructionSet instruction_set) {
  switch (instruction_set) {
    case InstructionSet::kScalar:
      return "scalar";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
    case InstructionSet::kNeon:
      return "neon";
  }
  return "unknown";
}

bool Parse(std::string_view name, InstructionSet* out) {
  for (InstructionSet set : {InstructionSet::kScalar, InstructionSet::kAvx2,
                             InstructionSet::kAvx512, InstructionSet::kNeon}) {
    if (name == Name(set)) {
      *out = set;
      return true;
    }
  }
  return false;
}

}  // namespace batch_invariant::cpu
