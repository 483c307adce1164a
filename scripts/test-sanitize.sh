#!/usr/bin/env bash
# Builds the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer and runs their tests on many more random shapes.
#   scripts/test-sanitize.sh [CASES]      random cases of each fuzzed op; 5000, so 10,000 in all
source "$(dirname "$0")/lib.sh"
help_asked "$@"

require cmake c++ ninja-or-make googletest
generator=(); if command -v ninja >/dev/null; then generator=(-G Ninja); fi
step "Building with sanitizers"
cmake --preset sanitize "${generator[@]}"
cmake --build build/sanitize --parallel "$jobs"
step "Testing"
ORT_BATCH_INVARIANT_FUZZ_CASES=${1:-5000} ctest --test-dir build/sanitize --label-regex cpu --parallel "$jobs" --output-on-failure
