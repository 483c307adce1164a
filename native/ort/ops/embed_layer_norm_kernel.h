// EmbedLayerNormalization (com.microsoft), for any device: the first node of BERT and GPT-2 graphs.
//   sum = (word[input_ids] + position[p]) + segment[segment_ids]   each addition rounded
//   output = layer norm of sum over the hidden size
// with p = position_ids, or the token's place in its row. mask_index[b] counts the ones of row b's
// mask, and is 0 without a mask.
//
// A device names its Types and its Contract, says whether it Keeps a constant table, how to Run and
// how to CountOnes of a mask.
#ifndef BATCH_INVARIANT_ORT_OPS_EMBED_LAYER_NORM_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_EMBED_LAYER_NORM_KERNEL_H_

#include <algorithm>
#include <array>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

inline constexpr size_t kEmbeddings = 3;  // word, position, segment

// One call, its shapes checked against each other.
struct EmbedLayerNormOperands {
  std::array<Tensor, kEmbeddings> tables;  // [entries, hidden]; segment may be absent
  std::array<Tensor, kEmbeddings>
      indices;  // int32 [batch, tokens]; positions also [1, tokens], or absent
  int64_t batch, tokens, hidden;
  float epsilon;
  Tensor gamma, beta;  // [hidden]
  Tensor y, sum;       // [batch, tokens, hidden]; sum may be absent
};

// One table of embeddings, as fp32: the constant that was offered ahead, or the input of this call.
class EmbeddingTable {
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

template <typename Device>
class EmbedLayerNormKernel final : public OpKernel {
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

 public:
  explicit EmbedLayerNormKernel(const NodeInfo& node) : epsilon_(node.Float("epsilon", 1e-12f)) {}

  static Status Accept(const NodeInfo& node) {
    if (node.Int("mask_index_type", 0) == 0) return Status::Ok();
    return Status::Unsupported("the attribute mask_index_type is not served, only 0");
  }

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = input >= kWord && input < kWord + kEmbeddings && Device::Keeps(tensor);
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
    std::array<Tensor, kEmbeddings> tables;
    for (size_t i = 0; i < kEmbeddings; ++i) {
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
    std::array<Tensor, kEmbeddings> indices = {ids};
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
    Tensor mask;
    Tensor counts;
    if (context.OutputCount() > 1) {
      BATCH_INVARIANT_RETURN_IF_ERROR(ReadIndices(context, kMask, ids.shape, false, &mask));
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(1, {ids.shape[0]}, &counts));
    }
    if (counts.present) {
      BATCH_INVARIANT_RETURN_IF_ERROR(
          Device::CountOnes(context, mask, ids.shape[0], ids.shape[1], counts));
    }
    Tensor gamma;
    Tensor beta;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kGamma, &gamma));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kBeta, &beta));
    if (gamma.Elements() != hidden || beta.Elements() != hidden) {
      return Status::InvalidArgument("EmbedLayerNormalization: gamma is " + ShapeText(gamma.shape) +
                                     " and beta " + ShapeText(beta.shape) + ", needed are " +
                                     std::to_string(hidden) + " elements");
    }
    return Device::Run(context, {tables, indices, ids.shape[0], ids.shape[1], hidden, epsilon_,
                                 gamma, beta, y, sum});
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

  const float epsilon_;
  std::array<EmbeddingTable, kEmbeddings> tables_;
};

template <typename Device>
Status CreateEmbedLayerNorm(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<EmbedLayerNormKernel<Device>>(node);
  return Status::Ok();
}

template <typename Device>
void AppendEmbedLayerNormOps(std::vector<OpDefinition>& ops) {
  const Argument ids = {"T1"};
  const Argument optional_ids = {"T1", true};
  ops.push_back(
      {.domain = "com.microsoft",
       .name = "EmbedLayerNormalization",
       .since_first = 1,
       .since_last = 1,
       .constraints = {{"T", Device::Types()}, {"T1", {kInt32}}},
       .inputs =
           {ids, optional_ids, {"T"}, {"T"}, {"T", true}, {"T"}, {"T"}, optional_ids, optional_ids},
       .outputs = {{"T"}, optional_ids, {"T", true}},
       .accept = &EmbedLayerNormKernel<Device>::Accept,
       .contract = &Device::Contract,
       .create = &CreateEmbedLayerNorm<Device>});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_EMBED_LAYER_NORM_KERNEL_H_
