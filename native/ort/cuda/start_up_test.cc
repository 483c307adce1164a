#include "ort/cuda/start_up_test.h"

#include <cstdio>

#include "batch_invariant/cuda/self_test.h"
#include "ort/cuda/cuda_error.h"

namespace batch_invariant::ort {
namespace {

// On a stream of its own: nothing else in the process has to wait.
Status Run(int ordinal, cuda::SelfTestResult* result) {
  const ScopedDevice current(ordinal);
  cudaStream_t stream = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream"));
  Status status = cuda::SelfTest(stream, result);
  (void)cudaStreamDestroy(stream);
  return status;
}

}  // namespace

StartUpTest& StartUpTest::OfProcess() {
  static auto* test = new StartUpTest();
  return *test;
}

Status StartUpTest::Require(int ordinal, std::string* outcome) {
  const std::lock_guard lock(mutex_);
  auto found = outcomes_.find(ordinal);
  if (found == outcomes_.end()) {
    cuda::SelfTestResult result;
    Status status = Run(ordinal, &result);
    if (status.code == StatusCode::kOutOfMemory) return status;
    char text[96];
    std::snprintf(text, sizeof text, "%d comparisons of %lld results in %.1f ms",
                  result.comparisons, static_cast<long long>(result.elements), result.milliseconds);
    found = outcomes_.emplace(ordinal, Outcome{std::move(status), text}).first;
  }
  *outcome = found->second.text;
  return found->second.status;
}

}  // namespace batch_invariant::ort
