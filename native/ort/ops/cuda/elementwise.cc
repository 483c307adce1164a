// Element-wise ops on CUDA: one operand, two operands, Where, Cast.
#include "batch_invariant/cuda/elementwise.h"

#include "ort/ops/broadcast.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/unary_kernel.h"

namespace batch_invariant::ort {
namespace {

using cuda::BinaryOp;
using cuda::UnaryOp;

const char* Contract(const NodeInfo&) { return cuda::kElementwiseContract; }

struct Cuda {
  using Op = cuda::UnaryOp;
  using Args = cuda::UnaryArgs;
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo&) { return cuda::kElementwiseContract; }
  static Status Run(OpContext& context, ElementType type, Args args) {
    args.type = CudaDataType(type);
    return cuda::Unary(args, CudaStream(context));
  }
};

const std::vector<ElementType> kNumbers = {kFloat, kFloat16, kBFloat16, kInt32, kInt64};
const std::vector<ElementType> kBooleans = {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL};

class BinaryKernel final : public OpKernel {
 public:
  BinaryKernel(const NodeInfo& node, BinaryOp op) : name_(node.OpType()), op_(op) {}

  Status Compute(OpContext& context) override {
    BroadcastCall<2> call;
    BATCH_INVARIANT_RETURN_IF_ERROR(call.Read(context, name_));
    if (call.y.Elements() == 0) return Status::Ok();
    cuda::BinaryArgs args;
    args.op = op_;
    args.type = CudaDataType(call.operands[0].type);
    args.shape = call.shape;
    args.a = call.operands[0].data;
    args.a_strides = call.strides[0];
    args.b = call.operands[1].data;
    args.b_strides = call.strides[1];
    args.y = call.y.data;
    return cuda::Binary(args, CudaStream(context));
  }

 private:
  std::string name_;
  BinaryOp op_;
};

template <BinaryOp kOp>
Status CreateBinary(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<BinaryKernel>(node, kOp);
  return Status::Ok();
}

// Max and Min take any number of operands; the graphs served here have two.
Status AcceptTwoOperands(const NodeInfo& node) {
  if (node.HasInput(1) && !node.HasInput(2)) return Status::Ok();
  return Status::Unsupported("another number of operands than two is not served");
}

Status AcceptMod(const NodeInfo& node) {
  const bool is_whole = node.InputType(0) == kInt32 || node.InputType(0) == kInt64;
  if ((node.Int("fmod", 0) != 0) != is_whole) return Status::Ok();
  return Status::Unsupported("fmod on whole numbers is not served");
}

class WhereKernel final : public OpKernel {
 public:
  Status Compute(OpContext& context) override {
    BroadcastCall<3> call;
    BATCH_INVARIANT_RETURN_IF_ERROR(call.Read(context, "Where"));
    if (call.y.Elements() == 0) return Status::Ok();
    cuda::WhereArgs args;
    args.type = CudaDataType(call.operands[1].type);
    args.shape = call.shape;
    args.condition = call.operands[0].data;
    args.condition_strides = call.strides[0];
    args.a = call.operands[1].data;
    args.a_strides = call.strides[1];
    args.b = call.operands[2].data;
    args.b_strides = call.strides[2];
    args.y = call.y.data;
    return cuda::Where(args, CudaStream(context));
  }
};

class CastKernel final : public OpKernel {
 public:
  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    cuda::CastArgs args;
    args.from = CudaDataType(x.type);
    args.to = CudaDataType(y.type);
    args.count = x.Elements();
    args.x = x.data;
    args.y = y.data;
    return cuda::Cast(args, CudaStream(context));
  }
};

template <typename Kernel>
Status Create(const NodeInfo&, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<Kernel>();
  return Status::Ok();
}

// The ops whose stock kernels do not vary either: they stay on the GPU for the sake of the copies.
void AppendUnary(std::vector<OpDefinition>& ops) {
  const auto add = [&](const char* name, int first, int last, decltype(OpDefinition::create) create,
                       const std::vector<ElementType>& types) {
    ops.push_back(UnaryDefinition<Cuda>("", name, first, last, create));
    ops.back().constraints = {{"T", types}};
  };
  add("Neg", 6, 13, &CreateUnary<Cuda, UnaryOp::kNeg>, kNumbers);
  add("Abs", 6, 13, &CreateUnary<Cuda, UnaryOp::kAbs>, kNumbers);
  add("Not", 1, 1, &CreateUnary<Cuda, UnaryOp::kNot>, kBooleans);
  add("Log", 6, 13, &CreateUnary<Cuda, UnaryOp::kLog>, kCudaFloats);
  add("Sqrt", 6, 13, &CreateUnary<Cuda, UnaryOp::kSqrt>, kCudaFloats);
  add("Reciprocal", 6, 13, &CreateUnary<Cuda, UnaryOp::kReciprocal>, kCudaFloats);
  add("Relu", 6, 14, &CreateUnary<Cuda, UnaryOp::kRelu>, kCudaFloats);
  add("Cos", 7, 22, &CreateUnary<Cuda, UnaryOp::kCos>, kCudaFloats);
  add("Sin", 7, 22, &CreateUnary<Cuda, UnaryOp::kSin>, kCudaFloats);
  add("Floor", 6, 13, &CreateUnary<Cuda, UnaryOp::kFloor>, kCudaFloats);
  add("Ceil", 6, 13, &CreateUnary<Cuda, UnaryOp::kCeil>, kCudaFloats);
  add("Softplus", 1, 22, &CreateUnary<Cuda, UnaryOp::kSoftplus>, kCudaFloats);
}

void AppendBinary(std::vector<OpDefinition>& ops) {
  const auto add = [&](const char* name, int first, int last, decltype(OpDefinition::create) create,
                       const std::vector<ElementType>& types, bool to_bool = false) {
    OpDefinition op{.domain = "",
                    .name = name,
                    .since_first = first,
                    .since_last = last,
                    .constraints = {{"T", types}},
                    .inputs = {{"T"}, {"T"}},
                    .outputs = {{"T"}},
                    .accept = &AcceptAll,
                    .contract = &Contract,
                    .create = create};
    if (to_bool) {
      op.constraints.push_back({"T1", kBooleans});
      op.outputs = {{"T1"}};
    } else {
      op.may_inplace = {{0, 0}, {1, 0}};
    }
    ops.push_back(op);
  };
  add("Add", 7, 14, &CreateBinary<BinaryOp::kAdd>, kNumbers);
  add("Sub", 7, 14, &CreateBinary<BinaryOp::kSub>, kNumbers);
  add("Mul", 7, 14, &CreateBinary<BinaryOp::kMul>, kNumbers);
  add("Div", 7, 14, &CreateBinary<BinaryOp::kDiv>, kNumbers);
  add("Mod", 10, 13, &CreateBinary<BinaryOp::kMod>, kNumbers);
  ops.back().accept = &AcceptMod;
  add("Min", 8, 13, &CreateBinary<BinaryOp::kMin>, kNumbers);
  ops.back().accept = &AcceptTwoOperands;
  add("Max", 8, 13, &CreateBinary<BinaryOp::kMax>, kNumbers);
  ops.back().accept = &AcceptTwoOperands;
  std::vector<ElementType> comparable = kNumbers;
  comparable.push_back(kBooleans[0]);
  add("Equal", 7, 19, &CreateBinary<BinaryOp::kEqual>, comparable, true);
  add("Less", 7, 13, &CreateBinary<BinaryOp::kLess>, kNumbers, true);
  add("LessOrEqual", 12, 16, &CreateBinary<BinaryOp::kLessOrEqual>, kNumbers, true);
  add("Greater", 7, 13, &CreateBinary<BinaryOp::kGreater>, kNumbers, true);
  add("GreaterOrEqual", 12, 16, &CreateBinary<BinaryOp::kGreaterOrEqual>, kNumbers, true);
  add("And", 7, 7, &CreateBinary<BinaryOp::kAnd>, kBooleans, true);
  add("Or", 7, 7, &CreateBinary<BinaryOp::kOr>, kBooleans, true);
  add("Xor", 7, 7, &CreateBinary<BinaryOp::kXor>, kBooleans, true);
}

}  // namespace

void AppendCudaElementwise(std::vector<OpDefinition>& ops) {
  AppendActivationOps<Cuda>(ops);
  AppendUnary(ops);
  AppendBinary(ops);
  ops.push_back({.domain = "",
                 .name = "Where",
                 .since_first = 9,
                 .since_last = 16,
                 .constraints = {{"B", kBooleans}, {"T", AllCudaTypes()}},
                 .inputs = {{"B"}, {"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &CopyContract,
                 .create = &Create<WhereKernel>});
  ops.push_back({.domain = "",
                 .name = "Cast",
                 .since_first = 6,
                 .since_last = 25,
                 .constraints = {{"T1", AllCudaTypes()}, {"T2", AllCudaTypes()}},
                 .inputs = {{"T1"}},
                 .outputs = {{"T2"}},
                 .accept = &AcceptAll,
                 .contract = &Contract,
                 .create = &Create<CastKernel>});
}

}  // namespace batch_invariant::ort
