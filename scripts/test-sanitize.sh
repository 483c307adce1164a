#!/usr/bin/env bash
# Builds the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer and runs their tests on many more random shapes.
#   scripts/test-sanitize.sh [--races] [CASES]
#     --races      with ThreadSanitizer instead
#     CASES        random cases of each fuzzed op and instruction set; 1000, so 32,000 or more in all
source "$(dirname "$0")/lib.sh"
help_asked "$@"

preset=sanitize
if [ "${1:-}" = --races ]; then preset=races; shift; fi

require cmake c++ ninja-or-make googletest
generator=(); if command -v ninja >/dev/null; then generator=(-G Ninja); fi
step "Building with sanitizers (preset $preset)"
cmake --preset $preset "${generator[@]}"
cmake --build build/$preset --parallel "$jobs"
step "Testing"
ORT_BATCH_INVARIANT_FUZZ_CASES=${1:-1000} ctest --test-dir build/$preset --label-regex cpu --parallel "$jobs" --output-on-failure
