// Ops on CUDA that move or rename elements: Transpose, Expand, Slice, Concat, Split, Range, the
// Reshape family, Shape and Size. Shapes and positions are read on the host.
#include "batch_invariant/cuda/layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "ort/ops/broadcast.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"

namespace batch_invariant::ort {
namespace {

const std::byte* Advance(const void* data, int64_t elements, ElementType type) {
  return static_cast<const std::byte*>(data) + elements * static_cast<int64_t>(ElementBytes(type));
}

Status CopyStrided(OpContext& context, ElementType type, std::span<const int64_t> shape,
                   const void* from, std::span<const int64_t> from_strides, void* to,
                   std::span<const int64_t> to_strides) {
  cuda::CopyArgs args;
  args.type = CudaDataType(type);
  args.shape = shape;
  args.from = from;
  args.from_strides = from_strides;
  args.to = to;
  args.to_strides = to_strides;
  return cuda::CopyStrided(args, CudaStream(context));
}

// A tensor of whole numbers in host memory.
std::vector<int64_t> HostNumbers(const Tensor& tensor) {
  std::vector<int64_t> numbers(static_cast<size_t>(tensor.Elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = tensor.type == kInt32 ? tensor.Data<int32_t>()[i] : tensor.Data<int64_t>()[i];
  }
  return numbers;
}

// Counts from the end where negative; kInvalidArgument outside [0, rank).
Status NormalizeAxis(const char* op, int64_t given, size_t rank, size_t* axis) {
  const int64_t normalized = given < 0 ? given + static_cast<int64_t>(rank) : given;
  if (normalized < 0 || normalized >= static_cast<int64_t>(rank)) {
    return Status::InvalidArgument(std::string(op) + ": axis " + std::to_string(given) +
                                   " is outside a tensor of " + std::to_string(rank) +
                                   " dimensions");
  }
  *axis = static_cast<size_t>(normalized);
  return Status::Ok();
}

class TransposeKernel final : public OpKernel {
 public:
  explicit TransposeKernel(const NodeInfo& node) : permutation_(node.Ints("perm")) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    const size_t rank = x.shape.size();
    std::vector<int64_t> permutation = permutation_;
    if (permutation.empty()) {
      permutation.resize(rank);
      std::iota(permutation.rbegin(), permutation.rend(), 0);
    }
    if (permutation.size() != rank) {
      return Status::InvalidArgument("Transpose: perm has " + std::to_string(permutation.size()) +
                                     " entries, the input is " + ShapeText(x.shape));
    }
    const std::vector<int64_t> x_strides = ContiguousStrides(x.shape);
    std::vector<int64_t> shape(rank);
    std::vector<int64_t> strides(rank);
    for (size_t i = 0; i < rank; ++i) {
      size_t axis = 0;
      BATCH_INVARIANT_RETURN_IF_ERROR(NormalizeAxis("Transpose", permutation[i], rank, &axis));
      shape[i] = x.shape[axis];
      strides[i] = x_strides[axis];
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    return CopyStrided(context, x.type, shape, x.data, strides, y.data, ContiguousStrides(shape));
  }

 private:
  std::vector<int64_t> permutation_;
};

class ExpandKernel final : public OpKernel {
 public:
  explicit ExpandKernel(const NodeInfo&) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor shape_input;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &shape_input));
    const std::vector<int64_t> asked = HostNumbers(shape_input);
    const Tensor target{nullptr, x.type, asked, true};
    std::vector<int64_t> shape;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        BroadcastShape("Expand", std::array<const Tensor*, 2>{&x, &target}, &shape));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    return CopyStrided(context, x.type, shape, x.data, BroadcastStrides(x.shape, shape), y.data,
                       ContiguousStrides(shape));
  }
};

class SliceKernel final : public OpKernel {
 public:
  explicit SliceKernel(const NodeInfo&) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    std::array<std::vector<int64_t>, 4> given;  // starts, ends, axes, steps
    for (size_t i = 0; i < given.size(); ++i) {
      Tensor input;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i + 1, &input));
      if (input.present) given[i] = HostNumbers(input);
    }
    const auto& [starts, ends, axes, steps] = given;
    if (ends.size() != starts.size() || (!axes.empty() && axes.size() != starts.size()) ||
        (!steps.empty() && steps.size() != starts.size())) {
      return Status::InvalidArgument("Slice: starts, ends, axes and steps differ in length");
    }
    std::vector<int64_t> shape(x.shape.begin(), x.shape.end());
    std::vector<int64_t> strides = ContiguousStrides(x.shape);
    int64_t offset = 0;
    for (size_t i = 0; i < starts.size(); ++i) {
      size_t axis = i;
      const int64_t asked = axes.empty() ? static_cast<int64_t>(i) : axes[i];
      BATCH_INVARIANT_RETURN_IF_ERROR(NormalizeAxis("Slice", asked, shape.size(), &axis));
      const int64_t step = steps.empty() ? 1 : steps[i];
      if (step == 0) return Status::InvalidArgument("Slice: a step is 0");
      const int64_t length = x.shape[axis];
      const int64_t start = starts[i] < 0 ? starts[i] + length : starts[i];
      const int64_t end = ends[i] < 0 ? ends[i] + length : ends[i];
      const int64_t low = step > 0 ? 0 : -1;
      const int64_t high = step > 0 ? length : length - 1;
      const int64_t first = std::clamp(start, std::max<int64_t>(low, 0), high);
      const int64_t last = std::clamp(end, low, high);
      const int64_t count =
          step > 0 ? (last - first + step - 1) / step : (first - last - step - 1) / -step;
      shape[axis] = std::max<int64_t>(count, 0);
      offset += first * strides[axis];
      strides[axis] *= step;
    }
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    return CopyStrided(context, x.type, shape, Advance(x.data, offset, x.type), strides, y.data,
                       ContiguousStrides(shape));
  }
};

class ConcatKernel final : public OpKernel {
 public:
  explicit ConcatKernel(const NodeInfo& node) : axis_(node.Int("axis", 1)) {}

  Status Compute(OpContext& context) override {
    std::vector<Tensor> parts(context.InputCount());
    for (size_t i = 0; i < parts.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &parts[i]));
    }
    size_t axis = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(NormalizeAxis("Concat", axis_, parts[0].shape.size(), &axis));
    std::vector<int64_t> shape(parts[0].shape.begin(), parts[0].shape.end());
    shape[axis] = 0;
    for (const Tensor& part : parts) {
      bool fits = part.shape.size() == shape.size();
      for (size_t i = 0; fits && i < shape.size(); ++i) {
        fits = i == axis || part.shape[i] == shape[i];
      }
      if (!fits) {
        return Status::InvalidArgument("Concat: an operand is " + ShapeText(part.shape) +
                                       ", which does not fit " + ShapeText(parts[0].shape));
      }
      shape[axis] += part.shape[axis];
    }
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
    const std::vector<int64_t> strides = ContiguousStrides(shape);
    int64_t at = 0;
    for (const Tensor& part : parts) {
      if (part.Elements() > 0) {
        void* to = const_cast<std::byte*>(Advance(y.data, at * strides[axis], y.type));
        BATCH_INVARIANT_RETURN_IF_ERROR(CopyStrided(context, part.type, part.shape, part.data,
                                                    ContiguousStrides(part.shape), to, strides));
      }
      at += part.shape[axis];
    }
    return Status::Ok();
  }

 private:
  int64_t axis_;
};

class SplitKernel final : public OpKernel {
 public:
  explicit SplitKernel(const NodeInfo& node)
      : axis_(node.Int("axis", 0)), lengths_(node.Ints("split")) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor given;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &given));
    size_t axis = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(NormalizeAxis("Split", axis_, x.shape.size(), &axis));
    const size_t count = context.OutputCount();
    const int64_t length = x.shape[axis];
    std::vector<int64_t> lengths = given.present ? HostNumbers(given) : lengths_;
    if (lengths.empty()) {
      // Even parts, the last one shorter.
      const int64_t part = (length + static_cast<int64_t>(count) - 1) / static_cast<int64_t>(count);
      for (size_t i = 0; i < count; ++i) {
        lengths.push_back(std::clamp<int64_t>(length - static_cast<int64_t>(i) * part, 0, part));
      }
    }
    if (lengths.size() != count ||
        std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) != length) {
      return Status::InvalidArgument("Split: the lengths " + ShapeText(lengths) +
                                     " do not add up to the axis of " + ShapeText(x.shape));
    }
    const std::vector<int64_t> strides = ContiguousStrides(x.shape);
    int64_t at = 0;
    for (size_t i = 0; i < count; ++i) {
      std::vector<int64_t> shape(x.shape.begin(), x.shape.end());
      shape[axis] = lengths[i];
      Tensor y;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(i, shape, &y));
      if (y.present && y.Elements() > 0) {
        BATCH_INVARIANT_RETURN_IF_ERROR(CopyStrided(context, x.type, shape,
                                                    Advance(x.data, at * strides[axis], x.type),
                                                    strides, y.data, ContiguousStrides(shape)));
      }
      at += lengths[i];
    }
    return Status::Ok();
  }

 private:
  int64_t axis_;
  std::vector<int64_t> lengths_;
};

class RangeKernel final : public OpKernel {
 public:
  explicit RangeKernel(const NodeInfo&) {}

  Status Compute(OpContext& context) override {
    Tensor start;
    Tensor limit;
    Tensor delta;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &start));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &limit));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &delta));
    cuda::RangeArgs args;
    args.type = CudaDataType(start.type);
    if (start.type == kFloat) {
      args.start = *start.Data<float>();
      args.delta = *delta.Data<float>();
      if (args.delta == 0.0) return Status::InvalidArgument("Range: delta is 0");
      args.count = static_cast<int64_t>(
          std::max(0.0, std::ceil((*limit.Data<float>() - args.start) / args.delta)));
    } else {
      args.integer_start = HostNumbers(start)[0];
      args.integer_delta = HostNumbers(delta)[0];
      if (args.integer_delta == 0) return Status::InvalidArgument("Range: delta is 0");
      const int64_t distance = HostNumbers(limit)[0] - args.integer_start;
      const int64_t count =
          distance / args.integer_delta + (distance % args.integer_delta != 0 ? 1 : 0);
      args.count = (distance > 0) == (args.integer_delta > 0) && distance != 0 ? count : 0;
    }
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, {args.count}, &y));
    if (args.count == 0) return Status::Ok();
    args.y = y.data;
    return cuda::Range(args, CudaStream(context));
  }
};

// Output and input are one buffer where ONNX Runtime could arrange it.
Status Rename(OpContext& context, const Tensor& x, std::span<const int64_t> shape) {
  Tensor y;
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, shape, &y));
  if (y.data == x.data || y.Elements() == 0) return Status::Ok();
  const std::array<int64_t, 1> flat{y.Elements()};
  const std::array<int64_t, 1> stride{1};
  return CopyStrided(context, x.type, flat, x.data, stride, y.data, stride);
}

class ReshapeKernel final : public OpKernel {
 public:
  explicit ReshapeKernel(const NodeInfo& node) : allow_zero_(node.Int("allowzero", 0) != 0) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor shape_input;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &shape_input));
    std::vector<int64_t> shape = HostNumbers(shape_input);
    const std::vector<int64_t> asked = shape;
    int64_t known = 1;
    int64_t* inferred = nullptr;
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 0 && !allow_zero_ && i < x.shape.size()) shape[i] = x.shape[i];
      if (shape[i] == -1 && inferred == nullptr) {
        inferred = &shape[i];
      } else {
        known *= shape[i];
      }
    }
    if (inferred != nullptr) *inferred = known == 0 ? 0 : x.Elements() / known;
    const Tensor target{nullptr, x.type, shape, true};
    if (target.Elements() != x.Elements()) {
      return Status::InvalidArgument("Reshape: " + ShapeText(x.shape) + " cannot become " +
                                     ShapeText(asked));
    }
    return Rename(context, x, shape);
  }

 private:
  bool allow_zero_;
};

// Axes as an attribute up to version 12, as an input from 13 on.
class SqueezeKernel final : public OpKernel {
 public:
  explicit SqueezeKernel(const NodeInfo& node)
      : unsqueeze_(node.OpType() == "Unsqueeze"), axes_(node.Ints("axes")) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor input;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &input));
    const std::vector<int64_t> given = input.present ? HostNumbers(input) : axes_;
    const size_t rank = unsqueeze_ ? x.shape.size() + given.size() : x.shape.size();
    std::vector<bool> marked(rank, false);
    for (const int64_t each : given) {
      size_t axis = 0;
      BATCH_INVARIANT_RETURN_IF_ERROR(
          NormalizeAxis(unsqueeze_ ? "Unsqueeze" : "Squeeze", each, rank, &axis));
      marked[axis] = true;
    }
    std::vector<int64_t> shape;
    size_t next = 0;
    for (size_t i = 0; i < rank; ++i) {
      if (unsqueeze_) {
        shape.push_back(marked[i] ? 1 : x.shape[next++]);
      } else if (given.empty() ? x.shape[i] != 1 : !marked[i]) {
        shape.push_back(x.shape[i]);
      }
    }
    return Rename(context, x, shape);
  }

 private:
  bool unsqueeze_;
  std::vector<int64_t> axes_;
};

class FlattenKernel final : public OpKernel {
 public:
  explicit FlattenKernel(const NodeInfo& node) : axis_(node.Int("axis", 1)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    const auto rank = static_cast<int64_t>(x.shape.size());
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    std::array<int64_t, 2> shape{1, 1};
    for (int64_t i = 0; i < rank; ++i) {
      shape[i < axis ? 0 : 1] *= x.shape[static_cast<size_t>(i)];
    }
    return Rename(context, x, shape);
  }

 private:
  int64_t axis_;
};

class IdentityKernel final : public OpKernel {
 public:
  explicit IdentityKernel(const NodeInfo&) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    return Rename(context, x, x.shape);
  }
};

class ShapeKernel final : public OpKernel {
 public:
  explicit ShapeKernel(const NodeInfo& node)
      : size_(node.OpType() == "Size"), start_(node.Int("start", 0)), end_(node.Int("end", kEnd)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    if (size_) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, std::span<const int64_t>(), &y));
      *y.Data<int64_t>() = x.Elements();
      return Status::Ok();
    }
    const auto rank = static_cast<int64_t>(x.shape.size());
    const int64_t start = std::clamp<int64_t>(start_ < 0 ? start_ + rank : start_, 0, rank);
    const int64_t end = std::clamp<int64_t>(end_ < 0 ? end_ + rank : end_, start, rank);
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, {end - start}, &y));
    std::copy(x.shape.begin() + start, x.shape.begin() + end, y.Data<int64_t>());
    return Status::Ok();
  }

 private:
  static constexpr int64_t kEnd = INT64_MAX;

  bool size_;
  int64_t start_;
  int64_t end_;
};

template <typename Kernel>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<Kernel>(node);
  return Status::Ok();
}

OpDefinition& Add(std::vector<OpDefinition>& ops, const char* name, int first, int last,
                  decltype(OpDefinition::create) create) {
  return ops.emplace_back(OpDefinition{.domain = "",
                                       .name = name,
                                       .since_first = first,
                                       .since_last = last,
                                       .constraints = {{"T", AllCudaTypes()}},
                                       .inputs = {{"T"}},
                                       .outputs = {{"T"}},
                                       .accept = &AcceptAll,
                                       .contract = &CopyContract,
                                       .create = create});
}

}  // namespace

void AppendCudaLayout(std::vector<OpDefinition>& ops) {
  Add(ops, "Transpose", 1, 25, &Create<TransposeKernel>);
  Add(ops, "Expand", 8, 13, &Create<ExpandKernel>).host_inputs = {1};
  OpDefinition& slice = Add(ops, "Slice", 10, 13, &Create<SliceKernel>);
  slice.constraints.push_back({"Tind", {kInt32, kInt64}});
  slice.host_inputs = {1, 2, 3, 4};
  Add(ops, "Concat", 4, 13, &Create<ConcatKernel>);
  Add(ops, "Split", 2, 12, &Create<SplitKernel>);
  Add(ops, "Split", 13, 18, &Create<SplitKernel>).host_inputs = {1};
  OpDefinition& range = Add(ops, "Range", 11, 11, &Create<RangeKernel>);
  range.constraints = {{"T", {kFloat, kInt32, kInt64}}};
  range.host_inputs = {0, 1, 2};

  OpDefinition& reshape = Add(ops, "Reshape", 5, 25, &Create<ReshapeKernel>);
  reshape.host_inputs = {1};
  reshape.alias = {{0, 0}};
  for (const char* name : {"Squeeze", "Unsqueeze"}) {
    Add(ops, name, 1, 12, &Create<SqueezeKernel>).alias = {{0, 0}};
    OpDefinition& op = Add(ops, name, 13, 25, &Create<SqueezeKernel>);
    op.host_inputs = {1};
    op.alias = {{0, 0}};
  }
  Add(ops, "Flatten", 1, 25, &Create<FlattenKernel>).alias = {{0, 0}};
  Add(ops, "Identity", 1, 13, &Create<IdentityKernel>).alias = {{0, 0}};
  OpDefinition& identity = Add(ops, "Identity", 14, 25, &Create<IdentityKernel>);
  identity.constraints = {{"V", AllCudaTypes()}};
  identity.inputs = {{"V"}};
  identity.outputs = {{"V"}};
  identity.alias = {{0, 0}};
  for (const char* name : {"Shape", "Size"}) {
    OpDefinition& op = Add(ops, name, 1, 25, &Create<ShapeKernel>);
    op.constraints.push_back({"T1", {kInt64}});
    op.outputs = {{"T1"}};
    op.host_outputs = {0};
  }
}

}  // namespace batch_invariant::ort
