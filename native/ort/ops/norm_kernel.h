// The norms over the last axes, for any device: SimplifiedLayerNormalization and RMSNormalization
// (root mean square), LayerNormalization (mean and variance), and the Skip forms that add a
// residual first.
//
// A device names its Args (the NormArgs of its kernels), its Types, its Contract, and how to Run.
#ifndef BATCH_INVARIANT_ORT_OPS_NORM_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_NORM_KERNEL_H_

#include <array>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

enum class Statistic { kRootMeanSquare, kMeanAndVariance };

inline Status CheckNormVector(const char* op, const char* what, const Tensor& tensor,
                              int64_t width) {
  if (!tensor.present || tensor.Elements() == width) return Status::Ok();
  return Status::InvalidArgument(std::string(op) + ": " + what + " is " + ShapeText(tensor.shape) +
                                 ", needed are " + std::to_string(width) + " elements");
}

// For devices whose kernels may read a constant early.
template <typename Args>
void MarkGamma(Args& args, bool is_constant) {
  if constexpr (requires { args.gamma_is_ready; }) args.gamma_is_ready = is_constant;
}

// Y = norm(X) * scale (+ bias); outputs mean and inv_std_var where the op has them.
template <typename Device>
class NormKernel final : public OpKernel {
 public:
  NormKernel(const NodeInfo& node, Statistic statistic)
      : op_(node.OpType()),
        statistic_(statistic),
        axis_(node.Int("axis", -1)),
        epsilon_(node.Float("epsilon", 1e-5f)),
        gamma_is_constant_(node.ConstantInput(1).present) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor scale;
    Tensor bias;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &scale));
    const int64_t rank = static_cast<int64_t>(x.shape.size());
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    if (axis < 0 || axis >= rank) {
      return Status::InvalidArgument(op_ + ": axis " + std::to_string(axis_) +
                                     " is outside the input " + ShapeText(x.shape));
    }
    typename Device::Args args;
    args.rows = 1;
    args.width = 1;
    std::vector<int64_t> statistics_shape(x.shape.begin(), x.shape.end());
    for (int64_t i = 0; i < rank; ++i) {
      const auto at = static_cast<size_t>(i);
      (i < axis ? args.rows : args.width) *= x.shape[at];
      if (i >= axis) statistics_shape[at] = 1;
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckNormVector(op_.c_str(), "the scale", scale, args.width));
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    args.epsilon = epsilon_;
    Point(args.x, x);
    Point(args.gamma, scale);
    MarkGamma(args, gamma_is_constant_);
    Point(args.y, y);
    if (statistic_ == Statistic::kMeanAndVariance) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &bias));
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckNormVector(op_.c_str(), "the bias", bias, args.width));
      Point(args.beta, bias);
      Tensor mean;
      BATCH_INVARIANT_RETURN_IF_ERROR(Statistics(context, 1, statistics_shape, &mean));
      Point(args.mean, mean);
    }
    Tensor inv_std;
    const size_t inv_std_output = statistic_ == Statistic::kMeanAndVariance ? 2 : 1;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Statistics(context, inv_std_output, statistics_shape, &inv_std));
    Point(args.inv_std, inv_std);
    return Device::Run(context, x.type, op_, statistic_, args);
  }

 private:
  static Status Statistics(OpContext& context, size_t index, std::span<const int64_t> shape,
                           Tensor* tensor) {
    if (index >= context.OutputCount()) return Status::Ok();
    return context.Output(index, shape, tensor);
  }

  std::string op_;
  Statistic statistic_;
  int64_t axis_;
  float epsilon_;
  bool gamma_is_constant_;
};

// output = norm(input + skip + bias) * gamma (+ beta), with up to four outputs:
// output, mean, inv_std_var, input_skip_bias_sum.
template <typename Device>
class SkipNormKernel final : public OpKernel {
 public:
  SkipNormKernel(const NodeInfo& node, Statistic statistic)
      : op_(node.OpType()),
        statistic_(statistic),
        epsilon_(node.Float("epsilon", 1e-12f)),
        gamma_is_constant_(node.ConstantInput(2).present) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor skip;
    Tensor gamma;
    Tensor beta;
    Tensor bias;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &skip));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &gamma));
    if (statistic_ == Statistic::kMeanAndVariance) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(3, &beta));
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(4, &bias));
    } else {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(3, &bias));
    }
    if (x.shape.size() != 2 && x.shape.size() != 3) {
      return Status::InvalidArgument(op_ + ": input is " + ShapeText(x.shape) +
                                     ", needed are 2 or 3 dimensions");
    }
    typename Device::Args args;
    args.width = x.shape.back();
    args.rows = args.width == 0 ? 0 : x.Elements() / args.width;
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckSkip(x, skip));
    args.skip_rows = args.width == 0 ? 0 : skip.Elements() / args.width;
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckNormVector(op_.c_str(), "gamma", gamma, args.width));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckNormVector(op_.c_str(), "beta", beta, args.width));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckNormVector(op_.c_str(), "bias", bias, args.width));
    std::vector<int64_t> statistics_shape(x.shape.begin(), x.shape.end());
    statistics_shape.back() = 1;

    Tensor y;
    std::array<Tensor, 4> optional;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    for (size_t i = 1; i < context.OutputCount() && i < optional.size(); ++i) {
      const std::span<const int64_t> shape =
          i == 3 ? x.shape : std::span<const int64_t>(statistics_shape);
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(i, shape, &optional[i]));
    }
    args.epsilon = epsilon_;
    Point(args.x, x);
    Point(args.skip, skip);
    Point(args.bias, bias);
    Point(args.gamma, gamma);
    MarkGamma(args, gamma_is_constant_);
    Point(args.beta, beta);
    Point(args.y, y);
    Point(args.mean, optional[1]);
    Point(args.inv_std, optional[2]);
    Point(args.sum, optional[3]);
    return Device::Run(context, x.type, op_, statistic_, args);
  }

 private:
  // skip is (B,S,H), or (1,S,H) or (S,H), which is added to every batch row.
  Status CheckSkip(const Tensor& x, const Tensor& skip) const {
    const size_t rank = x.shape.size();
    bool fits = skip.shape.size() == rank || (rank == 3 && skip.shape.size() == 2);
    for (size_t from_end = 1; fits && from_end <= skip.shape.size(); ++from_end) {
      const int64_t own = skip.shape[skip.shape.size() - from_end];
      fits = own == x.shape[rank - from_end] || (from_end == 3 && own == 1);
    }
    if (fits) return Status::Ok();
    return Status::InvalidArgument(op_ + ": skip is " + ShapeText(skip.shape) +
                                   ", which does not fit the input " + ShapeText(x.shape));
  }

  std::string op_;
  Statistic statistic_;
  float epsilon_;
  bool gamma_is_constant_;
};

template <typename Kernel, Statistic kStatistic>
Status CreateNorm(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<Kernel>(node, kStatistic);
  return Status::Ok();
}

inline Status AcceptFloatStash(const NodeInfo& node) {
  const int64_t stash_type = node.Int("stash_type", 1);
  if (stash_type == 1) return Status::Ok();
  return Status::Unsupported("stash_type " + std::to_string(stash_type) +
                             " is not served, only 1 (float32)");
}

template <typename Device>
void AppendNormOps(std::vector<OpDefinition>& ops) {
  constexpr auto kCreateRms = &CreateNorm<NormKernel<Device>, Statistic::kRootMeanSquare>;
  constexpr auto kCreateLayer = &CreateNorm<NormKernel<Device>, Statistic::kMeanAndVariance>;
  constexpr auto kCreateSkipRms = &CreateNorm<SkipNormKernel<Device>, Statistic::kRootMeanSquare>;
  constexpr auto kCreateSkipLayer =
      &CreateNorm<SkipNormKernel<Device>, Statistic::kMeanAndVariance>;
  const std::vector<ElementType> types = Device::Types();
  ops.push_back({.domain = "",
                 .name = "SimplifiedLayerNormalization",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", types}, {"U", {kFloat}}, {"V", types}},
                 .inputs = {{"T"}, {"V"}},
                 .outputs = {{"V"}, {"U", true}},
                 .accept = &AcceptFloatStash,
                 .contract = &Device::Contract,
                 .create = kCreateRms});
  ops.push_back({.domain = "",
                 .name = "RMSNormalization",
                 .since_first = 23,
                 .since_last = 23,
                 .constraints = {{"T", types}, {"V", types}},
                 .inputs = {{"T"}, {"V"}},
                 .outputs = {{"V"}},
                 .accept = &AcceptFloatStash,
                 .contract = &Device::Contract,
                 .create = kCreateRms});
  ops.push_back({.domain = "",
                 .name = "LayerNormalization",
                 .since_first = 1,
                 .since_last = 16,
                 .constraints = {{"T", types}, {"U", {kFloat}}, {"V", types}},
                 .inputs = {{"T"}, {"V"}, {"V", true}},
                 .outputs = {{"V"}, {"U", true}, {"U", true}},
                 .accept = &AcceptFloatStash,
                 .contract = &Device::Contract,
                 .create = kCreateLayer});
  ops.push_back({.domain = "",
                 .name = "LayerNormalization",
                 .since_first = 17,
                 .since_last = 17,
                 .constraints = {{"T", types}, {"U", {kFloat}}},
                 .inputs = {{"T"}, {"T"}, {"T", true}},
                 .outputs = {{"T"}, {"U", true}, {"U", true}},
                 .accept = &AcceptFloatStash,
                 .contract = &Device::Contract,
                 .create = kCreateLayer});
  ops.push_back({.domain = "com.microsoft",
                 .name = "SkipSimplifiedLayerNormalization",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", types}, {"U", {kFloat}}},
                 .inputs = {{"T"}, {"T"}, {"T"}, {"T", true}},
                 .outputs = {{"T"}, {"U", true}, {"U", true}, {"T", true}},
                 .accept = &AcceptAll,
                 .contract = &Device::Contract,
                 .create = kCreateSkipRms});
  ops.push_back({.domain = "com.microsoft",
                 .name = "SkipLayerNormalization",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", types}, {"U", {kFloat}}},
                 .inputs = {{"T"}, {"T"}, {"T"}, {"T", true}, {"T", true}},
                 .outputs = {{"T"}, {"U", true}, {"U", true}, {"T", true}},
                 .accept = &AcceptAll,
                 .contract = &Device::Contract,
                 .create = kCreateSkipLayer});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_NORM_KERNEL_H_
