// MemcpyFromHost and MemcpyToHost: the nodes that ONNX Runtime puts where a value changes memory.
#include <cuda_runtime_api.h>

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/element_types.h"

namespace batch_invariant::ort {
namespace {

class MemcpyKernel final : public OpKernel {
 public:
  explicit MemcpyKernel(bool to_host) : to_host_(to_host) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    const size_t bytes = static_cast<size_t>(x.Elements()) * ElementBytes(x.type);
    if (bytes == 0) return Status::Ok();
    auto* stream = static_cast<cudaStream_t>(context.Stream());
    cudaError_t error = cudaMemcpyAsync(y.data, x.data, bytes, cudaMemcpyDefault, stream);
    // A node on the CPU reads the copy as soon as this returns.
    if (error == cudaSuccess && to_host_) error = cudaStreamSynchronize(stream);
    if (error == cudaSuccess) return Status::Ok();
    return Status::DeviceError(std::string("copying a tensor ") +
                               (to_host_ ? "to the host" : "to the device") +
                               " failed: " + cudaGetErrorString(error));
  }

 private:
  bool to_host_;
};

template <bool kToHost>
Status Create(const NodeInfo&, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MemcpyKernel>(kToHost);
  return Status::Ok();
}

const char* Contract(const NodeInfo&) { return ""; }

OpDefinition Memcpy(const char* name, decltype(OpDefinition::create) create) {
  return {.domain = "",
          .name = name,
          .since_first = 1,
          .since_last = 1,
          .constraints = {{"T", FixedSizeTypes()}},
          .inputs = {{"T"}},
          .outputs = {{"T"}},
          .accept = &AcceptAll,
          .contract = &Contract,
          .create = create};
}

}  // namespace

void AppendCudaMemcpy(std::vector<OpDefinition>& ops) {
  ops.push_back(Memcpy("MemcpyFromHost", &Create<false>));
  ops.back().host_inputs = {0};
  ops.push_back(Memcpy("MemcpyToHost", &Create<true>));
  ops.back().host_outputs = {0};
}

}  // namespace batch_invariant::ort
