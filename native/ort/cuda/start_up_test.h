// The kernels' self-test, once for each device of the process.
#ifndef BATCH_INVARIANT_ORT_CUDA_START_UP_TEST_H_
#define BATCH_INVARIANT_ORT_CUDA_START_UP_TEST_H_

#include <map>
#include <mutex>
#include <string>

#include "batch_invariant/status.h"

namespace batch_invariant::ort {

// The oldest GPUs that have kernels, as 10 * major + minor.
inline constexpr int kOldestComputeCapability = 80;

class StartUpTest {
 public:
  static StartUpTest& OfProcess();

  // Waits for a test of the same device that is under way. A device that failed is refused from
  // then on; one that had no memory left for the test is tested again. `outcome` says in a few
  // words what was compared.
  Status Require(int ordinal, std::string* outcome);

 private:
  struct Outcome {
    Status status;
    std::string text;
  };

  std::mutex mutex_;
  std::map<int, Outcome> outcomes_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUDA_START_UP_TEST_H_
