// The constant right side of a product on CUDA.
#ifndef BATCH_INVARIANT_ORT_OPS_CUDA_PACKED_RIGHT_SIDE_H_
#define BATCH_INVARIANT_ORT_OPS_CUDA_PACKED_RIGHT_SIDE_H_

#include "batch_invariant/cuda/gemm.h"
#include "ort/ops/cuda/cuda_types.h"

namespace batch_invariant::ort {

// Rows of `columns` elements, or the transposed matrix.
inline cuda::MatrixView MatrixOf(const void* data, int64_t columns, bool transposed) {
  return transposed ? cuda::MatrixView{data, 1, columns} : cuda::MatrixView{data, columns, 1};
}

// A constant right side in the layout that the kernels read fastest.
class PackedRightSide {
 public:
  explicit PackedRightSide(bool transposed) : transposed_(transposed) {}

  Status Pack(DeviceServices* device, const Tensor& b, bool* packed) {
    *packed = false;
    if (b.shape.size() != 2 || b.Elements() == 0) return Status::Ok();
    const cuda::ElementType type = CudaType(b.type);
    const cuda::MatrixView view = MatrixOf(b.data, b.shape[1], transposed_);
    const int64_t k = b.shape[transposed_ ? 1 : 0];
    const int64_t n = b.shape[transposed_ ? 0 : 1];
    BATCH_INVARIANT_RETURN_IF_ERROR(
        weights_.Allocate(device, cuda::PackedGemmWeightBytes(type, k, n)));
    auto* stream = static_cast<cuda::Stream>(device->Stream());
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cuda::PackGemmWeights(type, k, n, view, weights_.get(), stream));
    // The original may be freed as soon as this returns.
    BATCH_INVARIANT_RETURN_IF_ERROR(device->Synchronize());
    shape_.assign(b.shape.begin(), b.shape.end());
    *packed = true;
    return Status::Ok();
  }

  bool packed() const { return static_cast<bool>(weights_); }
  std::span<const int64_t> shape() const { return shape_; }
  const void* data() const { return weights_.get(); }

 private:
  bool transposed_;
  DeviceWeights weights_;
  std::vector<int64_t> shape_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUDA_PACKED_RIGHT_SIDE_H_
