#include "batch_invariant/cuda/self_test.h"

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/self_test/data.h"
#include "kernels/cuda/self_test/paths.h"

namespace batch_invariant::cuda {
namespace {

// Products: rows of every warpgroup of the tallest tile and more columns than the widest; K is no
// multiple of any tile, and the two halves that cancel begin at different places in a step of 16.
constexpr std::int64_t kRows = 136, kFewRows = 3, kFirstOfFew = 70;
constexpr std::int64_t kColumns = 272;  // gate and up in turn, eight of each
constexpr std::int64_t kK = 328, kPeriod = 152;
// Weights of few bits: whole blocks cancel.
constexpr std::int64_t kNBitsBlock = 32, kNBitsPeriod = 160;
// And a K that MatMulNBits sums in several runs.
constexpr std::int64_t kRunsK = 2048, kRunsPeriod = 1024;

// Mixtures of experts, whose second layer has kColumns inputs and kK or kRunsK outputs.
constexpr std::int64_t kExperts = 2;
constexpr std::int64_t kWholeColumns = (kColumns + kNBitsBlock - 1) / kNBitsBlock * kNBitsBlock;

// Attention: the last tokens see two whole blocks of 128 keys, whose values cancel, and part of a
// third one.
constexpr int kTokens = 80, kHeads = 2, kKeys = 336, kKeyBlock = 128;

constexpr std::int64_t kNormWidth = 1000, kNormRows = 9;

constexpr std::size_t kArenaBytes = std::size_t{8} << 20;
constexpr int kMaxComparisons = 4096;

const char* Name(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return "fp16";
    case ElementType::kBFloat16:
      return "bf16";
    default:
      return "fp32";
  }
}

std::string WithRows(const char* kernel, std::int64_t rows) {
  return std::string(kernel) + " (" + std::to_string(rows) + " rows)";
}

// One block of device memory; what is taken is given back all at once.
class Arena {
 public:
  Arena() = default;
  ~Arena() {
    if (base_ != nullptr) (void)cudaFree(base_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Status Allocate() { return ToStatus(cudaMalloc(&base_, kArenaBytes), "self-test: its memory"); }
  void Keep() { kept_ = used_; }
  void Reset() { used_ = kept_; }
  // Null where the arena, whose size is fixed, is too small.
  template <typename T = void>
  T* Take(std::size_t bytes) {
    constexpr std::size_t kAlignment = 256;
    const std::size_t start = used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (used_ > kArenaBytes) return nullptr;
    return reinterpret_cast<T*>(static_cast<char*>(base_) + start);
  }

 private:
  void* base_ = nullptr;
  std::size_t used_ = 0, kept_ = 0;
};

struct Comparison {
  std::string op, reference, path;
  std::int64_t elements;
};

class Run {
 public:
  Run(const SelfTestPaths& paths, Stream stream) : paths_(paths), stream_(stream) {}

  Status Execute(SelfTestResult* result) {
    const auto start = std::chrono::steady_clock::now();
    BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device_));
    BATCH_INVARIANT_RETURN_IF_ERROR(arena_.Allocate());
    different_ = arena_.Take<std::uint32_t>(kMaxComparisons * sizeof(std::uint32_t));
    arena_.Keep();
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ToStatus(cudaMemsetAsync(different_, 0, kMaxComparisons * sizeof(std::uint32_t), stream_),
                 "self-test"));
    Status status = EnqueueAll();
    // What was enqueued uses the arena.
    const Status finished = ToStatus(cudaStreamSynchronize(stream_), "self-test");
    BATCH_INVARIANT_RETURN_IF_ERROR(status);
    BATCH_INVARIANT_RETURN_IF_ERROR(finished);
    BATCH_INVARIANT_RETURN_IF_ERROR(Judge());
    result->comparisons = static_cast<int>(comparisons_.size());
    result->elements = 0;
    for (const Comparison& each : comparisons_) result->elements += each.elements;
    result->milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return Status::Ok();
  }

 private:
  Status EnqueueAll() {
    for (const ElementType type :
         {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
      BATCH_INVARIANT_RETURN_IF_ERROR(Products(type));
      for (const int bits : {4, 8}) {
        for (const ZeroPoints zeros : {ZeroPoints::kDefault, ZeroPoints::kPacked}) {
          BATCH_INVARIANT_RETURN_IF_ERROR(NBitsProducts(type, bits, zeros, kK, kNBitsPeriod));
          if (type == ElementType::kFloat32) continue;  // one run for any K
          BATCH_INVARIANT_RETURN_IF_ERROR(NBitsProducts(type, bits, zeros, kRunsK, kRunsPeriod));
        }
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(Mixtures(type, 0, kK, kPeriod));
      for (const int bits : {4, 8}) {
        BATCH_INVARIANT_RETURN_IF_ERROR(Mixtures(type, bits, kK, kNBitsPeriod));
        if (type == ElementType::kFloat32) continue;
        BATCH_INVARIANT_RETURN_IF_ERROR(Mixtures(type, bits, kRunsK, kRunsPeriod));
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(Norms(type));
      // In fp32 there is one path.
      if (type == ElementType::kFloat32) continue;
      for (const int head_size : {64, 128, 256}) {
        BATCH_INVARIANT_RETURN_IF_ERROR(AttentionOf(type, head_size));
      }
    }
    return Status::Ok();
  }

  Status Products(ElementType type) {
    arena_.Reset();
    const std::size_t element = ElementSize(type);
    void* a = arena_.Take(kRows * kK * element);
    void* b = arena_.Take(kColumns * kK * element);
    void* b_by_columns = arena_.Take(kColumns * kK * element);
    void* packed = arena_.Take(PackedGemmWeightBytes(type, kK, kColumns));
    void* expected = arena_.Take(kRows * kColumns * element);
    void* y = arena_.Take(kRows * kColumns * element);
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(y));
    const CancellingMatrix left{type, a, kRows, kK, kK, 1, kPeriod, false, 16.0f, 1};
    CancellingMatrix right{type, b, kColumns, kK, kK, 1, kPeriod, true, 16.0f, 2};
    BATCH_INVARIANT_RETURN_IF_ERROR(Fill(left, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Fill(right, stream_));
    right.data = b_by_columns;
    right.row_stride = 1;
    right.column_stride = kColumns;
    BATCH_INVARIANT_RETURN_IF_ERROR(Fill(right, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        PackGemmWeights(type, kK, kColumns, {b, 1, kK}, packed, stream_));

    const GemmKernel* reference = nullptr;
    for (const GemmKernel& kernel : paths_.gemm) {
      if (kernel.type != type) continue;
      // Each kernel with the operands that it is there for.
      const auto compute = [&](std::int64_t first, std::int64_t rows, bool is_packed, void* to) {
        GemmArgs args;
        args.type = type;
        args.m = rows;
        args.n = kColumns;
        args.k = kK;
        args.a = {At(a, first * kK, element), kK, 1};
        if (is_packed) {
          args.packed_b = packed;
        } else if (kernel.needs == GemmNeeds::kNVectors) {
          args.b = {b_by_columns, kColumns, 1};
        } else {
          args.b = {b, 1, kK};
        }
        args.y = to;
        args.y_row_stride = kColumns;
        if (!Serves(kernel, args, device_)) return Status::Ok();
        if (to == expected) {
          reference = &kernel;
          return kernel.launch(args, device_, stream_);
        }
        return Compare({std::string("MatMul in ") + Name(type), WithRows(reference->name, kRows),
                        WithRows(kernel.name, rows), rows * kColumns},
                       y, At(expected, first * kColumns, element), element,
                       [&] { return kernel.launch(args, device_, stream_); });
      };
      const bool takes_packed = kernel.needs == GemmNeeds::kKVectorsSm90;
      const bool is_first = reference == nullptr;
      BATCH_INVARIANT_RETURN_IF_ERROR(compute(0, kRows, takes_packed, is_first ? expected : y));
      if (reference == nullptr) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(compute(kFirstOfFew, kFewRows, false, y));
    }
    void* expected_gated = nullptr;
    for (const GemmKernel& kernel : paths_.gemm) {
      GemmArgs args;
      args.type = type;
      args.m = kRows;
      args.n = kColumns;
      args.k = kK;
      args.a = {a, kK, 1};
      args.packed_b = packed;
      args.silu_gated = true;
      args.y = y;
      args.y_row_stride = kColumns / 2;
      if (!Serves(kernel, args, device_)) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(CompareGated(
          std::string("MatMul in ") + Name(type), reference->name, kernel.name, type, expected,
          &expected_gated, y, [&] { return kernel.launch(args, device_, stream_); }));
    }
    return Status::Ok();
  }

  Status NBitsProducts(ElementType type, int bits, ZeroPoints zeros, std::int64_t k,
                       std::int64_t period) {
    arena_.Reset();
    const std::size_t element = ElementSize(type);
    MatMulNBitsPlan plan;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        MakeMatMulNBitsPlan(type, k, kColumns, bits, kNBitsBlock, zeros, &plan));
    void* a = arena_.Take(kRows * k * element);
    void* b = arena_.Take(kColumns * plan.blocks() * kNBitsBlock * bits / 8);
    void* scales = arena_.Take(kColumns * plan.blocks() * element);
    void* zero_points = zeros == ZeroPoints::kDefault
                            ? nullptr
                            : arena_.Take(kColumns * CeilDiv(plan.blocks() * bits, 8));
    void* packed = arena_.Take(PackedMatMulNBitsBytes(plan));
    void* expected = arena_.Take(kRows * kColumns * element);
    void* y = arena_.Take(kRows * kColumns * element);
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(y));
    const CancellingMatrix left{type, a, kRows, k, k, 1, period, false, 16.0f, 3};
    BATCH_INVARIANT_RETURN_IF_ERROR(Fill(left, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FillNBits(plan, period, bits == 8 ? 0.0625f : 1.0f, 4, b, scales, zero_points, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(PackMatMulNBits(plan, b, scales, zero_points, packed, stream_));

    const NBitsKernel* reference = nullptr;
    void* expected_gated = nullptr;
    for (const NBitsKernel& kernel : paths_.nbits) {
      const auto args_of = [&](std::int64_t first, std::int64_t rows, void* to) {
        MatMulNBitsArgs args;
        args.m = rows;
        args.a = At(a, first * k, element);
        args.a_row_stride = k;
        args.packed = packed;
        args.y = to;
        args.y_row_stride = kColumns;
        return args;
      };
      if (!Serves(kernel, plan, args_of(0, kRows, y), device_)) continue;
      if (reference == nullptr) {
        reference = &kernel;
        BATCH_INVARIANT_RETURN_IF_ERROR(
            kernel.launch(plan, args_of(0, kRows, expected), device_, stream_));
      }
      for (const std::int64_t rows : {kRows, kFewRows}) {
        if (rows == kRows && reference == &kernel) continue;
        const std::int64_t first = rows == kRows ? 0 : kFirstOfFew;
        BATCH_INVARIANT_RETURN_IF_ERROR(Compare(
            {"MatMulNBits of " + std::to_string(bits) + " bits in " + Name(type),
             WithRows(reference->name, kRows), WithRows(kernel.name, rows), rows * kColumns},
            y, At(expected, first * kColumns, element), element,
            [&] { return kernel.launch(plan, args_of(first, rows, y), device_, stream_); }));
      }
      MatMulNBitsPlan both = plan;
      both.matrices = 2;
      MatMulNBitsArgs gated = args_of(0, kRows, y);
      gated.silu_gated = true;
      gated.y_row_stride = kColumns / 2;
      if (!Serves(kernel, both, gated, device_)) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(
          CompareGated("MatMulNBits of " + std::to_string(bits) + " bits in " + Name(type),
                       reference->name, kernel.name, type, expected, &expected_gated, y,
                       [&] { return kernel.launch(both, gated, device_, stream_); }));
    }
    return Status::Ok();
  }

  // One layer of every expert, whose weights are alike: [n, k], of `bits` or, with 0, in the
  // element type.
  Status FillExperts(ElementType type, int bits, std::int64_t n, std::int64_t k,
                     std::int64_t period, MatMulNBitsPlan* plan, ExpertWeights* weights) {
    const std::size_t element = ElementSize(type);
    if (bits > 0) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          MakeMatMulNBitsPlan(type, k, n, bits, kNBitsBlock, ZeroPoints::kPacked, plan));
      weights->plan = plan;
    }
    const std::size_t bytes =
        bits > 0 ? PackedMatMulNBitsBytes(*plan) : PackedGemmWeightBytes(type, k, n);
    char* packed = arena_.Take<char>(kExperts * bytes);
    void* b = arena_.Take(bits > 0 ? n * plan->blocks() * kNBitsBlock * bits / 8 : n * k * element);
    void* scales = bits > 0 ? arena_.Take(n * plan->blocks() * element) : nullptr;
    void* zeros = bits > 0 ? arena_.Take(n * CeilDiv(plan->blocks() * bits, 8)) : nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(bits > 0 ? zeros : b));
    weights->packed = packed;
    if (bits > 0) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          FillNBits(*plan, period, bits == 8 ? 0.0625f : 1.0f, 30, b, scales, zeros, stream_));
    } else {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          Fill({type, b, n, k, k, 1, period, true, 16.0f, 31}, stream_));
    }
    for (std::int64_t e = 0; e < kExperts; ++e) {
      char* to = packed + e * bytes;
      BATCH_INVARIANT_RETURN_IF_ERROR(bits > 0
                                          ? PackMatMulNBits(*plan, b, scales, zeros, to, stream_)
                                          : PackGemmWeights(type, k, n, {b, 1, k}, to, stream_));
    }
    return Status::Ok();
  }

  // Both layers by every pair of kernels that can go together. The first layer's sums cancel, so
  // that the second one multiplies rounding errors.
  Status Mixtures(ElementType type, int bits, std::int64_t k, std::int64_t period) {
    arena_.Reset();
    const std::size_t element = ElementSize(type);
    MatMulNBitsPlan plans[2];
    MoeArgs args;
    args.type = type;
    args.tokens = kRows;
    args.hidden = k;
    args.inter = kColumns;
    args.experts = kExperts;
    args.activation = ExpertActivation::kIdentity;
    args.weights = RouterWeights::kSoftmaxOfChosen;
    void* x = arena_.Take(kRows * k * element);
    void* router = arena_.Take(kRows * kExperts * element);
    void* expected = arena_.Take(kRows * k * element);
    void* y = arena_.Take(kRows * k * element);
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(y));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Fill({type, x, kRows, k, k, 1, period, false, 16.0f, 32}, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Fill({type, router, kRows, kExperts, kExperts, 1, kExperts, false, 1.0f, 33}, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FillExperts(type, bits, kColumns, k, period, &plans[0], &args.fc1));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        FillExperts(type, bits, k, kColumns, kWholeColumns, &plans[1], &args.fc2));
    std::size_t bytes = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(MoeWorkspaceBytes(args, &bytes));
    void* workspace = arena_.Take(bytes);
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(workspace));

    std::string reference;
    for (const GroupedKernel& fc1 : paths_.grouped) {
      if (!Serves(fc1, type, args.fc1, k, device_)) continue;
      for (const GroupedKernel& fc2 : paths_.grouped) {
        if (fc2.rows != fc1.rows || !Serves(fc2, type, args.fc2, kColumns, device_)) continue;
        const std::string pair = std::string(fc1.name) + " and " + fc2.name;
        const auto launch = [&](std::int64_t first, std::int64_t rows, void* to) {
          MoeArgs part = args;
          part.tokens = rows;
          part.input = At(x, first * k, element);
          part.router = At(router, first * kExperts, element);
          part.output = to;
          return MixtureOfExperts(part, MoeKernels{&fc1, &fc2}, workspace, bytes, stream_);
        };
        if (reference.empty()) {
          reference = pair;
          BATCH_INVARIANT_RETURN_IF_ERROR(launch(0, kRows, expected));
        }
        for (const std::int64_t rows : {kRows, kFewRows}) {
          if (rows == kRows && reference == pair) continue;
          const std::int64_t first = rows == kRows ? 0 : kFirstOfFew;
          BATCH_INVARIANT_RETURN_IF_ERROR(Compare(
              {"MixtureOfExperts" + (bits > 0 ? " of " + std::to_string(bits) + " bits" : "") +
                   " in " + Name(type),
               WithRows(reference.c_str(), kRows), WithRows(pair.c_str(), rows), rows * k},
              y, At(expected, first * k, element), element,
              [&] { return launch(first, rows, y); }));
        }
      }
    }
    return Status::Ok();
  }

  // A product whose kernel gates, against `products` [kRows, kColumns] gated afterwards, once:
  // *expected.
  template <typename Launch>
  Status CompareGated(const std::string& op, const char* reference, const char* kernel,
                      ElementType type, const void* products, void** expected, void* y,
                      const Launch& launch) {
    const std::size_t element = ElementSize(type);
    const std::int64_t columns = kColumns / 2;
    if (*expected == nullptr) {
      *expected = arena_.Take(kRows * columns * element);
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(*expected));
      BATCH_INVARIANT_RETURN_IF_ERROR(
          GateAlternating(type, kRows, kColumns, products, *expected, columns, stream_));
    }
    return Compare(
        {op + ", gated", std::string(reference) + ", then gated", kernel, kRows * columns}, y,
        *expected, element, launch);
  }

  // Many tokens at once walk the key blocks; few spread them over the device.
  Status AttentionOf(ElementType type, int head_size) {
    arena_.Reset();
    const std::size_t element = ElementSize(type);
    const std::int64_t row = std::int64_t{kHeads} * head_size;
    void* query = arena_.Take(kTokens * row * element);
    void* keys = arena_.Take(kKeys * head_size * element);
    void* values = arena_.Take(kKeys * head_size * element);
    void* expected = arena_.Take(kTokens * row * element);
    void* y = arena_.Take(kTokens * row * element);
    auto* last_key = arena_.Take<std::int32_t>(kTokens * sizeof(std::int32_t));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(last_key));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Fill({type, query, kTokens, row, row, 1, row, false, 1.0f, 5}, stream_));
    // Halves of a block have the same keys and opposite values. Values by columns, so that a row of
    // the matrix is one element of the head over all keys.
    for (int block = 0; block * kKeyBlock < kKeys; ++block) {
      const std::int64_t first = std::int64_t{block} * kKeyBlock * head_size;
      const bool is_whole = (block + 1) * kKeyBlock <= kKeys;
      const std::int64_t count = is_whole ? kKeyBlock : kKeys - block * kKeyBlock;
      const std::int64_t period = kKeyBlock / 2;
      const auto seed = static_cast<std::uint32_t>(6 + 2 * block);
      CancellingMatrix matrix{
          type, At(keys, first, element), head_size, count, 1, head_size, period, false, 0.5f,
          seed};
      BATCH_INVARIANT_RETURN_IF_ERROR(Fill(matrix, stream_));
      matrix.data = At(values, first, element);
      matrix.cancels = true;
      matrix.scale = 4096.0f;
      matrix.seed = seed + 1;
      // A block of which a row sees a part has no values where the sum is to cancel.
      if (!is_whole) matrix.period = 0;
      BATCH_INVARIANT_RETURN_IF_ERROR(Fill(matrix, stream_));
    }

    AttentionArgs args;
    args.type = type;
    args.heads = kHeads;
    args.kv_heads = 1;
    args.head_size = head_size;
    args.key_capacity = kKeys;
    args.key = {keys, 0, 0, head_size};
    args.value = {values, 0, 0, head_size};
    args.last_key = last_key;
    for (const int tokens : {kTokens, 1, 8}) {
      args.batch = kTokens / tokens;
      args.tokens = tokens;
      args.query = {query, tokens * row, head_size, row};
      args.output = tokens == kTokens ? expected : y;
      args.output_strides = {nullptr, tokens * row, head_size, row};
      std::size_t bytes = 0;
      BATCH_INVARIANT_RETURN_IF_ERROR(AttentionWorkspaceBytes(args, &bytes));
      void* workspace = bytes == 0 ? nullptr : arena_.Take(bytes);
      if (bytes > 0) BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(workspace));
      BATCH_INVARIANT_RETURN_IF_ERROR(
          FillSequence(last_key, args.batch, kKeys - kTokens + tokens - 1, tokens, stream_));
      const auto launch = [&] { return paths_.attention(args, workspace, bytes, stream_); };
      if (tokens == kTokens) {
        BATCH_INVARIANT_RETURN_IF_ERROR(launch());
        continue;
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(
          Compare({"attention with heads of " + std::to_string(head_size) + " in " + Name(type),
                   std::to_string(kTokens) + " tokens at once",
                   std::to_string(tokens) + (tokens == 1 ? " token at once" : " tokens at once"),
                   kTokens * row},
                  y, expected, element, launch));
    }
    return GroupQueryAttentionOf(type, head_size, query, keys, values, expected, y, last_key);
  }

  // The newest tokens of the same sequence as a node gets them: appended to the cache, and merged
  // where the last part of a tile arrives.
  Status GroupQueryAttentionOf(ElementType type, int head_size, void* query, void* keys,
                               void* values, void* expected, void* y, std::int32_t* last_key) {
    const std::size_t element = ElementSize(type);
    const std::int64_t row = std::int64_t{kHeads} * head_size;
    BATCH_INVARIANT_RETURN_IF_ERROR(FillSequence(last_key, 1, kKeys - 1, 0, stream_));
    for (const int tokens : {1, 8}) {
      const std::int64_t first_key = std::int64_t{kKeys - tokens} * head_size;
      const std::int64_t first_query = (kTokens - tokens) * row;
      const std::size_t new_bytes = tokens * head_size * element;
      GroupQueryAttentionArgs args;
      args.type = type;
      args.batch = 1;
      args.tokens = tokens;
      args.heads = kHeads;
      args.kv_heads = 1;
      args.head_size = head_size;
      args.total_sequence_length = kKeys;
      args.query = At(query, first_query, element);
      args.past_key = args.present_key = keys;
      args.past_value = args.present_value = values;
      args.past_capacity = args.present_capacity = kKeys;
      args.seqlens_k = last_key;
      args.output = y;
      std::size_t bytes = 0;
      BATCH_INVARIANT_RETURN_IF_ERROR(GroupQueryAttentionWorkspaceBytes(args, &bytes));
      void* workspace = arena_.Take(bytes);
      void* new_keys = arena_.Take(new_bytes);
      void* new_values = arena_.Take(new_bytes);
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(new_values));
      args.key = new_keys;
      args.value = new_values;
      for (const auto& [to, from] : {std::pair{new_keys, At(keys, first_key, element)},
                                     std::pair{new_values, At(values, first_key, element)}}) {
        BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(
            cudaMemcpyAsync(to, from, new_bytes, cudaMemcpyDeviceToDevice, stream_), "self-test"));
        BATCH_INVARIANT_RETURN_IF_ERROR(
            ToStatus(cudaMemsetAsync(from, 0xff, new_bytes, stream_), "self-test"));
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(Compare(
          {"GroupQueryAttention with heads of " + std::to_string(head_size) + " in " + Name(type),
           std::to_string(kTokens) + " tokens at once",
           std::to_string(tokens) + (tokens == 1 ? " new token" : " new tokens"), tokens * row},
          y, At(expected, first_query, element), element,
          [&] { return paths_.group_query_attention(args, workspace, bytes, stream_); }));
    }
    return Status::Ok();
  }

  // All rows with vector loads; then each alone, one element beside the alignment.
  Status Norms(ElementType type) {
    arena_.Reset();
    const std::size_t element = ElementSize(type);
    void* x = arena_.Take(kNormRows * kNormWidth * element);
    void* moved = arena_.Take((kNormRows * kNormWidth + 1) * element);
    void* gamma = arena_.Take(kNormWidth * element);
    void* expected = arena_.Take(kNormRows * kNormWidth * element);
    void* y = arena_.Take((kNormRows * kNormWidth + 1) * element);
    auto* expected_inv = arena_.Take<float>(kNormRows * sizeof(float));
    auto* inv = arena_.Take<float>(kNormRows * sizeof(float));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckRoom(inv));
    BATCH_INVARIANT_RETURN_IF_ERROR(Fill(
        {type, x, kNormRows, kNormWidth, kNormWidth, 1, kNormWidth, false, 1.0f, 20}, stream_));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Fill({type, gamma, 1, kNormWidth, kNormWidth, 1, kNormWidth, false, 1.0f, 21}, stream_));
    moved = At(moved, 1, element);
    y = At(y, 1, element);
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ToStatus(cudaMemcpyAsync(moved, x, kNormRows * kNormWidth * element,
                                 cudaMemcpyDeviceToDevice, stream_),
                 "self-test"));
    NormArgs args;
    args.type = type;
    args.rows = kNormRows;
    args.width = kNormWidth;
    args.x = x;
    args.gamma = gamma;
    args.y = expected;
    args.inv_std = expected_inv;
    BATCH_INVARIANT_RETURN_IF_ERROR(paths_.norm(args, stream_));
    const auto each_alone = [&] {
      for (std::int64_t i = 0; i < kNormRows; ++i) {
        args.rows = 1;
        args.x = At(moved, i * kNormWidth, element);
        args.y = At(y, i * kNormWidth, element);
        args.inv_std = inv + i;
        BATCH_INVARIANT_RETURN_IF_ERROR(paths_.norm(args, stream_));
      }
      return Status::Ok();
    };
    const std::string op = std::string("RMS normalisation in ") + Name(type);
    const char* together = "rows together, vector loads";
    const char* alone = "each row alone, single loads";
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Compare({op, together, alone, kNormRows * kNormWidth}, y, expected, element, each_alone));
    // A sum of squares before it is rounded to the element type.
    return Compare({op, together, alone, kNormRows}, inv, expected_inv, sizeof(float), each_alone);
  }

  // Fills y with NaN, launches, and counts what differs.
  template <typename Launch>
  Status Compare(Comparison comparison, void* y, const void* expected, std::size_t element_bytes,
                 const Launch& launch) {
    if (comparisons_.size() == kMaxComparisons) {
      return Status::DeviceError("self-test: more comparisons than there is room for");
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(
        cudaMemsetAsync(y, 0xff, comparison.elements * element_bytes, stream_), "self-test"));
    BATCH_INVARIANT_RETURN_IF_ERROR(launch());
    if (static_cast<int>(comparisons_.size()) == paths_.spoilt) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          ToStatus(cudaMemsetAsync(y, 0xff, element_bytes, stream_), "self-test"));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(CountDifferent(y, expected, comparison.elements, element_bytes,
                                                   different_ + comparisons_.size(), stream_));
    comparisons_.push_back(std::move(comparison));
    return Status::Ok();
  }

  Status Judge() const {
    std::vector<std::uint32_t> different(comparisons_.size());
    BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(
        cudaMemcpyAsync(different.data(), different_, different.size() * sizeof(different[0]),
                        cudaMemcpyDeviceToHost, stream_),
        "self-test"));
    BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "self-test"));
    for (std::size_t i = 0; i < different.size(); ++i) {
      if (different[i] == 0) continue;
      const Comparison& found = comparisons_[i];
      cudaDeviceProp properties{};
      (void)cudaGetDeviceProperties(&properties, device_.ordinal);
      return Status::DeviceError(
          "self-test of CUDA device " + std::to_string(device_.ordinal) + " (" + properties.name +
          "): " + found.op + ", the paths '" + found.reference + "' and '" + found.path +
          "' differ in " + std::to_string(different[i]) + " of " + std::to_string(found.elements) +
          " results, so that on this device an answer could depend on its batch");
    }
    return Status::Ok();
  }

  Status CheckRoom(const void* last_taken) const {
    return last_taken != nullptr ? Status::Ok()
                                 : Status::DeviceError("self-test: its memory is too small");
  }

  static void* At(void* data, std::int64_t elements, std::size_t element_bytes) {
    return static_cast<char*>(data) + elements * static_cast<std::int64_t>(element_bytes);
  }

  const SelfTestPaths& paths_;
  const Stream stream_;
  DeviceInfo device_;
  Arena arena_;
  std::uint32_t* different_ = nullptr;  // one counter a comparison
  std::vector<Comparison> comparisons_;
};

}  // namespace

Status SelfTest(const SelfTestPaths& paths, Stream stream, SelfTestResult* result) {
  return Run(paths, stream).Execute(result);
}

Status SelfTest(Stream stream, SelfTestResult* result) {
  SelfTestPaths paths;
  if (const char* spoilt = std::getenv("ORT_BATCH_INVARIANT_SPOIL_SELF_TEST")) {
    paths.spoilt = std::atoi(spoilt);
  }
  return SelfTest(paths, stream, result);
}

}  // namespace batch_invariant::cuda
