// Which values of a graph lie in host memory although the session runs on a device.
#ifndef BATCH_INVARIANT_ORT_EP_HOST_VALUES_H_
#define BATCH_INVARIANT_ORT_EP_HOST_VALUES_H_

#include <set>
#include <string>

#include "ort/ort_api.h"

namespace batch_invariant::ort {

// Shapes and what is computed from them. A node that reads nothing else is cheaper on the host than
// two copies. Constants are wherever they are needed. ONNX Runtime partitions a subgraph before the
// graph around it, so that nothing is known of a value from there but its type: it counts as a
// shape when it has the form of one, int64 with at most one dimension.
class HostValues {
 public:
  bool BelongsOnHost(const Ort::ConstNode& node) const;

  // Records where a node that was looked at leaves its outputs.
  void AddOutput(const Ort::ConstNode& node, int index);
  void AddOutputs(const Ort::ConstNode& node);

 private:
  void Add(const Ort::ConstValueInfo& value);
  bool Contains(const Ort::ConstValueInfo& value) const;

  std::set<std::string> names_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_HOST_VALUES_H_
