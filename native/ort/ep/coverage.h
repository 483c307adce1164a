// Which node of a model is served by what: the list that strict mode decides on and that the host
// shows. An op on no list counts as varying.
#ifndef BATCH_INVARIANT_ORT_EP_COVERAGE_H_
#define BATCH_INVARIANT_ORT_EP_COVERAGE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ort/ort_api.h"

namespace batch_invariant::ort {

enum class ServedBy { kBatchInvariant, kStockInvariant, kStockVarying };

// An output that is a tensor, as far as the model states it or ONNX Runtime infers it.
struct OutputCoverage {
  std::string name;
  ONNXTensorElementDataType type;
  std::vector<std::string> shape;  // sizes, names, or nothing; empty when the rank is 0 or unknown
};

struct NodeCoverage {
  std::string name;
  std::string op;
  std::string domain;
  ServedBy served_by = ServedBy::kStockVarying;
  std::string contract;  // of nodes served by us
  std::string reason;    // why a varying node is not served; what an invariant one still depends on
  std::string custom_op = {};  // the name in the custom-op domain, of nodes that it has an op for
  std::vector<OutputCoverage> outputs = {};  // of a dry run only
  bool has_kernel = false;                   // a kernel of ours was created for it
};

// Where a session's kernels on a device enqueued so far, graphs that were replayed apart. Written by
// the one run at a time, read by any thread.
struct StreamUse {
  std::atomic<int64_t> runs = 0;             // in which kernels were called
  std::atomic<int64_t> runs_on_several = 0;  // of these, those whose kernels had different streams
  std::atomic<int64_t> calls_on_given = 0;   // kernel calls on a stream that ONNX Runtime named
  std::atomic<int64_t> calls_on_own = 0;     // kernel calls on the session's own stream
};

struct CoverageReport {
  std::string device;
  std::string self_test;                     // of the device; empty on the CPU
  std::shared_ptr<const StreamUse> streams;  // null on the CPU
  std::string instruction_set;
  // By GraphKey; the nodes of one graph in its own order.
  std::map<std::string, std::vector<NodeCoverage>> graphs;
};

// Tells the graphs of one session apart, however often and in whatever order partitioning looks at
// them. Empty for the model's main graph.
std::string GraphKey(const Ort::ConstGraph& graph);

// True when every stock kernel of this node gives a row the same bytes in any batch: data movement,
// element-wise arithmetic of correctly rounded operations, control flow, and anything on whole
// numbers.
bool IsInvariantByNature(const Ort::ConstNode& node);

// What the rows of a node that is invariant by nature still share, empty for most: one condition or
// trip count decides for the whole batch.
std::string SharedByRows(const Ort::ConstNode& node);

// Notes the outputs that are tensors.
void AddOutputs(const Ort::ConstNode& node, NodeCoverage* coverage);

// The coverage of a node that no kernel was made for yet; null when there is none.
NodeCoverage* FindWithoutKernel(CoverageReport* report, std::string_view node, std::string_view op);

std::string ToJson(const CoverageReport& report);

// The ops that count as invariant by nature whatever their types, as JSON: an array of objects with
// `domain`, `op` and `internal`, which is true for nodes that ONNX Runtime alone inserts.
std::string InvariantOpsToJson();

// Reports are kept for the host under the id of the option report_id. Thread-safe.
void StoreReport(const std::string& id, CoverageReport report);
// Records that a kernel of ours was created for a node: what ONNX Runtime did with the plan.
void RecordKernel(const std::string& id, const std::string& node, const std::string& op);
bool FindReport(const std::string& id, std::string* json);
void ReleaseReport(const std::string& id);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_COVERAGE_H_
