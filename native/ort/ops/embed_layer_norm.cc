// EmbedLayerNormalization (com.microsoft): the first node of BERT and GPT-2 graphs.
//   sum = (word[input_ids] + position[p]) + segment[segment_ids]   each addition rounded
//   output = layer norm of sum over the hidden size, contract norm.f32
// with p = position_ids, or the token's place in its row. mask_index[b] counts the ones of row b's
// mask, and is 0 without a mask.
#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/norm.h"
#include "ort/ops/half.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kTables = 3;
// Inputs by their place in the schema.
enum Input : size_t {
  kIds,
  kSegmentIds,
  kWord,
  kPosition,
  kSegment,
  kGamma,
  kBeta,
  kMask,
  kPlaces
};

// One table of embeddings, as fp32: the constant that was offered ahead, or the input of this call.
class Table {
 public:
  void Keep(const Tensor& tensor) {
    kept_ = tensor;
    shape_.assign(tensor.shape.begin(), tensor.shape.end());
    kept_.shape = shape_;
  }

  Status Read(OpContext& context, size_t input, Tensor* tensor) const {
    *tensor = kept_;
    return kept_.present ? Status::Ok() : context.Input(input, tensor);
  }

 private:
  Tensor kept_;
  std::vector<int64_t> shape_;
};

class EmbedLayerNormKernel final : public OpKernel {
 public:
  explicit EmbedLayerNormKernel(const NodeInfo& node) : epsilon_(node.Float("epsilon", 1e-12f)) {}

  // An fp16 table would else be widened whole in every call.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = input >= kWord && input < kWord + kTables && tensor.owner != nullptr;
    if (*packed) tables_[input - kWord].Keep(tensor);
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    Tensor ids;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kIds, &ids));
    if (ids.shape.size() != 2) {
      return Status::InvalidArgument("EmbedLayerNormalization: input_ids are " +
                                     ShapeText(ids.shape) + ", needed are [batch, tokens]");
    }
    std::array<Tensor, kTables> tables;
    for (size_t i = 0; i < kTables; ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(tables_[i].Read(context, kWord + i, &tables[i]));
    }
    const int64_t hidden = tables[0].shape.size() == 2 ? tables[0].shape[1] : 0;
    for (const Tensor& table : tables) {
      if (table.present && (table.shape.size() != 2 || table.shape[1] != hidden || hidden == 0)) {
        return Status::InvalidArgument("EmbedLayerNormalization: an embedding is " +
                                       ShapeText(table.shape) + ", needed is [entries, " +
                                       std::to_string(hidden) + "]");
      }
    }
    std::array<Tensor, kTables> indices = {ids};
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadIndices(context, kPlaces, ids.shape, true, &indices[1]));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ReadIndices(context, kSegmentIds, ids.shape, false, &indices[2]));
    if (tables[2].present != indices[2].present) {
      return Status::InvalidArgument(
          "EmbedLayerNormalization: segment_ids and segment_embedding need each other");
    }

    const std::array<int64_t, 3> shape = {ids.shape[0], ids.shape[1], hidden};
    Tensor y;
    Tensor sum;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    if (context.OutputCount() > 2) BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(2, shape, &sum));
    BATCH_INVARIANT_RETURN_IF_ERROR(CountMask(context, ids.shape));
    float* rows = sum.present ? sum.Data<float>() : y.Data<float>();
    BATCH_INVARIANT_RETURN_IF_ERROR(AddEmbeddings(tables, indices, ids.shape, rows));

    Tensor gamma;
    Tensor beta;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kGamma, &gamma));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kBeta, &beta));
    if (gamma.Elements() != hidden || beta.Elements() != hidden) {
      return Status::InvalidArgument("EmbedLayerNormalization: gamma is " + ShapeText(gamma.shape) +
                                     " and beta " + ShapeText(beta.shape) + ", needed are " +
                                     std::to_string(hidden) + " elements");
    }
    cpu::NormArgs args;
    args.rows = ids.Elements();
    args.width = hidden;
    args.epsilon = epsilon_;
    args.x = rows;
    Point(args.gamma, gamma);
    Point(args.beta, beta);
    Point(args.y, y);
    return cpu::LayerNormF32(context.Cpu(), args);
  }

 private:
  // [batch, tokens]; positions also [1, tokens], for every row.
  static Status ReadIndices(OpContext& context, size_t input, std::span<const int64_t> shape,
                            bool may_broadcast, Tensor* indices) {
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(input, indices));
    if (!indices->present) return Status::Ok();
    const bool fits = indices->shape.size() == 2 && indices->shape[1] == shape[1] &&
                      (indices->shape[0] == shape[0] || (may_broadcast && indices->shape[0] == 1));
    if (fits) return Status::Ok();
    return Status::InvalidArgument("EmbedLayerNormalization: input " + std::to_string(input) +
                                   " is " + ShapeText(indices->shape) + ", needed are " +
                                   ShapeText(shape));
  }

  static Status AddEmbeddings(const std::array<Tensor, kTables>& tables,
                              const std::array<Tensor, kTables>& indices,
                              std::span<const int64_t> shape, float* rows) {
    const int64_t hidden = tables[0].shape[1];
    for (int64_t r = 0; r < shape[0] * shape[1]; ++r, rows += hidden) {
      for (size_t i = 0; i < kTables; ++i) {
        if (!tables[i].present) continue;
        int64_t entry = r % shape[1];
        if (indices[i].present) {
          entry = indices[i].Data<int32_t>()[indices[i].shape[0] == 1 ? r % shape[1] : r];
        }
        if (entry < 0 || entry >= tables[i].shape[0]) {
          return Status::InvalidArgument("EmbedLayerNormalization: the index " +
                                         std::to_string(entry) + " is outside an embedding of " +
                                         std::to_string(tables[i].shape[0]) + " entries");
        }
        const float* row = tables[i].Data<float>() + entry * hidden;
        if (i == 0) {
          std::copy(row, row + hidden, rows);
        } else {
          for (int64_t j = 0; j < hidden; ++j) rows[j] += row[j];
        }
      }
    }
    return Status::Ok();
  }

  static Status CountMask(OpContext& context, std::span<const int64_t> shape) {
    if (context.OutputCount() < 2) return Status::Ok();
    Tensor mask;
    Tensor counts;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadIndices(context, kMask, shape, false, &mask));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(1, {shape[0]}, &counts));
    if (!counts.present) return Status::Ok();
    for (int64_t b = 0; b < shape[0]; ++b) {
      const int32_t* row = mask.Data<int32_t>() + b * shape[1];
      counts.Data<int32_t>()[b] =
          mask.present ? static_cast<int32_t>(std::count(row, row + shape[1], 1)) : 0;
    }
    return Status::Ok();
  }

  const float epsilon_;
  std::array<Table, kTables> tables_;
};

Status Accept(const NodeInfo& node) {
  if (node.Int("mask_index_type", 0) == 0) return Status::Ok();
  return Status::Unsupported("the attribute mask_index_type is not served, only 0");
}

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<EmbedLayerNormKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendEmbedLayerNorm(std::vector<OpDefinition>& ops) {
  const Argument ids = {"T1"};
  const Argument optional_ids = {"T1", true};
  ops.push_back(
      {.domain = "com.microsoft",
       .name = "EmbedLayerNormalization",
       .since_first = 1,
       .since_last = 1,
       .constraints = {{"T", kCpuFloats}, {"T1", {kInt32}}},
       .inputs =
           {ids, optional_ids, {"T"}, {"T"}, {"T", true}, {"T"}, {"T"}, optional_ids, optional_ids},
       .outputs = {{"T"}, optional_ids, {"T", true}},
       .accept = &Accept,
       .contract = [](const NodeInfo&) { return contract::kNormF32; },
       .create = &Create});
}

}  // namespace batch_invariant::ort
