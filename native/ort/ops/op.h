// An op as both adapters see it: what it is called, what it accepts, and a kernel that validates,
// views, plans and calls. The plugin provider and the custom-op library differ only in who asks.
#ifndef BATCH_INVARIANT_ORT_OPS_OP_H_
#define BATCH_INVARIANT_ORT_OPS_OP_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"
#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

// What a kernel on a device with memory of its own needs from its session.
class DeviceServices {
 public:
  virtual ~DeviceServices() = default;

  // The stream that a kernel without one from ONNX Runtime enqueues on.
  virtual void* Stream() = 0;

  // Told the stream of each kernel call, and whether ONNX Runtime named it.
  virtual void NoteStream(void* stream, bool is_given) {
    (void)stream;
    (void)is_given;
  }

  // Copies between two places of the device, or from the host; done when it returns.
  virtual Status Copy(void* to, const void* from, size_t bytes) = 0;

  // Waits for everything on Stream().
  virtual Status Synchronize() = 0;

  // Device memory for one kernel call on `stream`: whatever was enqueued there before has the same
  // memory, and it is valid until the next call that asks for some. Not for two pieces at once.
  virtual Status Workspace(void* stream, size_t bytes, void** memory) = 0;

  // Device memory that lives as long as the session, for weights. FreeWeights takes it back.
  virtual Status AllocateWeights(size_t bytes, void** memory) = 0;
  virtual void FreeWeights(void* memory) = 0;
};

class OpKernel;

// One call of a kernel: its inputs, its outputs, and where it runs.
class OpContext {
 public:
  OpContext(OrtKernelContext* context, cpu::InstructionSet instruction_set,
            DeviceServices* device = nullptr);
  ~OpContext();
  OpContext(const OpContext&) = delete;
  OpContext& operator=(const OpContext&) = delete;

  // Computes or, on a device, enqueues what computes.
  Status Run(OpKernel& kernel);

  // On the CPU fp16 tensors are seen as fp32: see half.h.
  //
  // An omitted optional input gives a tensor that is not present.
  Status Input(size_t index, Tensor* tensor);
  // The same with its own elements, fp16 or not.
  Status InputAsIs(size_t index, Tensor* tensor);

  // Trailing inputs and outputs that the node leaves out are not counted.
  size_t InputCount() const { return input_count_; }
  size_t OutputCount() const { return output_count_; }

  // An omitted optional output gives a tensor that is not present; its memory is uninitialised.
  Status Output(size_t index, std::span<const int64_t> shape, Tensor* tensor);
  Status Output(size_t index, std::initializer_list<int64_t> shape, Tensor* tensor) {
    return Output(index, std::span<const int64_t>(shape.begin(), shape.size()), tensor);
  }

  Status OutputAsIs(size_t index, std::span<const int64_t> shape, Tensor* tensor);

  // Threads of the session's intra-op pool, scratch from the session's CPU arena.
  cpu::Context Cpu();

  // The stream of this call: ONNX Runtime's where it has one, else the session's.
  void* Stream();
  // See DeviceServices::Workspace.
  Status Workspace(size_t bytes, void** memory);

 private:
  // An fp16 tensor and its elements as fp32.
  struct Half {
    void* narrow;
    float* wide;
    int64_t elements;
  };

  void* Allocate(size_t bytes);
  Status Allocate(const Tensor& tensor, Half* half);

  OrtKernelContext* context_;
  cpu::InstructionSet instruction_set_;
  DeviceServices* device_;
  void* stream_ = nullptr;
  size_t input_count_ = 0;
  size_t output_count_ = 0;
  OrtAllocator* allocator_ = nullptr;
  std::vector<void*> allocations_;
  std::vector<Half> half_inputs_;
  std::vector<Half> half_outputs_;
};

class OpKernel {
 public:
  virtual ~OpKernel() = default;

  // Set before anything else is called; null on the CPU.
  void set_device(DeviceServices* device) { device_ = device; }

  // Offered once for each constant input. A kernel that sets `packed` keeps its own copy, and the
  // original may then be gone when Compute runs.
  virtual Status Prepack(size_t input, const Tensor& tensor, bool* packed) {
    (void)input;
    (void)tensor;
    *packed = false;
    return Status::Ok();
  }

  virtual Status Compute(OpContext& context) = 0;

 protected:
  DeviceServices* device() const { return device_; }

 private:
  DeviceServices* device_ = nullptr;
};

// The types that a type parameter of the op's schema may take here.
struct TypeConstraint {
  const char* name;
  std::vector<ElementType> types;
};

// One input or output: the type parameter it follows, or a fixed type when `constraint` is empty.
struct Argument {
  const char* constraint;
  bool optional = false;
  ElementType fixed_type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
};

struct OpDefinition {
  const char* domain;  // "" is the ONNX domain
  const char* name;
  int since_first;
  int since_last;  // inclusive
  std::vector<TypeConstraint> constraints;
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
  // Ok, or kUnsupported with one clause that says what is not served.
  Status (*accept)(const NodeInfo& node);
  // The contract of an accepted node; see contract.h.
  const char* (*contract)(const NodeInfo& node);
  // Called only for accepted nodes.
  Status (*create)(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel);
  // Its name in the custom-op domain where it differs: two domains use one name for ops whose
  // inputs come in another order.
  const char* custom_name = nullptr;
  // (input, output) pairs that may share memory.
  std::vector<std::pair<int, int>> may_inplace = {};
  // (input, output) pairs that are one buffer: the output is the input under another shape.
  std::vector<std::pair<int, int>> alias = {};
  // Inputs that are read on the host, whatever the device.
  std::vector<int> host_inputs = {};
  // Outputs that are written on the host.
  std::vector<int> host_outputs = {};
};

// Every op of the CPU provider. One entry a form of an op.
std::span<const OpDefinition> CpuOps();

// Every op of the CUDA provider; none in a build without CUDA.
std::span<const OpDefinition> CudaOps();

// ORT_BATCH_INVARIANT_ISA or the fastest instruction set; kInvalidArgument when `requested` (or the
// variable, where `requested` is empty) names none that this machine can run.
Status ChooseInstructionSet(const std::string& requested, cpu::InstructionSet* chosen);

inline constexpr ElementType kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
inline constexpr ElementType kFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
inline constexpr ElementType kUint8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
inline constexpr ElementType kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
inline constexpr ElementType kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

// Points an argument at a tensor's memory; null for an absent one.
template <typename Element>
void Point(Element*& pointer, const Tensor& tensor) {
  pointer = static_cast<Element*>(tensor.data);
}

// "[2,3,64]"
std::string ShapeText(std::span<const int64_t> shape);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_OP_H_
