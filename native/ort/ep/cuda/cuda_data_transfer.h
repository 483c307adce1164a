// Copies between host memory and the memory of this provider's devices.
#ifndef BATCH_INVARIANT_ORT_EP_CUDA_CUDA_DATA_TRANSFER_H_
#define BATCH_INVARIANT_ORT_EP_CUDA_CUDA_DATA_TRANSFER_H_

#include "ort/ort_api.h"

namespace batch_invariant::ort {

class CudaDataTransfer : public OrtDataTransferImpl {
 public:
  CudaDataTransfer();
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_CUDA_CUDA_DATA_TRANSFER_H_
