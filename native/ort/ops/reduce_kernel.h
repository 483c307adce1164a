// ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceL2 and ReduceSumSquare, for any device. Axes
// are an attribute in older op sets and an input in later ones; they must be neighbours.
#ifndef BATCH_INVARIANT_ORT_OPS_REDUCE_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_REDUCE_KERNEL_H_

#include <algorithm>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

struct ReduceAxes {
  bool known = true;
  std::vector<int64_t> list;  // empty: see `all`
  bool all = false;           // nothing given and noop_with_empty_axes is 0

  // True for -1, for -2 and -1, and so on: the last axes whatever the rank.
  bool AreLast() const {
    std::vector<int64_t> sorted = list;
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    return !sorted.empty() && sorted.back() == -1 &&
           sorted.front() == -static_cast<int64_t>(sorted.size());
  }
};

inline ReduceAxes ReadReduceAxes(const NodeInfo& node) {
  ReduceAxes axes;
  axes.list = node.Ints("axes");
  if (axes.list.empty() && node.HasInput(1)) {
    const Tensor constant = node.ConstantInput(1);
    axes.known = constant.present;
    if (constant.present) {
      const auto* data = constant.Data<int64_t>();
      axes.list.assign(data, data + constant.Elements());
    }
  }
  axes.all = axes.list.empty() && node.Int("noop_with_empty_axes", 0) == 0;
  return axes;
}

// True when the axes are [first, last) of a tensor of this rank.
inline bool AreNeighbours(const ReduceAxes& axes, int64_t rank, int64_t* first, int64_t* last) {
  *first = axes.all ? 0 : rank;
  *last = rank;
  if (axes.all || axes.list.empty()) return true;
  std::vector<int64_t> sorted;
  for (const int64_t axis : axes.list) sorted.push_back(axis < 0 ? axis + rank : axis);
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  *first = sorted.front();
  *last = sorted.back() + 1;
  return *first >= 0 && *last <= rank && *last - *first == static_cast<int64_t>(sorted.size());
}

inline Status AcceptReduce(const NodeInfo& node) {
  const ReduceAxes axes = ReadReduceAxes(node);
  if (!axes.known) return Status::Unsupported("axes that are computed are not served");
  const int64_t rank = node.InputRank(0);
  int64_t first = 0;
  int64_t last = 0;
  if (axes.all || axes.AreLast()) return Status::Ok();
  if (rank < 0) return Status::Unsupported("an input of unknown rank is not served");
  if (AreNeighbours(axes, rank, &first, &last)) return Status::Ok();
  return Status::Unsupported("only a reduction over neighbouring axes is served");
}

template <typename Device>
class ReduceKernel final : public OpKernel {
 public:
  using Op = typename Device::Op;

  ReduceKernel(const NodeInfo& node, Op op)
      : name_(node.OpType()),
        op_(op),
        axes_(ReadReduceAxes(node)),
        keep_dims_(node.Int("keepdims", 1) != 0) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    int64_t first = 0;
    int64_t last = 0;
    const auto rank = static_cast<int64_t>(x.shape.size());
    if (!AreNeighbours(axes_, rank, &first, &last)) {
      return Status::InvalidArgument(name_ + ": the axes are no neighbours in the input " +
                                     ShapeText(x.shape));
    }
    int64_t outer = 1;
    int64_t length = 1;
    int64_t inner = 1;
    std::vector<int64_t> y_shape;
    for (int64_t i = 0; i < rank; ++i) {
      const int64_t dimension = x.shape[static_cast<size_t>(i)];
      const bool reduced = i >= first && i < last;
      (reduced ? length : i < first ? outer : inner) *= dimension;
      if (!reduced) {
        y_shape.push_back(dimension);
      } else if (keep_dims_) {
        y_shape.push_back(1);
      }
    }
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    return Device::Run(context, op_, outer, length, inner, x, y);
  }

 private:
  std::string name_;
  Op op_;
  ReduceAxes axes_;
  bool keep_dims_;
};

template <typename Device, auto kOp>
Status CreateReduce(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<ReduceKernel<Device>>(node, kOp);
  return Status::Ok();
}

template <typename Device>
void AppendReduceOp(std::vector<OpDefinition>& ops, const char* name, int last_with_attribute,
                    int last, decltype(OpDefinition::create) create) {
  OpDefinition op{.domain = "",
                  .name = name,
                  .since_first = 1,
                  .since_last = last_with_attribute,
                  .constraints = {{"T", Device::Types()}},
                  .inputs = {{"T"}},
                  .outputs = {{"T"}},
                  .accept = &AcceptReduce,
                  .contract = &Device::Contract,
                  .create = create};
  ops.push_back(op);
  op.since_first = last_with_attribute + 1;
  op.since_last = last;
  op.inputs.push_back({"", true, kInt64});
  op.host_inputs = {1};
  ops.push_back(op);
}

template <typename Device>
void AppendReduceOps(std::vector<OpDefinition>& ops) {
  using Op = typename Device::Op;
  AppendReduceOp<Device>(ops, "ReduceSum", 12, 13, &CreateReduce<Device, Op::kSum>);
  AppendReduceOp<Device>(ops, "ReduceMean", 17, 18, &CreateReduce<Device, Op::kMean>);
  AppendReduceOp<Device>(ops, "ReduceMax", 17, 20, &CreateReduce<Device, Op::kMax>);
  AppendReduceOp<Device>(ops, "ReduceMin", 17, 20, &CreateReduce<Device, Op::kMin>);
  AppendReduceOp<Device>(ops, "ReduceL2", 17, 18, &CreateReduce<Device, Op::kL2>);
  AppendReduceOp<Device>(ops, "ReduceSumSquare", 17, 18, &CreateReduce<Device, Op::kSumSquare>);
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_REDUCE_KERNEL_H_
