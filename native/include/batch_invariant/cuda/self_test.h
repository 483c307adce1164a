// The start-up self-test: the instruction paths between which a row count, an alignment or a phase
// (prefill, decode) chooses, compared byte for byte on the device at hand. That wgmma and mma.sync
// of any shape add in one order is what measurements show, not what a vendor guarantees.
#ifndef BATCH_INVARIANT_CUDA_SELF_TEST_H_
#define BATCH_INVARIANT_CUDA_SELF_TEST_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

struct SelfTestResult {
  int comparisons = 0;
  std::int64_t elements = 0;  // compared bit for bit
  double milliseconds = 0;
};

// Runs every kernel of the GEMM and MatMulNBits tables that serves this device on many rows and on
// few and, where it gates, gated; attention by walking its key blocks and by spreading them, merged
// by a kernel of its own and where the last part arrives; and norms with and without vector loads,
// on fixed random data of which most results are rounding errors: sums that cancel, so that another
// order of additions cannot hide behind the last rounding. Enqueues on `stream` and waits.
// kDeviceError: two paths disagree, and the message names them and the device; or the device
// failed. kOutOfMemory: the device has not the few MiB that it takes.
// The environment variable ORT_BATCH_INVARIANT_SPOIL_SELF_TEST = N spoils one result of comparison
// N, counted from 0: a drill of the refusal.
Status SelfTest(Stream stream, SelfTestResult* result);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_SELF_TEST_H_
