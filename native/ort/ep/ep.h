// The provider of one session: options, partitioning, strictness.
#ifndef BATCH_INVARIANT_ORT_EP_EP_H_
#define BATCH_INVARIANT_ORT_EP_EP_H_

#include <mutex>
#include <optional>
#include <string>

#include "ort/ep/coverage.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

class EpFactory;

struct EpOptions {
  bool strict = true;
  cpu::InstructionSet instruction_set = cpu::InstructionSet::kScalar;
  std::string report_id;
};

// Reads the session entries ep.batchinvariantexecutionprovider.*; kInvalidArgument names the entry.
Status ReadOptions(Ort::ConstSessionOptions session_options, EpOptions* options);

class BatchInvariantEp : public OrtEp {
 public:
  BatchInvariantEp(const EpFactory& factory, EpOptions options);

  const EpOptions& options() const { return options_; }

 private:
  Status GetCapability(Ort::ConstGraph graph, OrtEpGraphSupportInfo* support_info);
  Status Compile();

  const EpFactory& factory_;
  EpOptions options_;
  std::mutex mutex_;
  CoverageReport report_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_EP_H_
