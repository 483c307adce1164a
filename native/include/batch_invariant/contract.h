// The arithmetic contracts: for each op, the exact sequence of roundings behind every output element.
//
// A kernel may choose tiles, schedules, threads and instructions freely; it may not change this
// sequence, and nothing that plans arithmetic may know how many rows there are. Two kernels with the
// same contract id give the same bytes for the same row. An id changes whenever its bytes would.
//
// A result that is NaN is written as the quiet NaN 0x7fc00000 by the products, whatever produced it.
//
// fp16 tensors on the CPU: operands are widened to fp32, which is exact, the contract is kept in
// fp32, and every output is rounded once, to nearest even; a NaN is written as 0x7e00.
//
// CPU (identical on scalar, AVX2, AVX-512 and NEON):
//   gemm.f32        acc = +0; for k ascending: acc = fma(a[k], b[k], acc). Then, for Gemm,
//                   y = acc when alpha is 1 and there is no C; otherwise y = fma(beta, c, alpha*acc),
//                   alpha*acc rounded first (beta*c is exact for beta = 1).
//   gemm.nbits.f32  accuracy_level 0..3: w[k] = (q[k] - zero) * scale, q - zero exact, the product
//                   rounded once; then gemm.f32 over w, then + bias. Zero and scale are those of the
//                   block of k, or of block g_idx[k].
//   gemm.nbits.s8   accuracy_level 4: per row and block, s_a = max|a|/127 and
//                   q_a = round-to-nearest-even(a * (127/max|a|)) held to [-127, 127], all zero when
//                   max|a| is 0, and 0 where the product is NaN (s_a then carries the NaN or Inf);
//                   d = sum of q_a*(q - zero) in exact int32; acc = fma(float(d), s_a*scale, acc) over
//                   blocks ascending, s_a*scale rounded first; then + bias.
//   norm.f32        64 partial sums: element i goes to partial i mod 64 in ascending i by fma;
//                   partials are added in halves (p[j] += p[j+32], +16, +8, +4, +2, +1).
//   softmax.f32     maximum of the row; e[i] = exp(x[i] - max) by the library's polynomial; their sum
//                   by the tree of norm.f32; y[i] = e[i] * (1 / sum), both rounded (a
//                   division each would cost a third of the op).
//   reduce.f32      sum and mean by the tree of norm.f32; maximum and minimum are exact.
//   attention.f32   (Attention of com.microsoft: its projection is gemm.f32 with the bias as C.)
//                   keys in blocks of 128 at absolute positions. Inside a block: scores by gemm.f32
//                   over the head, times scale, softcap, bias; block maximum; p = exp(score - max);
//                   P.V and P.1 by gemm.f32 over the block's keys, ascending, from +0. Blocks are
//                   merged in ascending order: m' = max(m, mb); a = exp(m - m'); b = exp(mb - m');
//                   acc = fma(acc, a, accb*b), sum likewise; y = acc / sum. A key outside the causal
//                   range or the window contributes nothing, and a block without any such key leaves
//                   the running state untouched. fp16: keys and values are rounded to fp16 before
//                   they are attended to, as the cache will give them back.
//   moe.f32         router weights by softmax.f32 over the experts (or over the k chosen), where asked
//                   for divided by their sum, added in the order of choice; each expert gemm.f32
//                   with its bias, elementwise.f32, gemm.f32 with its bias; y from +0 over the
//                   chosen experts ascending: y = y + w*e, product and sum rounded. moe.nbits.f32
//                   and moe.nbits.s8 have the gemm of that name instead.
//   elementwise.f32 one fixed sequence of operations an element, by position-independent code.
//
// CPU and CUDA (identical on both):
//   pow             x^y by the fixed sequence of fp64 operations in kernels/common/power.h: x*x for
//                   y = 2, else 2^(y log2|x|), rounded once to fp32 (error below 0.501 ulp) or, in
//                   pairs of fp64 numbers, to fp64 (below 0.7 ulp). Whole numbers: exact, wrapping;
//                   for a whole base and a fraction as exponent the fp64 result, towards zero. fp16 and
//                   bf16 are widened to fp32, and the fp32 result is rounded again.
//
// CUDA contracts are stated beside their kernels under include/batch_invariant/cuda/.
#ifndef BATCH_INVARIANT_CONTRACT_H_
#define BATCH_INVARIANT_CONTRACT_H_

namespace batch_invariant::contract {

inline constexpr const char* kGemmF32 = "gemm.f32.v1";
inline constexpr const char* kGemmNBitsF32 = "gemm.nbits.f32.v1";
inline constexpr const char* kGemmNBitsS8 = "gemm.nbits.s8.v1";
inline constexpr const char* kNormF32 = "norm.f32.v1";
inline constexpr const char* kSoftmaxF32 = "softmax.f32.v1";
inline constexpr const char* kReduceF32 = "reduce.f32.v1";
inline constexpr const char* kAttentionF32 = "attention.f32.v3";
inline constexpr const char* kMoeF32 = "moe.f32.v1";
inline constexpr const char* kMoeNBitsF32 = "moe.nbits.f32.v1";
inline constexpr const char* kMoeNBitsS8 = "moe.nbits.s8.v1";
inline constexpr const char* kElementwiseF32 = "elementwise.f32.v2";
inline constexpr const char* kPow = "pow.v1";

// Constants that are part of the contracts above.
inline constexpr int kAttentionBlockKeys = 128;
inline constexpr int kReductionPartials = 64;

}  // namespace batch_invariant::contract

#endif  // BATCH_INVARIANT_CONTRACT_H_
