// Checks, plan and launches of batch_invariant/cuda/attention.h. What is launched depends on
// shapes; every choice follows the one contract.
#include "batch_invariant/cuda/attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_types.h>

#include <cmath>
#include <string>

#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr double kLog2E = 1.4426950408889634;
// Rows of a KV head up to which its key blocks are spread over the device.
constexpr int kMaxSplitRows = 64;
constexpr int kSplitRowTile = 16;
constexpr int kMaxSplitBatch = 512;
// Key blocks up to which one thread block merges a tile; more are spread by the merge kernel.
constexpr int kMaxOwnMergeBlocks = 128;
// log2 of a cluster's thread blocks at most, and the key blocks that one of them may get: the split
// kernel spreads longer caches over the whole device.
constexpr int kMaxDecodeShift = 3;
constexpr int kMaxDecodeBlocks = 8;
constexpr std::size_t kAlignment = 256;

std::size_t Aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct SplitWorkspace {
  std::size_t acc = 0, ml = 0, prefix = 0, arrived = 0;  // bytes of each part, aligned
  int tiles = 0;
  std::size_t Total() const { return acc + ml + prefix + arrived; }
};

bool UsesSplit(const AttentionArgs& args) {
  return args.type != ElementType::kFloat32 && args.batch <= kMaxSplitBatch &&
         args.tokens * (args.heads / args.kv_heads) <= kMaxSplitRows;
}

int MaxBlocks(const AttentionArgs& args) {
  return static_cast<int>(CeilDiv(args.key_capacity, kBlockKeys));
}

SplitWorkspace PlanSplit(const AttentionArgs& args) {
  if (!UsesSplit(args)) return {};
  const std::size_t rows = static_cast<std::size_t>(args.batch) * args.tokens * args.heads;
  const std::size_t tiles = static_cast<std::size_t>(args.batch) * args.kv_heads *
                            CeilDiv(args.tokens * (args.heads / args.kv_heads), kSplitRowTile);
  const std::size_t blocks = rows * MaxBlocks(args);
  return {Aligned(blocks * args.head_size * sizeof(float)), Aligned(blocks * sizeof(float2)),
          Aligned(tiles * sizeof(std::int32_t)), Aligned(tiles * sizeof(std::int32_t)),
          static_cast<int>(tiles)};
}

bool Empty(const AttentionArgs& args) { return args.batch == 0 || args.tokens == 0; }

bool Misaligned(const HeadTensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.data) % 16 != 0 || tensor.batch_stride % 8 != 0 ||
         tensor.head_stride % 8 != 0 || tensor.token_stride % 8 != 0;
}

Status Check(const AttentionArgs& args) {
  if (args.batch < 0 || args.tokens < 0 || args.key_capacity < 0 || args.heads < 1 ||
      args.kv_heads < 1) {
    return Status::InvalidArgument("attention: a size is negative or there are no heads");
  }
  if (args.heads % args.kv_heads != 0) {
    return Status::InvalidArgument("attention: " + std::to_string(args.heads) +
                                   " query heads are no multiple of " +
                                   std::to_string(args.kv_heads) + " key/value heads");
  }
  if (args.head_size < 8 || args.head_size > 256 || args.head_size % 8 != 0) {
    return Status::Unsupported("attention: head size " + std::to_string(args.head_size) +
                               " is not a multiple of 8 from 8 to 256");
  }
  if (args.batch > 65535 || args.kv_heads > 65535) {
    return Status::Unsupported("attention: more than 65535 sequences or key/value heads");
  }
  if (!args.causal && args.window >= 0) {
    return Status::InvalidArgument("attention: a local window needs causal attention");
  }
  if (args.window == 0 || args.window < -1) {
    return Status::InvalidArgument("attention: the local window must be -1 or at least 1");
  }
  if (args.softcap < 0.0f) return Status::InvalidArgument("attention: softcap is negative");
  return Status::Ok();
}

template <typename T>
Status Launch(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  const bool split = UsesSplit(args);
  const auto launch = [&](auto walk_kernel, auto split_kernel) {
    return split ? split_kernel(args, device, stream) : walk_kernel(args, device, stream);
  };
  Status status;
  if (args.head_size <= 64) {
    status = launch(LaunchWalk<T, 64>, LaunchSplit<T, 64>);
  } else if (args.head_size <= 128) {
    status = launch(LaunchWalk<T, 128>, LaunchSplit<T, 128>);
  } else {
    status = launch(LaunchWalk<T, 256>, LaunchSplit<T, 256>);
  }
  BATCH_INVARIANT_RETURN_IF_ERROR(status);
  return split && args.arrived == nullptr ? LaunchMerge<T>(args, device, stream) : Status::Ok();
}

// log2 of the cluster that serves a tile of a decode step in one launch; negative: the preparing
// and the split kernel do.
int DecodeShift(const AttentionArgs& core, const PrepareArgs& prepare, const DeviceInfo& device) {
  const bool halves =
      !prepare.rotary || (!prepare.rotary_interleaved && prepare.rotary_dim == core.head_size);
  const bool whole = core.head_size == 64 || core.head_size == 128 || core.head_size == 256;
  if (device.compute_capability < 90 || !UsesSplit(core) || core.tokens != 1 ||
      core.bias != nullptr || !KeepsPast(prepare) || !halves || !whole) {
    return -1;
  }
  const std::int64_t tiles = static_cast<std::int64_t>(core.batch) * core.kv_heads *
                             CeilDiv(core.heads / core.kv_heads, kSplitRowTile);
  int shift = kMaxDecodeShift;
  while (shift >= 0 && tiles << shift > device.multiprocessors) --shift;
  return shift >= 0 && CeilDiv(MaxBlocks(core), 1 << shift) > kMaxDecodeBlocks ? -1 : shift;
}

template <typename T>
Status LaunchDecodeOf(const CoreArgs& args, const PrepareArgs& prepare, int shift, Stream stream) {
  if (args.head_size == 64) return LaunchDecode<T, 64>(args, prepare, shift, stream);
  if (args.head_size == 128) return LaunchDecode<T, 128>(args, prepare, shift, stream);
  return LaunchDecode<T, 256>(args, prepare, shift, stream);
}

// What GroupQueryAttention keeps in the workspace beside the core's scratch.
struct QueryWorkspace {
  std::size_t query = 0, key = 0, value = 0;
};

bool Prepared(const GroupQueryAttentionArgs& args) {
  return args.rotary || args.q_norm_weight != nullptr;
}

QueryWorkspace PlanQuery(const GroupQueryAttentionArgs& args) {
  const std::size_t token =
      static_cast<std::size_t>(args.batch) * args.tokens * args.head_size * ElementSize(args.type);
  QueryWorkspace plan;
  if (Prepared(args)) plan.query = Aligned(token * args.heads);
  if (args.present_key == nullptr) plan.key = plan.value = Aligned(token * args.kv_heads);
  return plan;
}

AttentionArgs CoreOf(const GroupQueryAttentionArgs& args) {
  AttentionArgs core;
  core.type = args.type;
  core.batch = args.batch;
  core.tokens = args.tokens;
  core.heads = args.heads;
  core.kv_heads = args.kv_heads;
  core.head_size = args.head_size;
  core.key_capacity = args.present_key == nullptr ? args.tokens : args.present_capacity;
  const std::int64_t d = args.head_size, s = args.tokens;
  core.query = {args.query, s * args.heads * d, d, args.heads * d};
  core.output = args.output;
  core.output_strides = {nullptr, s * args.heads * d, d, args.heads * d};
  if (args.key == nullptr && !Prepared(args)) {
    const std::int64_t width = (args.heads + 2 * args.kv_heads) * d;
    core.query.batch_stride = s * width;
    core.query.token_stride = width;
  }
  const std::int64_t slots = core.key_capacity;
  core.key = {args.present_key, args.kv_heads * slots * d, slots * d, d};
  core.value = {args.present_value, args.kv_heads * slots * d, slots * d, d};
  core.last_key = args.seqlens_k;
  core.from_start = args.tokens == args.total_sequence_length;
  core.scale = args.scale;
  core.softcap = args.softcap;
  core.causal = args.causal;
  core.window = args.local_window_size;
  core.bias = args.attention_bias;
  core.bias_token_stride = args.total_sequence_length;
  core.bias_keys = args.total_sequence_length;
  const std::int64_t plane = s * args.total_sequence_length;
  core.bias_head_stride = args.bias_heads == 1 ? 0 : plane;
  core.bias_batch_stride = args.bias_batch == 1 ? 0 : plane * args.bias_heads;
  core.head_sink = args.head_sink;
  core.smooth_softmax = args.smooth_softmax;
  return core;
}

Status Check(const GroupQueryAttentionArgs& args) {
  if ((args.key == nullptr) != (args.value == nullptr)) {
    return Status::InvalidArgument("GroupQueryAttention: key and value go together");
  }
  if ((args.present_key == nullptr) != (args.present_value == nullptr) ||
      (args.past_key == nullptr) != (args.past_value == nullptr)) {
    return Status::InvalidArgument(
        "GroupQueryAttention: half of a past or present pair is missing");
  }
  if (args.past_key != nullptr && args.present_key == nullptr) {
    return Status::InvalidArgument("GroupQueryAttention: a past needs present outputs");
  }
  if (args.present_key != nullptr && args.present_capacity < args.total_sequence_length) {
    return Status::InvalidArgument(
        "GroupQueryAttention: the present buffers hold " + std::to_string(args.present_capacity) +
        " tokens, total_sequence_length is " + std::to_string(args.total_sequence_length));
  }
  if (args.past_key != nullptr && args.past_key == args.present_key &&
      args.past_capacity != args.present_capacity) {
    return Status::InvalidArgument("GroupQueryAttention: a shared buffer has two lengths");
  }
  if (args.present_key == nullptr && args.total_sequence_length != args.tokens) {
    return Status::InvalidArgument(
        "GroupQueryAttention: without past and present, total_sequence_length is the token count");
  }
  if (args.rotary) {
    if (args.cos_cache == nullptr || args.sin_cache == nullptr) {
      return Status::InvalidArgument(
          "GroupQueryAttention: do_rotary needs cos_cache and sin_cache");
    }
    if (args.rotary_dim < 2 || args.rotary_dim % 2 != 0 || args.rotary_dim > args.head_size) {
      return Status::InvalidArgument("GroupQueryAttention: rotary width " +
                                     std::to_string(args.rotary_dim) + " does not fit head size " +
                                     std::to_string(args.head_size));
    }
  }
  if ((args.q_norm_weight == nullptr) != (args.k_norm_weight == nullptr)) {
    return Status::InvalidArgument(
        "GroupQueryAttention: q_norm_weight and k_norm_weight go together");
  }
  if (args.attention_bias != nullptr && ((args.bias_batch != 1 && args.bias_batch != args.batch) ||
                                         (args.bias_heads != 1 && args.bias_heads != args.heads))) {
    return Status::InvalidArgument(
        "GroupQueryAttention: attention_bias broadcasts neither over batch nor heads");
  }
  if (args.seqlens_k == nullptr) {
    return Status::InvalidArgument("GroupQueryAttention: seqlens_k is missing");
  }
  return Status::Ok();
}

// Counters that a preparing kernel sets to 0 let the split kernel merge by itself.
bool MergesByItself(const AttentionArgs& args) {
  return UsesSplit(args) && MaxBlocks(args) <= kMaxOwnMergeBlocks;
}

std::int32_t* Arrived(const SplitWorkspace& plan, void* workspace) {
  return reinterpret_cast<std::int32_t*>(static_cast<char*>(workspace) + plan.acc + plan.ml +
                                         plan.prefix);
}

// Checks `args` and derives what the kernels are given. `prepare`: the kernel ahead in the stream,
// or null.
Status MakeCore(const AttentionArgs& args, const PrepareArgs* prepare, void* workspace,
                std::size_t workspace_bytes, CoreArgs* made) {
  if (args.query.data == nullptr || args.key.data == nullptr || args.value.data == nullptr ||
      args.output == nullptr) {
    return Status::InvalidArgument("attention: query, key, value or output is missing");
  }
  if (Misaligned(args.query) || Misaligned(args.key) || Misaligned(args.value) ||
      Misaligned(args.output_strides) || reinterpret_cast<std::uintptr_t>(args.output) % 16 != 0) {
    return Status::InvalidArgument("attention: a tensor is not aligned to 16 bytes or 8 elements");
  }
  const SplitWorkspace plan = PlanSplit(args);
  if (workspace_bytes < plan.Total() || (plan.Total() > 0 && workspace == nullptr)) {
    return Status::InvalidArgument("attention: the workspace is smaller than asked for");
  }
  CoreArgs& core = *made;
  static_cast<AttentionArgs&>(core) = args;
  core.group = args.heads / args.kv_heads;
  const double scale = args.scale == 0.0f ? 1.0 / std::sqrt(static_cast<double>(args.head_size))
                                          : static_cast<double>(args.scale);
  core.scale = static_cast<float>(scale);
  core.plain_scale = static_cast<float>(scale * kLog2E);
  core.general = args.softcap > 0.0f || args.bias != nullptr ||
                 (args.type != ElementType::kFloat32 && !(core.plain_scale > 0.0f));
  core.follows_prepare = prepare != nullptr;
  core.past_is_ready = prepare != nullptr && KeepsPast(*prepare);
  core.max_blocks = MaxBlocks(args);
  if (plan.Total() > 0) {
    char* base = static_cast<char*>(workspace);
    core.partial_acc = reinterpret_cast<float*>(base);
    core.partial_ml = reinterpret_cast<float2*>(base + plan.acc);
    core.prefix = reinterpret_cast<std::int32_t*>(base + plan.acc + plan.ml);
    core.arrived = prepare == nullptr ? nullptr : prepare->arrived;
  }
  return Status::Ok();
}

Status LaunchCore(const AttentionArgs& args, const PrepareArgs* prepare, void* workspace,
                  std::size_t workspace_bytes, Stream stream) {
  CoreArgs core;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeCore(args, prepare, workspace, workspace_bytes, &core));
  if (args.type == ElementType::kFloat32) return LaunchF32(core, stream);
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (device.compute_capability < 80) {
    return Status::Unsupported("attention: the device is older than compute capability 8.0");
  }
  return args.type == ElementType::kFloat16 ? Launch<__half>(core, device, stream)
                                            : Launch<__nv_bfloat16>(core, device, stream);
}

}  // namespace

const char* AttentionContract(ElementType type) {
  return type == ElementType::kFloat32 ? "attention.f32.cuda.v1" : "attention.tc16.v2";
}

Status AttentionWorkspaceBytes(const AttentionArgs& args, std::size_t* bytes) {
  *bytes = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (!Empty(args)) *bytes = PlanSplit(args).Total();
  return Status::Ok();
}

Status Attention(const AttentionArgs& args, void* workspace, std::size_t workspace_bytes,
                 Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (Empty(args)) return Status::Ok();
  return LaunchCore(args, nullptr, workspace, workspace_bytes, stream);
}

Status GroupQueryAttentionWorkspaceBytes(const GroupQueryAttentionArgs& args, std::size_t* bytes) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AttentionWorkspaceBytes(CoreOf(args), bytes));
  const QueryWorkspace plan = PlanQuery(args);
  *bytes += plan.query + plan.key + plan.value;
  return Status::Ok();
}

Status GroupQueryAttention(const GroupQueryAttentionArgs& args, void* workspace,
                           std::size_t workspace_bytes, Stream stream) {
  AttentionArgs core = CoreOf(args);
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(core));
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (Empty(core)) return Status::Ok();
  if (args.query == nullptr || args.output == nullptr) {
    return Status::InvalidArgument("GroupQueryAttention: query or output is missing");
  }
  const QueryWorkspace plan = PlanQuery(args);
  const std::size_t own = plan.query + plan.key + plan.value;
  if (workspace_bytes < own || (own > 0 && workspace == nullptr)) {
    return Status::InvalidArgument("GroupQueryAttention: the workspace is smaller than asked for");
  }
  char* base = static_cast<char*>(workspace);
  PrepareArgs prepare;
  static_cast<GroupQueryAttentionArgs&>(prepare) = args;
  prepare.from_start = core.from_start;
  if (plan.query > 0) core.query.data = prepare.prepared_query = base;
  if (plan.key > 0) {
    core.key.data = prepare.present_key = base + plan.query;
    core.value.data = prepare.present_value = base + plan.query + plan.key;
    prepare.present_capacity = args.tokens;
    // Nothing to copy: every slot is a new token.
    prepare.past_key = prepare.present_key;
    prepare.past_value = prepare.present_value;
  }
  void* scratch = base == nullptr ? nullptr : base + own;
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (const int shift = DecodeShift(core, prepare, device); shift >= 0) {
    CoreArgs decode;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeCore(core, nullptr, scratch, workspace_bytes - own, &decode));
    return args.type == ElementType::kFloat16
               ? LaunchDecodeOf<__half>(decode, prepare, shift, stream)
               : LaunchDecodeOf<__nv_bfloat16>(decode, prepare, shift, stream);
  }
  if (const SplitWorkspace split = PlanSplit(core); MergesByItself(core)) {
    if (workspace_bytes - own < split.Total() || scratch == nullptr) {
      return Status::InvalidArgument("attention: the workspace is smaller than asked for");
    }
    prepare.arrived = Arrived(split, scratch);
    prepare.arrived_count = split.tiles;
  }
  BATCH_INVARIANT_RETURN_IF_ERROR(LaunchPrepare(prepare, stream));
  return LaunchCore(core, &prepare, scratch, workspace_bytes - own, stream);
}

}  // namespace batch_invariant::cuda
