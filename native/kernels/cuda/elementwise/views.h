// Shapes with strides for kernels: axes that lie in one piece in every operand are joined, so that
// most calls end with one or two axes.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_VIEWS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_VIEWS_H_

#include <cstdint>
#include <span>
#include <string>

#include "batch_invariant/status.h"

#ifdef __CUDACC__
#define BATCH_INVARIANT_DEVICE __device__ __forceinline__
#else
#define BATCH_INVARIANT_DEVICE
#endif

namespace batch_invariant::cuda {

inline constexpr int kMaxRank = 8;

template <int kOperands>
struct Views {
  int rank = 0;
  std::int64_t count = 1;
  std::int64_t shape[kMaxRank] = {};
  std::int64_t strides[kOperands][kMaxRank] = {};

  // Offsets, in elements, of the element with row-major number `index`.
  BATCH_INVARIANT_DEVICE void Offsets(std::int64_t index, std::int64_t (&offsets)[kOperands]) const {
    for (int o = 0; o < kOperands; ++o) offsets[o] = 0;
    for (int axis = rank - 1; axis >= 0; --axis) {
      std::int64_t rest, coordinate;
      if (index <= 0xffffffffll && shape[axis] <= 0xffffffffll) {  // a 64-bit division is slow
        rest = static_cast<std::uint32_t>(index) / static_cast<std::uint32_t>(shape[axis]);
        coordinate = static_cast<std::uint32_t>(index) % static_cast<std::uint32_t>(shape[axis]);
      } else {
        rest = index / shape[axis];
        coordinate = index % shape[axis];
      }
      index = rest;
      for (int o = 0; o < kOperands; ++o) offsets[o] += coordinate * strides[o][axis];
    }
  }

  // Every operand lies in one piece (stride 1) or is one element (stride 0).
  bool Flat() const {
    if (rank > 1) return false;
    for (int o = 0; o < kOperands && rank == 1; ++o) {
      if (strides[o][0] != 0 && strides[o][0] != 1) return false;
    }
    return true;
  }
};

template <int kOperands>
Status MakeViews(const char* op, std::span<const std::int64_t> shape,
                 const std::span<const std::int64_t> (&strides)[kOperands],
                 Views<kOperands>* views) {
  *views = {};
  if (shape.size() > kMaxRank) {
    return Status::InvalidArgument(std::string(op) + ": more than 8 axes");
  }
  for (const auto& s : strides) {
    if (s.size() != shape.size()) {
      return Status::InvalidArgument(std::string(op) + ": strides and shape differ in rank");
    }
  }
  for (const std::int64_t extent : shape) {
    if (extent < 0) return Status::InvalidArgument(std::string(op) + ": a size is negative");
    views->count *= extent;
  }
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 1) continue;
    bool joins = views->rank > 0;
    for (int o = 0; o < kOperands && joins; ++o) {
      joins = views->strides[o][views->rank - 1] == strides[o][axis] * shape[axis];
    }
    if (!joins) ++views->rank;
    const int at = views->rank - 1;
    views->shape[at] = joins ? views->shape[at] * shape[axis] : shape[axis];
    for (int o = 0; o < kOperands; ++o) views->strides[o][at] = strides[o][axis];
  }
  return Status::Ok();
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_VIEWS_H_
