#include "ort/ep/coverage.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <string_view>

#include "ort/ops/invariant_ops.h"

namespace batch_invariant::ort {
namespace {

bool IsWholeNumber(const Ort::ConstValueInfo& value) {
  if (static_cast<const OrtValueInfo*>(value) == nullptr) return true;
  const Ort::ConstTypeInfo type = value.TypeInfo();
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return false;
  switch (type.GetTensorTypeAndShapeInfo().GetElementType()) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING:
      return true;
    default:
      return false;
  }
}

bool AllWholeNumbers(const Ort::ConstNode& node) {
  const auto inputs = node.GetInputs();
  const auto outputs = node.GetOutputs();
  return std::all_of(inputs.begin(), inputs.end(), IsWholeNumber) &&
         std::all_of(outputs.begin(), outputs.end(), IsWholeNumber);
}

void AppendJsonString(std::string& json, std::string_view text) {
  json += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      json += escaped;
    } else {
      json += c;
    }
  }
  json += '"';
}

void AppendJsonFlag(std::string& json, std::string_view key, bool value) {
  AppendJsonString(json, key);
  json += value ? ":true" : ":false";
}

void AppendJsonField(std::string& json, std::string_view key, std::string_view value, bool last) {
  AppendJsonString(json, key);
  json += ':';
  AppendJsonString(json, value);
  if (!last) json += ',';
}

std::string_view ServedByText(ServedBy served_by) {
  switch (served_by) {
    case ServedBy::kBatchInvariant:
      return "batch-invariant";
    case ServedBy::kStockInvariant:
      return "stock-invariant";
    case ServedBy::kStockVarying:
      return "stock-varying";
  }
  return "stock-varying";
}

std::mutex g_reports_mutex;

std::map<std::string, CoverageReport>& Reports() {
  static auto* reports = new std::map<std::string, CoverageReport>();
  return *reports;
}

}  // namespace

bool IsInvariantByNature(const Ort::ConstNode& node) {
  std::string domain = node.GetDomain();
  if (domain == "ai.onnx") domain.clear();
  if (!domain.empty() && domain != "com.microsoft") return false;
  return IsInvariantOp(domain, node.GetOperatorType()) || AllWholeNumbers(node);
}

std::string SharedByRows(const Ort::ConstNode& node) {
  const std::string op = node.GetOperatorType();
  if (!node.GetDomain().empty() && node.GetDomain() != "ai.onnx") return {};
  if (op == "If") {
    return "one condition chooses the branch for the whole batch: a row keeps its bytes where the "
           "other rows do not change that condition, such as by being longer than a limit";
  }
  if (op == "Loop") {
    return "one trip count and condition hold for the whole batch: a row keeps its bytes where the "
           "other rows do not change them";
  }
  return {};
}

void AddOutputs(const Ort::ConstNode& node, NodeCoverage* coverage) {
  for (const Ort::ConstValueInfo& output : node.GetOutputs()) {
    if (static_cast<const OrtValueInfo*>(output) == nullptr) continue;
    const Ort::ConstTypeInfo type = output.TypeInfo();
    if (type.GetONNXType() != ONNX_TYPE_TENSOR) continue;
    const auto info = type.GetTensorTypeAndShapeInfo();
    OutputCoverage described{output.GetName(), info.GetElementType(), {}};
    const std::vector<const char*> names = info.GetSymbolicDimensions();
    for (const int64_t size : info.GetShape()) {
      const char* name = names[described.shape.size()];
      described.shape.push_back(size >= 0 ? std::to_string(size) : name);
    }
    coverage->outputs.push_back(std::move(described));
  }
}

std::string GraphKey(const Ort::ConstGraph& graph) {
  const Ort::ConstNode parent = graph.GetParentNode();
  if (static_cast<const OrtNode*>(parent) == nullptr) return {};
  // No value hides one of an outer scope, so that what the parent computes names it. Its branches
  // differ in their own names or outputs.
  std::string key;
  const auto add = [&key](const std::vector<Ort::ConstValueInfo>& values) {
    for (const Ort::ConstValueInfo& value : values) {
      if (static_cast<const OrtValueInfo*>(value) != nullptr) key += value.GetName();
      key += '\n';
    }
  };
  add(parent.GetOutputs());
  key += graph.GetName() + '\n';
  add(graph.GetOutputs());
  return key;
}

NodeCoverage* FindWithoutKernel(CoverageReport* report, std::string_view node,
                                std::string_view op) {
  for (auto& [graph, nodes] : report->graphs) {
    for (NodeCoverage& coverage : nodes) {
      if (!coverage.has_kernel && coverage.name == node && coverage.op == op) return &coverage;
    }
  }
  return nullptr;
}

std::string ToJson(const CoverageReport& report) {
  std::string json = "{";
  AppendJsonField(json, "provider", kProviderName, false);
  AppendJsonField(json, "device", report.device, false);
  AppendJsonField(json, "selfTest", report.self_test, false);
  AppendJsonField(json, "instructionSet", report.instruction_set, false);
  if (report.streams != nullptr) {
    const StreamUse& streams = *report.streams;
    AppendJsonString(json, "streams");
    json += ":{\"runs\":" + std::to_string(streams.runs) +
            ",\"runsOnSeveral\":" + std::to_string(streams.runs_on_several) +
            ",\"callsOnGiven\":" + std::to_string(streams.calls_on_given) +
            ",\"callsOnOwn\":" + std::to_string(streams.calls_on_own) + "},";
  }
  AppendJsonString(json, "nodes");
  json += ":[";
  bool is_first = true;
  for (const auto& [graph, nodes] : report.graphs) {
    for (const NodeCoverage& node : nodes) {
      if (!is_first) json += ',';
      is_first = false;
      json += '{';
      AppendJsonField(json, "name", node.name, false);
      AppendJsonField(json, "op", node.op, false);
      AppendJsonField(json, "domain", node.domain, false);
      AppendJsonField(json, "servedBy", ServedByText(node.served_by), false);
      AppendJsonField(json, "contract", node.contract, false);
      AppendJsonField(json, "reason", node.reason, false);
      AppendJsonField(json, "customOp", node.custom_op, false);
      if (!node.outputs.empty()) {
        AppendJsonString(json, "outputs");
        json += ":[";
        for (size_t i = 0; i < node.outputs.size(); ++i) {
          json += i > 0 ? ",{" : "{";
          const OutputCoverage& output = node.outputs[i];
          AppendJsonField(json, "name", output.name, false);
          json += "\"elementType\":" + std::to_string(output.type) + ",\"shape\":[";
          for (size_t d = 0; d < output.shape.size(); ++d) {
            if (d > 0) json += ',';
            AppendJsonString(json, output.shape[d]);
          }
          json += "]}";
        }
        json += "],";
      }
      AppendJsonFlag(json, "hasKernel", node.has_kernel);
      json += '}';
    }
  }
  return json + "]}";
}

std::string InvariantOpsToJson() {
  std::string json = "[";
  const auto append = [&json](std::span<const std::string_view> list, std::string_view domain,
                              bool internal) {
    for (const std::string_view op : list) {
      json += json.size() > 1 ? ",{" : "{";
      AppendJsonField(json, "domain", domain, false);
      AppendJsonField(json, "op", op, false);
      AppendJsonFlag(json, "internal", internal);
      json += '}';
    }
  };
  append(InvariantOnnxOps(), "", false);
  append(InvariantMicrosoftOps(), "com.microsoft", false);
  append(InvariantInternalOps(), "", true);
  return json + "]";
}

void StoreReport(const std::string& id, CoverageReport report) {
  const std::lock_guard lock(g_reports_mutex);
  Reports()[id] = std::move(report);
}

void RecordKernel(const std::string& id, const std::string& node, const std::string& op) {
  const std::lock_guard lock(g_reports_mutex);
  const auto found = Reports().find(id);
  if (found == Reports().end()) return;
  if (NodeCoverage* coverage = FindWithoutKernel(&found->second, node, op); coverage != nullptr) {
    coverage->has_kernel = true;
    return;
  }
  // Copies that ONNX Runtime puts between host and device once nodes have their places.
  if (op == "MemcpyFromHost" || op == "MemcpyToHost") return;
  // Not planned: the report must not be silent about it.
  NodeCoverage unplanned;
  unplanned.name = node;
  unplanned.op = op;
  unplanned.reason = "a kernel was created that the partitioning did not plan";
  unplanned.has_kernel = true;
  found->second.graphs[{}].push_back(std::move(unplanned));
}

bool FindReport(const std::string& id, std::string* json) {
  const std::lock_guard lock(g_reports_mutex);
  const auto found = Reports().find(id);
  if (found == Reports().end()) return false;
  *json = ToJson(found->second);
  return true;
}

void ReleaseReport(const std::string& id) {
  const std::lock_guard lock(g_reports_mutex);
  Reports().erase(id);
}

}  // namespace batch_invariant::ort
