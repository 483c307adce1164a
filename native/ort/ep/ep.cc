#include "ort/ep/ep.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string_view>

#include "ort/ep/custom_coverage.h"
#include "ort/ep/fused_nodes.h"
#include "ort/ep/host_values.h"
#include "ort/ep/kernel_registry.h"

namespace batch_invariant::ort {
namespace {

Status ReadSwitch(const std::string& key, const std::string& value, bool* out) {
  if (value == "1" || value == "true") {
    *out = true;
  } else if (value == "0" || value == "false") {
    *out = false;
  } else {
    return Status::InvalidArgument("the option " + key + " is '" + value + "', use 1 or 0");
  }
  return Status::Ok();
}

Status ReadNumber(const std::string& key, const std::string& value, int64_t* out) {
  const char* end = value.data() + value.size();
  const auto [parsed_to, error] = std::from_chars(value.data(), end, *out);
  if (error == std::errc() && parsed_to == end && *out >= 0) return Status::Ok();
  return Status::InvalidArgument("the option " + key + " is '" + value +
                                 "', use a number from 0 on");
}

constexpr std::string_view kEntryPrefix = "ep.batchinvariantexecutionprovider.";
constexpr std::string_view kOptions[] = {
    "strict", "instruction_set", "report_id", "device", "device_id", "enable_cuda_graph", "fuse"};
constexpr std::string_view kDryRun = "dry_run";  // of the library's own host

// A name that is spelt wrong would have no effect, and nobody would know.
Status CheckNames(Ort::ConstSessionOptions session_options) {
  OrtKeyValuePairs* entries = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      FromOrtStatus(Ort::GetApi().GetSessionOptionsConfigEntries(session_options, &entries)));
  const Ort::KeyValuePairs owned(entries);
  std::vector<const char*> keys;
  std::vector<const char*> values;
  owned.GetKeyValuePairs(keys, values);
  for (std::string_view key : keys) {
    if (!key.starts_with(kEntryPrefix)) continue;
    key.remove_prefix(kEntryPrefix.size());
    if (key == kDryRun || std::ranges::find(kOptions, key) != std::end(kOptions)) continue;
    std::string message = "there is no option '" + std::string(key) + "', use one of ";
    for (const std::string_view option : kOptions) {
      if (option != kOptions[0]) message += ", ";
      message += option;
    }
    return Status::InvalidArgument(message);
  }
  return Status::Ok();
}

std::string Describe(const NodeCoverage& node) {
  const std::string domain = node.domain.empty() ? "" : node.domain + ".";
  return "'" + node.name + "' (" + domain + node.op + ": " + node.reason + ")";
}

}  // namespace

Status ReadOptions(Ort::ConstSessionOptions session_options, EpOptions* options) {
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckNames(session_options));
  const auto entry = [&](std::string_view key) {
    const std::string full = std::string(kEntryPrefix) + std::string(key);
    return session_options.GetConfigEntryOrDefault(full.c_str(), std::string());
  };
  if (const std::string value = entry("strict"); !value.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadSwitch("strict", value, &options->strict));
  }
  if (const std::string value = entry(kDryRun); !value.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadSwitch("dry_run", value, &options->dry_run));
  }
  if (const std::string value = entry("fuse"); !value.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadSwitch("fuse", value, &options->fuse));
  }
  if (const std::string value = entry("enable_cuda_graph"); !value.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ReadSwitch("enable_cuda_graph", value, &options->enable_cuda_graph));
  }
  if (const std::string value = entry("device_id"); !value.empty()) {
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadNumber("device_id", value, &options->device_id));
  }
  options->device = entry("device");
  if (!options->device.empty() && options->device != "cpu" && options->device != "cuda") {
    return Status::InvalidArgument("the option device is '" + options->device +
                                   "', use cpu or cuda");
  }
  options->report_id = entry("report_id");
  return ChooseInstructionSet(entry("instruction_set"), &options->instruction_set);
}

BatchInvariantEp::BatchInvariantEp(std::span<const OpDefinition> ops,
                                   std::span<const FusionDefinition> fusions,
                                   const OrtKernelRegistry* registry, EpOptions options,
                                   std::unique_ptr<DeviceSession> device)
    : OrtEp{},
      ops_(ops),
      fusions_(fusions),
      registry_(registry),
      options_(std::move(options)),
      device_(std::move(device)),
      on_cuda_(device_ != nullptr || (options_.dry_run && options_.device == "cuda")) {
  ort_version_supported = kOrtApiVersion;
  report_.device = device_ != nullptr ? device_->Describe() : on_cuda_ ? "cuda" : "cpu";
  if (device_ != nullptr) {
    report_.self_test = device_->SelfTest();
    report_.streams = device_->Streams();
  }
  report_.instruction_set = cpu::Name(options_.instruction_set);
  // Of a graph that folds to constants nothing is asked: its report is this one.
  if (!options_.report_id.empty()) StoreReport(options_.report_id, report_);

  OrtEp::GetName = [](const OrtEp*) noexcept -> const char* { return kProviderName; };
  OrtEp::GetCapability = [](OrtEp* self, const OrtGraph* graph,
                            OrtEpGraphSupportInfo* support_info) noexcept -> OrtStatus* {
    return Guarded([&] {
      return static_cast<BatchInvariantEp*>(self)->GetCapability(Ort::ConstGraph{graph},
                                                                 support_info);
    });
  };
  OrtEp::Compile = [](OrtEp* self, const OrtGraph** graphs, const OrtNode** fused_nodes,
                      size_t count, OrtNodeComputeInfo** infos, OrtNode**) noexcept -> OrtStatus* {
    return Guarded([&] {
      return static_cast<BatchInvariantEp*>(self)->Compile({graphs, count}, {fused_nodes, count},
                                                           infos);
    });
  };
  OrtEp::ReleaseNodeComputeInfos = [](OrtEp*, OrtNodeComputeInfo** infos, size_t count) noexcept {
    for (size_t i = 0; i < count; ++i) ReleaseFusedKernel(infos[i]);
  };
  OrtEp::GetKernelRegistry = [](OrtEp* self,
                                const OrtKernelRegistry** registry) noexcept -> OrtStatus* {
    *registry = static_cast<BatchInvariantEp*>(self)->registry_;
    return nullptr;
  };
  OrtEp::IsConcurrentRunSupported = [](OrtEp*, bool* supported) noexcept -> OrtStatus* {
    *supported = true;
    return nullptr;
  };
  if (device_ != nullptr) SetDeviceCallbacks();
}

void BatchInvariantEp::SetDeviceCallbacks() {
  // Graph capture came with 1.26. ONNX Runtime reads no further than this number says.
  ort_version_supported = std::min(RuntimeMinorVersion(), kNewestEpVersion);
  // Runs of one session share its stream, and with it the workspace that one kernel leaves to the
  // next: ONNX Runtime lets them follow each other.
  OrtEp::IsConcurrentRunSupported = [](OrtEp*, bool* supported) noexcept -> OrtStatus* {
    *supported = false;
    return nullptr;
  };
  OrtEp::CreateAllocator = [](OrtEp* self, const OrtMemoryInfo* info,
                              OrtAllocator** allocator) noexcept -> OrtStatus* {
    *allocator = nullptr;
    return Guarded([&] { return Device(self).CreateAllocator(info, allocator); });
  };
  OrtEp::OnRunStart = [](OrtEp* self, const OrtRunOptions* options) noexcept -> OrtStatus* {
    return Guarded([&] { return Device(self).OnRunStart(options); });
  };
  OrtEp::OnRunEnd = [](OrtEp* self, const OrtRunOptions* options,
                       bool sync) noexcept -> OrtStatus* {
    return Guarded([&] { return Device(self).OnRunEnd(options, sync); });
  };
  OrtEp::Sync = [](OrtEp* self) noexcept -> OrtStatus* {
    return Guarded([&] { return Device(self).Sync(); });
  };
  OrtEp::IsGraphCaptureEnabled = [](const OrtEp* self) noexcept {
    return Device(self).IsGraphCaptureEnabled();
  };
  OrtEp::IsGraphCaptured = [](const OrtEp* self, int id) noexcept {
    return Device(self).IsGraphCaptured(id);
  };
  OrtEp::ReplayGraph = [](OrtEp* self, int id) noexcept -> OrtStatus* {
    return Guarded([&] { return Device(self).ReplayGraph(id); });
  };
  OrtEp::GetGraphCaptureNodeAssignmentPolicy = [](const OrtEp*) noexcept {
    return OrtGraphCaptureNodeAssignmentPolicy_ALLOW_CPU_FOR_SHAPES;
  };
}

DeviceSession& BatchInvariantEp::Device(const OrtEp* self) {
  return *static_cast<const BatchInvariantEp*>(self)->device_;
}

Status BatchInvariantEp::GetCapability(Ort::ConstGraph graph, OrtEpGraphSupportInfo* support_info) {
  const OrtEpApi& ep_api = Ort::GetEpApi();
  const OrtNode* first_varying = nullptr;
  const OrtNode* first_known = nullptr;
  const std::lock_guard lock(mutex_);
  HostValues host_values;
  // Partitioning looks again after it has inlined functions: groups that were compiled are nodes
  // then.
  std::vector<Ort::ConstNode> nodes;
  std::vector<NodeCoverage> compiled;
  for (const Ort::ConstNode& node : graph.GetNodes()) {
    if (const auto group = compiled_.find(node.GetName()); group != compiled_.end()) {
      compiled.insert(compiled.end(), group->second.begin(), group->second.end());
    } else {
      nodes.push_back(node);
    }
  }
  std::vector<NodeCoverage> covered;
  for (const Ort::ConstNode& node : nodes) {
    NodeCoverage coverage{
        node.GetName(), node.GetOperatorType(), node.GetDomain(), ServedBy::kStockVarying, "", ""};
    const GraphNodeInfo info(node);
    const OpDefinition* op = FindOp(ops_, node);
    if (coverage.domain == kCustomOpDomain) {
      // A session of this provider alone runs custom ops on the CPU.
      CoverCustomOp(info, on_cuda_ && device_ == nullptr, &coverage);
    } else if (op != nullptr && on_cuda_ && IsInvariantByNature(node) &&
               host_values.BelongsOnHost(node)) {
      coverage.reason = "its inputs are in host memory";
    } else if (op != nullptr) {
      const Status accepted = op->accept(info);
      coverage.reason = accepted.ok() ? TypeMismatch(*op, info) : accepted.message;
      if (coverage.reason.empty()) {
        const OrtKernelDef* definition = nullptr;
        BATCH_INVARIANT_RETURN_IF_ERROR(
            FromOrtStatus(ep_api.EpGraphSupportInfo_LookUpKernel(support_info, node, &definition)));
        if (definition != nullptr) {
          coverage.served_by = ServedBy::kBatchInvariant;
          coverage.contract = op->contract(info);
        } else {
          coverage.reason = "its types are not served";
        }
      }
    } else {
      coverage.reason = "this op is neither served here nor known to be invariant";
    }
    if (coverage.served_by != ServedBy::kBatchInvariant || op == nullptr) {
      host_values.AddOutputs(node);
    } else {
      for (const int output : op->host_outputs) host_values.AddOutput(node, output);
    }
    if (IsInvariantByNature(node)) {
      // A plan for a GPU is one for custom ops, which leave these to ONNX Runtime's CUDA provider.
      const bool is_planned = on_cuda_ && device_ == nullptr;
      if (coverage.served_by == ServedBy::kStockVarying || is_planned) {
        coverage.contract.clear();
        coverage.served_by = ServedBy::kStockInvariant;
        coverage.reason = SharedByRows(node);
      }
    } else if (coverage.domain != kCustomOpDomain) {
      coverage.custom_op = CustomOpFor(node, on_cuda_);
    }
    if (coverage.served_by != ServedBy::kStockVarying && first_known == nullptr) {
      first_known = node;
    }
    if (coverage.served_by == ServedBy::kStockVarying && first_varying == nullptr) {
      first_varying = node;
    }
    if (options_.dry_run) AddOutputs(node, &coverage);
    covered.push_back(std::move(coverage));
  }
  std::vector<FusedGroup> groups = Group(nodes, covered);
  std::vector<bool> served;
  for (const NodeCoverage& coverage : covered) {
    served.push_back(coverage.served_by == ServedBy::kBatchInvariant &&
                     coverage.domain != kCustomOpDomain);
  }
  covered.insert(covered.end(), compiled.begin(), compiled.end());
  report_.graphs[GraphKey(graph)] = std::move(covered);
  if (!options_.report_id.empty()) StoreReport(options_.report_id, report_);
  // An error returned here would only be logged and everything would run on stock kernels. A node
  // taken for compilation makes ONNX Runtime call Compile, whose error does fail the session. The
  // first look is at a graph whose functions are not inlined yet, and a call that is taken never
  // is: so a node is taken that is none, if there is one.
  const OrtNode* taken = nullptr;
  const bool is_main = static_cast<const OrtNode*>(graph.GetParentNode()) == nullptr;
  if (options_.dry_run) {
    // The graphs inside a model are looked at first: a dry run goes on until it has seen them all.
    if (is_main) taken = first_known;
  } else if (options_.strict && first_varying != nullptr) {
    taken = first_known != nullptr ? first_known : first_varying;
  }
  // Of a session that is refused anyway no group is asked for.
  if (taken != nullptr) groups.clear();
  for (const FusedGroup& group : groups) {
    std::vector<const OrtNode*> members;
    for (const size_t i : group.nodes) {
      served[i] = false;
      members.push_back(nodes[i]);
    }
    OrtNodeFusionOptions fusion{};
    fusion.ort_version_supported = kOrtApiVersion;
    fusion.drop_constant_initializers = group.fusion->keeps_constants;
    BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(ep_api.EpGraphSupportInfo_AddNodesToFuse(
        support_info, members.data(), members.size(), &fusion)));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    const OrtNode* node = nodes[i];
    if (!served[i] || node == taken || FindOp(ops_, nodes[i]) == nullptr) continue;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FromOrtStatus(ep_api.EpGraphSupportInfo_AddSingleNode(support_info, node)));
  }
  if (taken == nullptr) return Status::Ok();
  OrtNodeFusionOptions fusion{};
  fusion.ort_version_supported = kOrtApiVersion;
  return FromOrtStatus(ep_api.EpGraphSupportInfo_AddNodesToFuse(support_info, &taken, 1, &fusion));
}

std::vector<FusedGroup> BatchInvariantEp::Group(std::span<const Ort::ConstNode> nodes,
                                                std::vector<NodeCoverage>& coverage) const {
  // On the CPU a group may also hold nodes that could stay with a stock kernel: it costs no copy.
  const auto may_take = [&](size_t i) {
    return coverage[i].domain != kCustomOpDomain &&
           (coverage[i].served_by == ServedBy::kBatchInvariant ||
            (!on_cuda_ && coverage[i].served_by == ServedBy::kStockInvariant));
  };
  std::vector<FusedGroup> groups = FindFusedGroups(
      options_.fuse ? fusions_ : std::span<const FusionDefinition>(), nodes, may_take);
  for (const FusedGroup& group : groups) {
    for (const size_t i : group.nodes) {
      if (coverage[i].served_by == ServedBy::kBatchInvariant) continue;
      coverage[i].served_by = ServedBy::kBatchInvariant;
      coverage[i].contract = group.fusion->contract;
    }
  }
  return groups;
}

Status BatchInvariantEp::Compile(std::span<const OrtGraph* const> graphs,
                                 std::span<const OrtNode* const> fused_nodes,
                                 OrtNodeComputeInfo** infos) {
  if (options_.dry_run) return Status::Unsupported("dry run: no session is made");
  const std::lock_guard lock(mutex_);
  if (options_.strict) BATCH_INVARIANT_RETURN_IF_ERROR(CheckStrict());
  for (size_t i = 0; i < graphs.size(); ++i) {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        CompileFusedKernel(fusions_, Ort::ConstGraph{graphs[i]}, Ort::ConstNode{fused_nodes[i]},
                           options_.instruction_set, services(), &infos[i]));
    std::vector<NodeCoverage>& members = compiled_[Ort::ConstNode{fused_nodes[i]}.GetName()];
    for (const Ort::ConstNode& node : Ort::ConstGraph{graphs[i]}.GetNodes()) {
      NodeCoverage* coverage = FindWithoutKernel(&report_, node.GetName(), node.GetOperatorType());
      if (coverage != nullptr) {
        coverage->has_kernel = true;
        members.push_back(*coverage);
      }
    }
  }
  if (!options_.report_id.empty()) StoreReport(options_.report_id, report_);
  return Status::Ok();
}

Status BatchInvariantEp::CheckStrict() const {
  const NodeCoverage* first = nullptr;
  int64_t others = -1;
  for (const auto& [graph, nodes] : report_.graphs) {
    for (const NodeCoverage& node : nodes) {
      if (node.served_by != ServedBy::kStockVarying) continue;
      if (first == nullptr) first = &node;
      ++others;
    }
  }
  if (first == nullptr) return Status::Ok();
  std::string message = "strict: node " + Describe(*first);
  if (others > 0) {
    message += " and " + std::to_string(others) + (others == 1 ? " other" : " others");
  }
  message +=
      " would be left to a stock kernel whose results may depend on the batch; set the option "
      "strict=0 to allow that, or change the model";
  return Status::Unsupported(message);
}

}  // namespace batch_invariant::ort
