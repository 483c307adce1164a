// Checks, tiles and threads of the attention core; the arithmetic is in attention_body.h.
//
// A tile is some queries of all heads that share one kv head. Its blocks of keys are walked in
// ascending order by one thread. When there are fewer tiles than threads would like (decoding), the
// blocks of a tile are computed by several threads and merged afterwards, in the same order.
#include "batch_invariant/cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "batch_invariant/contract.h"
#include "kernels/cpu/attention/attention_kernels.h"
#include "kernels/cpu/dispatch/parallel_rows.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(AttentionKernels, kAttentionKernels, AttentionKernelTable)

namespace {

constexpr int64_t kBlockKeys = contract::kAttentionBlockKeys;
constexpr int64_t kTileRows = 96;       // enough to pay for packing a block of keys
constexpr int64_t kMaxSplitRows = 64;   // above this a tile is work enough for a thread
constexpr int64_t kTilesPerThread = 4;  // so that threads finish together

Status Check(const AttentionArgs& args) {
  if (args.batch < 0 || args.queries < 0 || args.keys < 0 || args.query_heads < 0) {
    return Status::InvalidArgument("attention: no extent may be negative");
  }
  if (args.head_size <= 0 || args.value_size <= 0 || args.kv_heads <= 0) {
    return Status::InvalidArgument(
        "attention: head size, value size and kv heads must be positive");
  }
  if (args.query_heads % args.kv_heads != 0) {
    return Status::InvalidArgument("attention: the query heads must be a multiple of the kv heads");
  }
  if (args.batch * args.queries * args.query_heads == 0) return Status::Ok();
  if (args.query.data == nullptr || args.output.data == nullptr ||
      (args.keys > 0 && ((args.key.data == nullptr && args.key_f16 == nullptr) ||
                         (args.value.data == nullptr && args.value_f16 == nullptr)))) {
    return Status::InvalidArgument("attention: query, key, value or output has no data");
  }
  if (args.score_output != ScoreOutput::kNone &&
      (args.score_keys < args.keys || (args.scores == nullptr && args.score_keys > 0))) {
    return Status::InvalidArgument("attention: the score output is missing or too narrow");
  }
  for (int64_t b = 0; b < args.batch; ++b) {
    const bool key_count_ok =
        args.key_count == nullptr || (args.key_count[b] >= 0 && args.key_count[b] <= args.keys);
    const bool query_count_ok = args.query_count == nullptr ||
                                (args.query_count[b] >= 0 && args.query_count[b] <= args.queries);
    if (!key_count_ok || !query_count_ok) {
      return Status::InvalidArgument("attention: a row's key or query count is out of range");
    }
  }
  return Status::Ok();
}

// How the queries are cut. Scheduling only: no result depends on it.
struct Plan {
  int64_t group;            // query heads of one kv head
  int64_t tokens_per_tile;  // queries
  int64_t tiles_per_head;
  int64_t tiles;
  int64_t rows;   // of a full tile
  int64_t width;  // of the value vector, rounded up to sixteen

  Plan(const AttentionArgs& args, int threads) {
    group = args.query_heads / args.kv_heads;
    const int64_t heads = args.batch * args.kv_heads;
    const int64_t wanted = std::max<int64_t>(1, (kTilesPerThread * threads + heads - 1) / heads);
    tokens_per_tile = std::clamp<int64_t>(
        std::min(kTileRows / group, (args.queries + wanted - 1) / wanted), 1, args.queries);
    tiles_per_head = (args.queries + tokens_per_tile - 1) / tokens_per_tile;
    tiles = heads * tiles_per_head;
    rows = tokens_per_tile * group;
    width = (args.value_size + 15) / 16 * 16;
  }
};

// Hands out pieces of one scratch allocation, each aligned to 64 bytes.
class Carver {
 public:
  explicit Carver(char* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    T* piece = reinterpret_cast<T*>(base_ + used_);
    used_ += (sizeof(T) * count + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// What one thread works with.
struct Worker {
  AttentionTile tile = {};
  AttentionRow* rows;
  AttentionState state;

  // With a null base only the size is found.
  int64_t Place(char* base, const AttentionArgs& args, const Plan& plan) {
    Carver carver(base);
    rows = carver.Take<AttentionRow>(plan.rows);
    tile.packed_keys = carver.Take<float>(kBlockKeys * args.head_size);
    tile.packed_values =
        carver.Take<float>(plan.width != args.value_size || args.value_f16 != nullptr
                               ? kBlockKeys * plan.width
                               : 0);
    tile.block_acc = carver.Take<float>(kMaxAttentionRows * plan.width);
    state.max = carver.Take<float>(plan.rows);
    state.sum = carver.Take<float>(plan.rows);
    state.acc = carver.Take<float>(plan.rows * plan.width);
    return carver.used();
  }
};

class Attention {
 public:
  Attention(const Context& context, const AttentionKernels& kernels, const AttentionArgs& args)
      : context_(context),
        kernels_(kernels),
        args_(args),
        plan_(args, std::max(context.parallel.threads, 1)) {}

  Status Run() {
    const int64_t threads = std::max(context_.parallel.threads, 1);
    const int64_t blocks = (args_.keys + kBlockKeys - 1) / kBlockKeys;
    int64_t chunks = 1;
    if (threads > 1 && plan_.tiles < 2 * threads && plan_.rows <= kMaxSplitRows &&
        args_.score_output == ScoreOutput::kNone) {
      chunks = std::min(blocks, (2 * threads + plan_.tiles - 1) / plan_.tiles);
    }
    fetches_with_tiles_ = chunks == 1 && plan_.tiles_per_head == 1;
    if (!fetches_with_tiles_) FetchAll(context_, args_);
    return chunks > 1 ? RunSplit(threads, blocks, chunks) : RunWhole(threads);
  }

  static void FetchAll(const Context& context, const AttentionArgs& args) {
    if (args.fetch == nullptr) return;
    ParallelRows(context.parallel, args.batch * args.kv_heads,
                 args.keys * (args.head_size + args.value_size), [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     args.fetch(args.fetch_self, i / args.kv_heads, i % args.kv_heads);
                   }
                 });
  }

 private:
  // Calls unit(worker, index) for every index below `units`, each worker with its own scratch.
  template <typename Unit>
  Status ForEachUnit(int64_t threads, int64_t units, Unit&& unit) {
    const int64_t workers = std::min(threads, units);
    Worker measured;
    const int64_t bytes = measured.Place(nullptr, args_, plan_);
    char* scratch = static_cast<char*>(
        context_.scratch.allocate(context_.scratch.self, static_cast<size_t>(bytes * workers)));
    if (scratch == nullptr) return Status::OutOfMemory("attention: no memory for the tiles");
    std::atomic<int64_t> next{0};
    ParallelFor(context_.parallel, workers, [&](int64_t w) {
      Worker worker;
      worker.Place(scratch + w * bytes, args_, plan_);
      for (int64_t index = next++; index < units; index = next++) unit(worker, index);
    });
    return Status::Ok();
  }

  Status RunWhole(int64_t threads) {
    return ForEachUnit(threads, plan_.tiles, [this](Worker& worker, int64_t index) {
      // Late queries see the most keys: they go first, so that no thread is left with one at the
      // end.
      const int64_t heads = args_.batch * args_.kv_heads;
      const int64_t first = plan_.tiles_per_head - 1 - index / heads;
      const int64_t tile = index % heads * plan_.tiles_per_head + first;
      if (fetches_with_tiles_ && args_.fetch != nullptr) {
        args_.fetch(args_.fetch_self, tile / args_.kv_heads, tile % args_.kv_heads);
      }
      PrepareTile(worker, tile);
      Clear(worker.state, worker.tile.row_count);
      const auto [begin, end] = Blocks(worker.tile);
      for (int64_t block = begin; block < end; ++block) {
        kernels_.merge_block(worker.tile, block, worker.state);
      }
      FinishTile(worker, tile, worker.state);
    });
  }

  Status RunSplit(int64_t threads, int64_t blocks, int64_t chunks) {
    const int64_t per_chunk = (blocks + chunks - 1) / chunks;
    const auto carve = [&](char* base, AttentionState* results) {
      Carver carver(base);
      results->max = carver.Take<float>(plan_.tiles * blocks * plan_.rows);
      results->sum = carver.Take<float>(plan_.tiles * blocks * plan_.rows);
      results->acc = carver.Take<float>(plan_.tiles * blocks * plan_.rows * plan_.width);
      return carver.used();
    };
    AttentionState results;
    const int64_t bytes = carve(nullptr, &results);
    char* scratch = static_cast<char*>(
        context_.scratch.allocate(context_.scratch.self, static_cast<size_t>(bytes)));
    if (scratch == nullptr) return Status::OutOfMemory("attention: no memory for split blocks");
    carve(scratch, &results);
    const auto result_of = [&](int64_t tile, int64_t block) {
      const int64_t row = (tile * blocks + block) * plan_.rows;
      return AttentionState{results.max + row, results.sum + row, results.acc + row * plan_.width};
    };

    BATCH_INVARIANT_RETURN_IF_ERROR(
        ForEachUnit(threads, plan_.tiles * chunks, [&](Worker& worker, int64_t index) {
          const int64_t tile = index / chunks, chunk = index % chunks;
          PrepareTile(worker, tile);
          const auto [begin, end] = Blocks(worker.tile);
          for (int64_t block = std::max(begin, chunk * per_chunk);
               block < std::min(end, (chunk + 1) * per_chunk); ++block) {
            kernels_.compute_block(worker.tile, block, result_of(tile, block));
          }
        }));
    return ForEachUnit(threads, plan_.tiles, [&](Worker& worker, int64_t tile) {
      PrepareTile(worker, tile);
      Clear(worker.state, worker.tile.row_count);
      const auto [begin, end] = Blocks(worker.tile);
      for (int64_t block = begin; block < end; ++block) {
        kernels_.merge_state(worker.tile.row_count, plan_.width, result_of(tile, block),
                             worker.state);
      }
      FinishTile(worker, tile, worker.state);
    });
  }

  struct TilePlace {
    int64_t batch, kv_head, first_token, end_token, end_valid;
  };
  TilePlace Place(int64_t tile) const {
    TilePlace place;
    const int64_t head = tile / plan_.tiles_per_head;
    place.batch = head / args_.kv_heads;
    place.kv_head = head % args_.kv_heads;
    place.first_token = tile % plan_.tiles_per_head * plan_.tokens_per_tile;
    place.end_token = std::min(place.first_token + plan_.tokens_per_tile, args_.queries);
    const int64_t valid =
        args_.query_count != nullptr ? args_.query_count[place.batch] : args_.queries;
    place.end_valid = std::clamp(valid, place.first_token, place.end_token);
    return place;
  }

  float* ScoresOf(int64_t batch, int64_t head, int64_t token) const {
    if (args_.score_output == ScoreOutput::kNone) return nullptr;
    return args_.scores +
           ((batch * args_.query_heads + head) * args_.queries + token) * args_.score_keys;
  }

  float* OutputOf(int64_t batch, int64_t head, int64_t token) const {
    return args_.output.data + batch * args_.output.batch_stride + head * args_.output.head_stride +
           token * args_.output.token_stride;
  }

  // Rows go token by token, the heads of a token together, so that neighbours see the same keys.
  void PrepareTile(Worker& worker, int64_t index) const {
    const TilePlace place = Place(index);
    const int64_t b = place.batch;
    const int64_t key_count = args_.key_count != nullptr ? args_.key_count[b] : args_.keys;
    const int64_t start = args_.query_start != nullptr ? args_.query_start[b] : 0;
    int64_t count = 0;
    for (int64_t t = place.first_token; t < place.end_valid; ++t) {
      const int64_t position = start + t;
      int64_t first_key = 0, end_key = key_count;
      if (args_.causal) end_key = std::min(end_key, position + 1);
      if (args_.window_left >= 0) first_key = std::max(first_key, position - args_.window_left);
      if (args_.window_right >= 0) end_key = std::min(end_key, position + args_.window_right + 1);
      if (args_.bias != nullptr || args_.mask != nullptr) {
        end_key = std::min(end_key, args_.bias_keys);
      }
      for (int64_t g = 0; g < plan_.group; ++g) {
        const int64_t h = place.kv_head * plan_.group + g;
        AttentionRow& row = worker.rows[count++];
        row.query = args_.query.data + b * args_.query.batch_stride + h * args_.query.head_stride +
                    t * args_.query.token_stride;
        row.first_key = first_key;
        row.end_key = end_key;
        row.bias = args_.bias == nullptr
                       ? nullptr
                       : args_.bias + b * args_.bias_batch_stride + h * args_.bias_head_stride +
                             t * args_.bias_query_stride;
        row.mask = args_.mask == nullptr
                       ? nullptr
                       : args_.mask + b * args_.mask_batch_stride + h * args_.mask_head_stride +
                             t * args_.mask_query_stride;
        row.scores = ScoresOf(b, h, t);
        if (row.scores != nullptr) {
          std::fill_n(row.scores, args_.score_keys,
                      args_.score_output == ScoreOutput::kSoftmax
                          ? -std::numeric_limits<float>::infinity()
                          : args_.score_excluded);
        }
      }
    }
    AttentionTile& tile = worker.tile;
    tile.rows = worker.rows;
    tile.row_count = count;
    const int64_t key_offset = b * args_.key.batch_stride + place.kv_head * args_.key.head_stride;
    const int64_t value_offset =
        b * args_.value.batch_stride + place.kv_head * args_.value.head_stride;
    tile.half_keys = args_.key_f16 == nullptr ? nullptr : args_.key_f16 + key_offset;
    tile.half_values = args_.value_f16 == nullptr ? nullptr : args_.value_f16 + value_offset;
    tile.keys = args_.key_f16 != nullptr ? nullptr : args_.key.data + key_offset;
    tile.values = args_.value_f16 != nullptr ? nullptr : args_.value.data + value_offset;
    tile.key_stride = args_.key.token_stride;
    tile.value_stride = args_.value.token_stride;
    tile.head_size = args_.head_size;
    tile.value_size = args_.value_size;
    tile.value_width = plan_.width;
    tile.scale = args_.scale;
    tile.softcap = args_.softcap;
    tile.score_output = args_.score_output;
  }

  // The blocks that any row of the tile sees.
  static std::pair<int64_t, int64_t> Blocks(const AttentionTile& tile) {
    int64_t begin = std::numeric_limits<int64_t>::max(), end = 0;
    for (int64_t r = 0; r < tile.row_count; ++r) {
      if (tile.rows[r].first_key >= tile.rows[r].end_key) continue;
      begin = std::min(begin, tile.rows[r].first_key / kBlockKeys);
      end = std::max(end, (tile.rows[r].end_key + kBlockKeys - 1) / kBlockKeys);
    }
    return {begin, end};
  }

  void Clear(const AttentionState& state, int64_t rows) const {
    std::fill_n(state.max, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, rows, 0.0f);
    std::fill_n(state.acc, rows * plan_.width, 0.0f);
  }

  void FinishTile(const Worker& worker, int64_t index, const AttentionState& state) const {
    static constexpr float kZeroSink = 0.0f;
    const TilePlace place = Place(index);
    int64_t row = 0;
    for (int64_t t = place.first_token; t < place.end_token; ++t) {
      for (int64_t g = 0; g < plan_.group; ++g) {
        const int64_t h = place.kv_head * plan_.group + g;
        float* y = OutputOf(place.batch, h, t);
        float* scores = ScoresOf(place.batch, h, t);
        const bool softmax_scores = args_.score_output == ScoreOutput::kSoftmax;
        if (t >= place.end_valid) {
          std::fill_n(y, args_.value_size, 0.0f);
          if (scores != nullptr) {
            std::fill_n(scores, args_.score_keys, softmax_scores ? 0.0f : args_.score_excluded);
          }
          continue;
        }
        const float* sink = args_.sink != nullptr ? args_.sink + h
                            : args_.sink_is_zero  ? &kZeroSink
                                                  : nullptr;
        kernels_.finish_row(state, row++, worker.tile, sink, y, softmax_scores ? scores : nullptr,
                            args_.score_keys);
      }
    }
  }

  const Context& context_;
  const AttentionKernels& kernels_;
  const AttentionArgs& args_;
  const Plan plan_;
  bool fetches_with_tiles_ = false;
};

}  // namespace

Status AttentionF32(const Context& context, const AttentionArgs& args) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  const AttentionKernels* kernels = FindKernels(AttentionKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported(
        "attention: this library has no kernel for the instruction set asked for");
  }
  if (args.batch * args.queries * args.query_heads == 0) {
    Attention::FetchAll(context, args);
    return Status::Ok();
  }
  return Attention(context, *kernels, args).Run();
}

}  // namespace batch_invariant::cpu
