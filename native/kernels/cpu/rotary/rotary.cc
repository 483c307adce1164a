// Checks, positions and threads of the rotary embedding; the arithmetic is in rotary_body.h.
#include "batch_invariant/cpu/rotary.h"

#include <string>

#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/rotary/rotary_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(RotaryKernels, kRotaryKernels, RotaryKernelTable)

namespace {

int64_t Position(const RotaryArgs& args, int64_t token) {
  switch (args.positions) {
    case RotaryPositions::kOffset:
      return args.position_ids[0] + token % args.tokens;
    case RotaryPositions::kPerToken:
      return args.position_ids[token];
    case RotaryPositions::kDirect:
      break;
  }
  return token;
}

Status Check(const RotaryArgs& args) {
  if (args.batch < 0 || args.heads < 0 || args.tokens < 0 || args.head_size < 0) {
    return Status::InvalidArgument("rotary embedding: no extent may be negative");
  }
  if (args.rotary_dim < 0 || args.rotary_dim % 2 != 0 || args.rotary_dim > args.head_size) {
    return Status::InvalidArgument(
        "rotary embedding: the rotary dimension " + std::to_string(args.rotary_dim) +
        " must be even and at most the head size " + std::to_string(args.head_size));
  }
  if (args.batch * args.heads * args.tokens * args.head_size == 0) return Status::Ok();
  const bool no_cache = args.cos_cache == nullptr || args.sin_cache == nullptr;
  if (args.x == nullptr || args.y == nullptr || (no_cache && args.rotary_dim > 0)) {
    return Status::InvalidArgument("rotary embedding: an operand has no data");
  }
  if (args.positions != RotaryPositions::kDirect && args.position_ids == nullptr) {
    return Status::InvalidArgument("rotary embedding: position_ids has no data");
  }
  for (int64_t token = 0; token < args.batch * args.tokens; ++token) {
    const int64_t position = Position(args, token);
    if (position < 0 || position >= args.cache_rows) {
      return Status::InvalidArgument("rotary embedding: position " + std::to_string(position) +
                                     " is outside the " + std::to_string(args.cache_rows) +
                                     " rows of the cos and sin caches");
    }
  }
  return Status::Ok();
}

}  // namespace

Status RotaryF32(const Context& context, const RotaryArgs& args) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  const RotaryKernels* kernels = FindKernels(RotaryKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported(
        "rotary embedding: this library has no kernel for the instruction set asked for");
  }
  const int64_t half = args.rotary_dim / 2;
  ParallelRows(context.parallel, args.batch * args.tokens, args.heads * args.head_size,
               [&](int64_t begin, int64_t end) {
                 for (int64_t token = begin; token < end; ++token) {
                   const int64_t b = token / args.tokens, s = token % args.tokens;
                   const int64_t cache = Position(args, token) * half;
                   const float* x = args.x + b * args.x_batch + s * args.x_token;
                   float* y = args.y + b * args.y_batch + s * args.y_token;
                   for (int64_t h = 0; h < args.heads; ++h) {
                     kernels->rotate_head(x + h * args.x_head, args.cos_cache + cache,
                                          args.sin_cache + cache, args.head_size, args.rotary_dim,
                                          args.interleaved, y + h * args.y_head);
                   }
                 }
               });
  return Status::Ok();
}

}  // namespace batch_invariant::cpu
