// Gather (ONNX) and GatherBlockQuantized (com.microsoft) on CUDA.
#include "batch_invariant/cuda/gather.h"

#include "batch_invariant/cuda/elementwise.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"

namespace batch_invariant::ort {
namespace {

class GatherKernel final : public OpKernel {
 public:
  explicit GatherKernel(const NodeInfo& node) : axis_(node.Int("axis", 0)) {}

  Status Compute(OpContext& context) override {
    Tensor data;
    Tensor indices;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &data));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &indices));
    const auto rank = static_cast<int64_t>(data.shape.size());
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    if (axis < 0 || axis >= rank) {
      return Status::InvalidArgument("Gather: axis " + std::to_string(axis_) +
                                     " is outside the data " + ShapeText(data.shape));
    }
    cuda::GatherArgs args;
    std::vector<int64_t> y_shape;
    for (int64_t i = 0; i < rank; ++i) {
      const int64_t dimension = data.shape[static_cast<size_t>(i)];
      if (i == axis) {
        args.axis = dimension;
        y_shape.insert(y_shape.end(), indices.shape.begin(), indices.shape.end());
        continue;
      }
      (i < axis ? args.outer : args.inner) *= dimension;
      y_shape.push_back(dimension);
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    args.type = CudaDataType(data.type);
    args.index_type = CudaDataType(indices.type);
    args.count = indices.Elements();
    args.data = data.data;
    args.indices = indices.data;
    args.y = y.data;
    return cuda::Gather(args, CudaStream(context));
  }

 private:
  int64_t axis_;
};

constexpr ElementType kUint4 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4;
constexpr ElementType kInt4 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4;

class GatherBlockQuantizedKernel final : public OpKernel {
 public:
  explicit GatherBlockQuantizedKernel(const NodeInfo& node)
      : bits_(node.Int("bits", 4)), block_size_(node.Int("block_size", 128)) {}

  Status Compute(OpContext& context) override {
    Tensor data;
    Tensor indices;
    Tensor scales;
    Tensor zero_points;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &data));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &indices));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(2, &scales));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(3, &zero_points));
    if (data.shape.size() != 2 || scales.shape.size() != 2 || scales.shape[0] != data.shape[0]) {
      return Status::InvalidArgument("GatherBlockQuantized: data is " + ShapeText(data.shape) +
                                     " and scales " + ShapeText(scales.shape) +
                                     ", needed are two matrices with the same rows");
    }
    const bool is_packed = data.type == kUint8 && bits_ == 4;
    cuda::GatherBlockQuantizedArgs args;
    args.type = CudaType(scales.type);
    args.index_type = CudaDataType(indices.type);
    args.bits = data.type == kUint8 ? static_cast<int>(bits_) : 4;
    args.is_signed = data.type == kInt4;
    args.rows = data.shape[0];
    args.width = is_packed ? 2 * data.shape[1] : data.shape[1];
    args.block_size = block_size_;
    args.count = indices.Elements();
    args.data = data.data;
    args.scales = scales.data;
    args.zero_points = zero_points.data;
    args.indices = indices.data;
    std::vector<int64_t> y_shape(indices.shape.begin(), indices.shape.end());
    y_shape.push_back(args.width);
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, y_shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    args.y = y.data;
    return cuda::GatherBlockQuantized(args, CudaStream(context));
  }

 private:
  int64_t bits_;
  int64_t block_size_;
};

Status AcceptGatherBlockQuantized(const NodeInfo& node) {
  const int64_t quantize_axis = node.Int("quantize_axis", 1);
  const int64_t rank = node.InputRank(0);
  if (node.Int("gather_axis", 0) != 0 || rank != 2 || (quantize_axis != 1 && quantize_axis != -1)) {
    return Status::Unsupported("only rows of a matrix that is quantised along its rows are served");
  }
  const int64_t bits = node.Int("bits", 4);
  if (bits != 4 && bits != 8) {
    return Status::Unsupported(std::to_string(bits) + " bits are not served, only 4 and 8");
  }
  return Status::Ok();
}

template <typename Kernel>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<Kernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendCudaGather(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "",
                 .name = "Gather",
                 .since_first = 1,
                 .since_last = 13,
                 .constraints = {{"T", AllCudaTypes()}, {"Tind", {kInt32, kInt64}}},
                 .inputs = {{"T"}, {"Tind"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &CopyContract,
                 .create = &Create<GatherKernel>});
  ops.push_back({.domain = "com.microsoft",
                 .name = "GatherBlockQuantized",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T1", {kUint8, kUint4, kInt4}},
                                 {"T2", kCudaFloats},
                                 {"Tind", {kInt32, kInt64}}},
                 .inputs = {{"T1"}, {"Tind"}, {"T2"}, {"T1", true}},
                 .outputs = {{"T2"}},
                 .accept = &AcceptGatherBlockQuantized,
                 .contract = [](const NodeInfo&) { return cuda::kElementwiseContract; },
                 .create = &Create<GatherBlockQuantizedKernel>});
}

}  // namespace batch_invariant::ort
