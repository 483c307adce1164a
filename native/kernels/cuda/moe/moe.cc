#include "batch_invariant/cuda/moe.h"

#include <algorithm>
#include <limits>
#include <string>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/moe/grouped_kernels.h"
#include "kernels/cuda/moe/route.h"

namespace batch_invariant::cuda {
namespace {

constexpr std::int64_t kMaxExperts = 8192;  // a counter each in shared memory
constexpr std::size_t kAlignment = 256;

Status Invalid(const char* what) {
  return Status::InvalidArgument(std::string("mixture of experts: ") + what);
}

Status CheckSizes(const MoeArgs& args) {
  if (args.tokens < 0 || args.hidden <= 0 || args.inter <= 0 || args.experts <= 0) {
    return Invalid("hidden, inter and experts must be positive, tokens not negative");
  }
  if (args.k < 1 || args.k > args.experts) {
    return Invalid("k must be at least 1 and at most the number of experts");
  }
  if (args.experts > kMaxExperts) {
    return Status::Unsupported("mixture of experts: more than 8192 experts");
  }
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  if (args.tokens > kLimit / args.k || args.hidden > kLimit || args.fc1_columns() > kLimit) {
    return Status::Unsupported("mixture of experts: a size above 2^31 - 1");
  }
  return Status::Ok();
}

Status CheckLayer(const MoeArgs& args, const ExpertWeights& layer, std::int64_t n, std::int64_t k) {
  if (layer.packed == nullptr) return Invalid("an operand has no data");
  if (layer.plan == nullptr) return Status::Ok();
  if (layer.plan->n != n || layer.plan->k != k || layer.plan->type != args.type ||
      layer.plan->matrices != 1 || layer.plan->has_group_index) {
    return Invalid("the plan of a layer is not that of its weights");
  }
  return Status::Ok();
}

Status CheckOperands(const MoeArgs& args) {
  if (args.input == nullptr || args.router == nullptr || args.output == nullptr ||
      (args.weights == RouterWeights::kGiven && args.router_weights == nullptr)) {
    return Invalid("an operand has no data");
  }
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckLayer(args, args.fc1, args.fc1_columns(), args.hidden));
  return CheckLayer(args, args.fc2, args.hidden, args.inter);
}

// Tiles of `rows` rows: at least one row each, and all but one of an expert full.
std::int64_t MaxTiles(const MoeArgs& args, int rows) {
  const std::int64_t entries = args.tokens * args.k;
  return std::min(entries, entries / rows + args.experts);
}

// Consecutive pieces of the workspace. Without memory it only counts.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T = void>
  T* Take(std::int64_t count, std::size_t element) {
    char* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<std::size_t>(count) * element + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(piece);
  }
  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

struct Scratch {
  Routing routing;
  void* first = nullptr;      // [entries, fc1 columns]
  void* activated = nullptr;  // [entries, inter]
  void* second = nullptr;     // [entries, hidden]: gathered inputs at first, then fc2's outputs
};

std::size_t Plan(const MoeArgs& args, void* workspace, Scratch* scratch) {
  const std::int64_t entries = args.tokens * args.k;
  Workspace take(workspace);
  Routing& routing = scratch->routing;
  routing.choice = take.Take<std::int32_t>(entries, 4);
  routing.choice_weight = take.Take<float>(entries, 4);
  routing.expert = take.Take<std::int32_t>(entries, 4);
  routing.weight = take.Take<float>(entries, 4);
  routing.position = take.Take<std::int32_t>(entries, 4);
  routing.token = take.Take<std::int32_t>(entries, 4);
  routing.rows = take.Take<std::int32_t>(1, 4);
  routing.tile_count = take.Take<std::int32_t>(1, 4);
  routing.tiles = take.Take<RowTile>(entries, sizeof(RowTile));
  const std::size_t element = ElementSize(args.type);
  scratch->first = take.Take(entries * args.fc1_columns(), element);
  scratch->activated = take.Take(entries * args.inter, element);
  scratch->second = take.Take(entries * args.hidden, element);
  return take.used();
}

}  // namespace

const char* MoeContract(ElementType type, bool quantized) {
  if (type == ElementType::kFloat32) {
    return quantized ? "moe.nbits.f32.cuda.v1" : "moe.f32.cuda.v1";
  }
  return quantized ? "moe.nbits.tc16.v1" : "moe.tc16.v1";
}

Status MoeWorkspaceBytes(const MoeArgs& args, std::size_t* bytes) {
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckSizes(args));
  Scratch scratch;
  *bytes = Plan(args, nullptr, &scratch);
  return Status::Ok();
}

Status MixtureOfExperts(const MoeArgs& args, void* workspace, std::size_t workspace_bytes,
                        Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckSizes(args));
  if (args.tokens == 0) return Status::Ok();
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckOperands(args));
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (device.compute_capability < 80) {
    return Status::Unsupported(
        "mixture of experts: the device is older than compute capability 8.0");
  }
  return MixtureOfExperts(args, ChooseMoeKernels(args, device), workspace, workspace_bytes, stream);
}

Status MixtureOfExperts(const MoeArgs& args, const MoeKernels& kernels, void* workspace,
                        std::size_t workspace_bytes, Stream stream) {
  const GroupedKernel &fc1 = *kernels.fc1, &fc2 = *kernels.fc2;
  if (fc1.rows != fc2.rows) return Invalid("the layers' tiles have different numbers of rows");
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  Scratch scratch;
  if (workspace == nullptr || Plan(args, workspace, &scratch) > workspace_bytes) {
    return Invalid("the workspace is smaller than asked for");
  }
  const Routing& routing = scratch.routing;
  BATCH_INVARIANT_RETURN_IF_ERROR(LaunchRouting(args, routing, fc1.rows, stream));

  GroupedArgs layer;
  layer.type = args.type;
  layer.n = args.fc1_columns();
  layer.k = args.hidden;
  layer.sorted_rows = args.tokens * args.k;
  layer.tiles = routing.tiles;
  layer.tile_count = routing.tile_count;
  layer.max_tiles = MaxTiles(args, fc1.rows);
  layer.a = args.input;
  layer.row_index = routing.token;
  if (fc1.needs_sm90) {
    BATCH_INVARIANT_RETURN_IF_ERROR(LaunchGather(args, routing, scratch.second, stream));
    layer.a = scratch.second;
    layer.row_index = nullptr;
  }
  layer.weights = args.fc1;
  layer.y = scratch.first;
  BATCH_INVARIANT_RETURN_IF_ERROR(fc1.launch(layer, device, stream));
  BATCH_INVARIANT_RETURN_IF_ERROR(
      LaunchActivation(args, routing, scratch.first, scratch.activated, stream));
  layer.n = args.hidden;
  layer.k = args.inter;
  layer.a = scratch.activated;
  layer.row_index = nullptr;
  layer.weights = args.fc2;
  layer.y = scratch.second;
  BATCH_INVARIANT_RETURN_IF_ERROR(fc2.launch(layer, device, stream));
  return LaunchCombine(args, routing, scratch.second, stream);
}

}  // namespace batch_invariant::cuda
