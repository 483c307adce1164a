// sm_90 building blocks: mbarrier, bulk tensor copies (TMA) with multicast, clusters, setmaxnreg.
// wgmma itself is in wgmma.cuh. Everything here needs __CUDA_ARCH__ >= 900.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_HOPPER_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_HOPPER_CUH_

#include <cuda.h>

#include <cstdint>

namespace batch_invariant::cuda {

__device__ __forceinline__ void BarrierInit(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
               : "memory");
}

// Makes initialised barriers visible to the copy engine and to the other blocks of the cluster.
__device__ __forceinline__ void BarrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

__device__ __forceinline__ void BarrierExpectBytes(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void BarrierArrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

// Arrives on the barrier at the same shared-memory offset in block `rank` of the cluster. Block
// scope on purpose: what the arrival orders are this warp's own finished reads of shared memory,
// and cluster scope would drain all of its memory traffic.
__device__ __forceinline__ void BarrierArriveCluster(std::uint32_t barrier, std::uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

// Waits until the phase of the given parity has completed.
__device__ __forceinline__ void BarrierWait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\n"
      "bra WAIT;\n"
      "DONE:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Whether that phase has completed.
__device__ __forceinline__ bool BarrierPassed(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

// Block barrier in two halves: threads that arrive go on, threads that sync wait until all kThreads
// have done one of the two. Its number is apart from that of __syncthreads.
template <int kThreads>
__device__ __forceinline__ void BlockArrive() {
  asm volatile("barrier.cta.arrive 1, %0;\n" ::"n"(kThreads) : "memory");
}
template <int kThreads>
__device__ __forceinline__ void BlockSync() {
  asm volatile("barrier.cta.sync 1, %0;\n" ::"n"(kThreads) : "memory");
}

// Barriers of all kThreads consumers of a block, and of one consumer warpgroup, apart from the two
// above.
template <int kThreads>
__device__ __forceinline__ void ConsumerSync() {
  asm volatile("barrier.cta.sync 2, %0;\n" ::"n"(kThreads) : "memory");
}
__device__ __forceinline__ void WarpgroupSync(int group) {
  asm volatile("barrier.cta.sync %0, 128;\n" ::"r"(3 + group) : "memory");
}

// Two consumer warpgroups that take turns: TurnSync returns when it is `group`'s turn, which the
// other one says with TurnArrive(group), once for each TurnSync.
__device__ __forceinline__ void TurnSync(int group) {
  asm volatile("barrier.cta.sync %0, 256;\n" ::"r"(8 + group) : "memory");
}
__device__ __forceinline__ void TurnArrive(int group) {
  asm volatile("barrier.cta.arrive %0, 256;\n" ::"r"(8 + group) : "memory");
}

// Four 8x8 matrices of 16-bit elements in the fragment layout of mma.cuh; lane i supplies the
// address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void StoreMatrix4(std::uint32_t address, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
// The same, each written transposed.
__device__ __forceinline__ void StoreMatrix4Transposed(std::uint32_t address,
                                                       const std::uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}

__device__ __forceinline__ void PrefetchTensorMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

// Place of a box in a rank-4 map, innermost dimension first.
struct BoxPlace {
  int x, y, z, w;
};

// Box at `at` into this block's shared memory; completes on `barrier`.
__device__ __forceinline__ void TensorCopy(std::uint32_t destination, const CUtensorMap* map,
                                           std::uint32_t barrier, const BoxPlace& at,
                                           std::uint64_t cache_policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;\n" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "l"(cache_policy)
      : "memory");
}

// The same box into every block of the cluster whose bit is set in `blocks`, at the same
// shared-memory offset, completing on each block's own barrier at the same offset.
__device__ __forceinline__ void TensorCopyMulticast(std::uint32_t destination,
                                                    const CUtensorMap* map, std::uint32_t barrier,
                                                    const BoxPlace& at, std::uint16_t blocks,
                                                    std::uint64_t cache_policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7, %8;\n" ::"r"(
          destination),
      "l"(map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "h"(blocks),
      "l"(cache_policy)
      : "memory");
}

// A box from this block's shared memory out to the tensor, what lies outside of it left out. Part
// of the bulk group that the thread is gathering; ordinary writes to the box need FenceProxyAsync
// first.
__device__ __forceinline__ void TensorStore(const CUtensorMap* map, const BoxPlace& at,
                                            std::uint32_t source) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];\n" ::"l"(
          map),
      "r"(source), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w)
      : "memory");
}
__device__ __forceinline__ void BulkStoreCommit() {
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
}
// Until all of this thread's bulk groups have read their shared memory, or have written as well.
__device__ __forceinline__ void BulkStoreWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;\n" ::: "memory");
}
__device__ __forceinline__ void BulkStoreWait() {
  asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory");
}

// Contiguous bytes (a multiple of 16, both addresses 16-byte aligned) into this block.
__device__ __forceinline__ void BulkCopy(std::uint32_t destination, const void* source, int bytes,
                                         std::uint32_t barrier, std::uint64_t cache_policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;\n" ::"r"(destination),
      "l"(source), "r"(bytes), "r"(barrier), "l"(cache_policy)
      : "memory");
}

// L2 policies: data read once by the whole grid, and data that many blocks read.
__device__ __forceinline__ std::uint64_t PolicyEvictFirst() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ std::uint64_t PolicyEvictLast() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}

// Orders ordinary shared-memory writes before reads by the tensor cores or the copy engine.
__device__ __forceinline__ void FenceProxyAsync() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// True in one lane of a converged warp. Unlike a test of threadIdx it tells the compiler that a
// single lane goes on: it then issues bulk copies directly, without a loop over lanes around each
// of them.
__device__ __forceinline__ bool ElectLane() {
  std::uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(elected));
  return elected != 0;
}

__device__ __forceinline__ std::uint32_t ClusterBlockRank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}

// ClusterSync in two halves, of which the first orders no memory but initialised barriers
// (BarrierInitFence): the others have started, and may be sent to.
__device__ __forceinline__ void ClusterArriveRelaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

// Stores two floats into shared memory of block `rank` of the cluster, at the place that `address`
// names in this one, and counts their eight bytes at that block's `barrier`.
__device__ __forceinline__ void SendPair(std::uint32_t address, float2 pair, std::uint32_t barrier,
                                         int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 to, at;\n"
      "mapa.shared::cluster.u32 to, %0, %4;\n"
      "mapa.shared::cluster.u32 at, %3, %4;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [to], {%1, %2}, [at];\n"
      "}\n" ::"r"(address),
      "f"(pair.x), "f"(pair.y), "r"(barrier), "r"(rank)
      : "memory");
}

__device__ __forceinline__ void ClusterSync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void RegistersRaise() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
#endif
}

template <int kRegisters>
__device__ __forceinline__ void RegistersLower() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
#endif
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_HOPPER_CUH_
