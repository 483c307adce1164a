// ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceL2 and ReduceSumSquare over the last axes.
// Axes are an attribute in older op sets and an input in later ones.
#include "batch_invariant/cpu/reduce.h"

#include <algorithm>

#include "batch_invariant/contract.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

struct Axes {
  bool known = true;
  std::vector<int64_t> list;  // empty: see `all`
  bool all = false;           // nothing given and noop_with_empty_axes is 0
};

Axes ReadAxes(const NodeInfo& node) {
  Axes axes;
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

// True when the axes are the last ones of a tensor of this rank.
bool AreLast(const Axes& axes, int64_t rank, int64_t* first) {
  if (axes.all) {
    *first = 0;
    return true;
  }
  std::vector<int64_t> sorted;
  for (const int64_t axis : axes.list) sorted.push_back(axis < 0 ? axis + rank : axis);
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  *first = rank - static_cast<int64_t>(sorted.size());
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != *first + static_cast<int64_t>(i)) return false;
  }
  return true;
}

Status Accept(const NodeInfo& node) {
  const Axes axes = ReadAxes(node);
  if (!axes.known) return Status::Unsupported("axes that are computed are not served");
  const int64_t rank = node.InputRank(0);
  int64_t first = 0;
  if (rank < 0 || !AreLast(axes, rank, &first)) {
    return Status::Unsupported("only a reduction over the last axes is served");
  }
  return Status::Ok();
}

class ReduceKernel final : public OpKernel {
 public:
  ReduceKernel(const NodeInfo& node, cpu::ReduceOp op)
      : name_(node.OpType()),
        op_(op),
        axes_(ReadAxes(node)),
        keep_dims_(node.Int("keepdims", 1) != 0) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    int64_t first = 0;
    if (!AreLast(axes_, static_cast<int64_t>(x.shape.size()), &first)) {
      return Status::InvalidArgument(name_ + ": the axes are not the last ones of the input " +
                                     ShapeText(x.shape));
    }
    cpu::ReduceArgs args;
    args.op = op_;
    args.rows = 1;
    args.length = 1;
    std::vector<int64_t> y_shape;
    for (size_t i = 0; i < x.shape.size(); ++i) {
      const bool reduced = static_cast<int64_t>(i) >= first;
      (reduced ? args.length : args.rows) *= x.shape[i];
      if (!reduced) {
        y_shape.push_back(x.shape[i]);
      } else if (keep_dims_) {
        y_shape.push_back(1);
      }
    }
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    args.x = x.Data<float>();
    args.y = y.Data<float>();
    return cpu::ReduceF32(context.Cpu(), args);
  }

 private:
  std::string name_;
  cpu::ReduceOp op_;
  Axes axes_;
  bool keep_dims_;
};

template <cpu::ReduceOp kOp>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<ReduceKernel>(node, kOp);
  return Status::Ok();
}

void AppendOne(std::vector<OpDefinition>& ops, const char* name, int last_with_attribute, int last,
               decltype(OpDefinition::create) create) {
  OpDefinition op{.domain = "",
                  .name = name,
                  .since_first = 1,
                  .since_last = last_with_attribute,
                  .constraints = {{"T", {kFloat}}},
                  .inputs = {{"T"}},
                  .outputs = {{"T"}},
                  .accept = &Accept,
                  .contract = [](const NodeInfo&) { return contract::kReduceF32; },
                  .create = create};
  ops.push_back(op);
  op.since_first = last_with_attribute + 1;
  op.since_last = last;
  op.inputs.push_back({"", true, kInt64});
  ops.push_back(op);
}

}  // namespace

void AppendReduce(std::vector<OpDefinition>& ops) {
  using cpu::ReduceOp;
  AppendOne(ops, "ReduceSum", 12, 13, &Create<ReduceOp::kSum>);
  AppendOne(ops, "ReduceMean", 17, 18, &Create<ReduceOp::kMean>);
  AppendOne(ops, "ReduceMax", 17, 20, &Create<ReduceOp::kMax>);
  AppendOne(ops, "ReduceMin", 17, 20, &Create<ReduceOp::kMin>);
  AppendOne(ops, "ReduceL2", 17, 18, &Create<ReduceOp::kL2>);
  AppendOne(ops, "ReduceSumSquare", 17, 18, &Create<ReduceOp::kSumSquare>);
}

}  // namespace batch_invariant::ort
