#!/usr/bin/env bash
# Cross-compiles the CPU kernels and their tests for AArch64 and runs them under user-mode emulation:
# NEON against plain C++, bit by bit, on an x86-64 machine. Packages (Debian): g++-aarch64-linux-gnu,
# qemu-user-static, libgtest-dev.
#   scripts/test-neon.sh [REGEX]      the CPU tests whose name matches; by default those of the NEON kernels
source "$(dirname "$0")/lib.sh"
help_asked "$@"

for tool in aarch64-linux-gnu-g++ qemu-aarch64-static; do
  command -v $tool > /dev/null ||
    die "$tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user-static libgtest-dev"
done

build=build/neon
step "Configure"
generator=(); if command -v ninja > /dev/null; then generator=(-G Ninja); fi
cmake -S . -B $build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DBATCH_INVARIANT_TESTS=ON -DORT_BATCH_INVARIANT_CUDA=OFF \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
  -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_EXE_LINKER_FLAGS=-static \
  -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static \
  -DBATCH_INVARIANT_GOOGLETEST_SOURCE=/usr/src/googletest
step "Build"
cmake --build $build --parallel "$jobs"
step "Test"
ctest --test-dir $build --label-regex cpu --tests-regex "${1:-neon}" --parallel "$jobs" --output-on-failure
