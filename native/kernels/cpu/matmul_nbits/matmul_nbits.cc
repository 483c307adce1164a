// Checks and packs n-bit weights, and cuts their products into items for the threads.
#include "batch_invariant/cpu/matmul_nbits.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <string>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "kernels/cpu/dispatch/kernel_table.h"
#include "kernels/cpu/matmul/matmul_kernels.h"
#include "kernels/cpu/matmul/shared_blocks.h"
#include "kernels/cpu/matmul_nbits/matmul_nbits_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(MatMulNBitsKernels, kMatMulNBitsKernels, MatMulNBitsKernelTable)

namespace {

constexpr int64_t kLargestBlock = 256;             // float(d) of gemm.nbits.s8 is exact up to here
constexpr int64_t kBlockRows = 256;                // fp32 rows kept in the second-level cache
constexpr int64_t kBlockBytesS8 = 192 * 1024;      // int8 rows kept there
constexpr int64_t kItemColumns = 1024;             // amortise the packing of rows
constexpr int64_t kItemMultiplications = 1 << 15;  // fewer are not worth another thread
constexpr int64_t kDecodedPanelTerms = 384;        // 24 KiB of the first-level cache

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

NBitsLayout MakeLayout(const MatMulNBitsPlan& plan) {
  NBitsLayout layout;
  layout.k = plan.k;
  layout.block_size = plan.block_size;
  layout.blocks = plan.blocks();
  layout.bits = plan.bits;
  layout.zero_points = plan.zero_points;
  const int64_t zero_point_bytes = plan.zero_points == ZeroPoints::kPacked  ? kPanelColumns
                                   : plan.zero_points == ZeroPoints::kFloat ? kPanelColumns * 4
                                                                            : 0;
  layout.zero_points_offset = kPanelColumns * static_cast<int64_t>(sizeof(float));
  layout.weights_offset = layout.zero_points_offset + zero_point_bytes;
  layout.record_bytes = layout.weights_offset + plan.block_size * plan.bits / 8 * kPanelColumns;
  layout.panel_bytes = layout.record_bytes * layout.blocks;
  return layout;
}

// Value `index` of packed values, low bits first.
uint32_t Extract(const uint8_t* bytes, int64_t index, int bits) {
  const int64_t bit = index * bits;
  return (static_cast<uint32_t>(bytes[bit / 8]) >> (bit % 8)) & ((1u << bits) - 1);
}

// Four bytes hold eight values in order; in the packed word they alternate: t0 t4 t1 t5 ...
uint32_t InterleaveNibbles(uint32_t in_order) {
  const auto spread = [](uint32_t x) {
    x = (x | (x << 8)) & 0x00ff00ffu;
    return (x | (x << 4)) & 0x0f0f0f0fu;
  };
  return spread(in_order & 0xffffu) | (spread(in_order >> 16) << 4);
}

// The word of one column and group; terms from `count` on are zeros.
uint32_t PackWord(const uint8_t* block, int64_t first_term, int64_t count, int bits) {
  const int terms = 32 / bits;
  if (count >= terms && bits != 2) {
    uint32_t in_order;
    std::memcpy(&in_order, block + first_term * bits / 8, sizeof(in_order));
    return bits == 8 ? in_order : InterleaveNibbles(in_order);
  }
  uint32_t word = 0;
  for (int term = 0; term < terms && term < count; ++term) {
    const int shift = 8 * (term % 4) + bits * (term / 4);
    word |= Extract(block, first_term + term, bits) << shift;
  }
  return word;
}

void PackPanel(const MatMulNBitsPlan& plan, const NBitsLayout& layout, const uint8_t* b,
               const float* scales, const void* zero_points, int64_t first_column, uint8_t* panel) {
  const int64_t columns = std::min(kPanelColumns, plan.n - first_column);
  const int64_t block_bytes = plan.block_size * plan.bits / 8;
  const int64_t zero_point_row_bytes = CeilDiv(layout.blocks * plan.bits, 8);
  const int64_t terms = 32 / plan.bits;
  for (int64_t block = 0; block < layout.blocks; ++block) {
    uint8_t* record = panel + block * layout.record_bytes;
    const int64_t block_terms = std::min(plan.block_size, plan.k - block * plan.block_size);
    std::memset(record, 0, static_cast<size_t>(layout.record_bytes));
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t column = first_column + j;
      const int64_t column_block = column * layout.blocks + block;
      std::memcpy(record + 4 * j, scales + column_block, sizeof(float));
      uint8_t* zero = record + layout.zero_points_offset;
      if (plan.zero_points == ZeroPoints::kPacked) {
        zero[j] = static_cast<uint8_t>(
            Extract(static_cast<const uint8_t*>(zero_points) + column * zero_point_row_bytes, block,
                    plan.bits));
      } else if (plan.zero_points == ZeroPoints::kFloat) {
        std::memcpy(zero + 4 * j, static_cast<const float*>(zero_points) + column_block,
                    sizeof(float));
      }
      const uint8_t* source = b + column_block * block_bytes;
      uint8_t* words = record + layout.weights_offset + 4 * j;
      for (int64_t first = 0; first < block_terms; first += terms) {
        const uint32_t word = PackWord(source, first, block_terms - first, plan.bits);
        std::memcpy(words + first / terms * 4 * kPanelColumns, &word, sizeof(word));
      }
    }
  }
}

// The zero point of one column and block as fp32.
float ZeroPointOf(const MatMulNBitsPlan& plan, const void* zero_points, int64_t column,
                  int64_t block) {
  if (plan.zero_points == ZeroPoints::kDefault) return static_cast<float>(1 << (plan.bits - 1));
  if (plan.zero_points == ZeroPoints::kFloat) {
    return static_cast<const float*>(zero_points)[column * plan.blocks() + block];
  }
  const int64_t row_bytes = CeilDiv(plan.blocks() * plan.bits, 8);
  return static_cast<float>(Extract(
      static_cast<const uint8_t*>(zero_points) + column * row_bytes, block, plan.bits));
}

// Weights with a group index, decoded into panels of MatMul.
Status PackDecoded(const Context& context, const MatMulNBitsPlan& plan, const uint8_t* b,
                   const float* scales, const void* zero_points, const int32_t* group_index,
                   float* packed) {
  for (int64_t k = 0; k < plan.k; ++k) {
    if (group_index[k] < 0 || group_index[k] >= plan.blocks()) {
      return Status::InvalidArgument("MatMulNBits: g_idx[" + std::to_string(k) + "] is " +
                                     std::to_string(group_index[k]) + ", there are " +
                                     std::to_string(plan.blocks()) + " blocks");
    }
  }
  const int64_t row_bytes = plan.blocks() * plan.block_size * plan.bits / 8;
  ParallelFor(context.parallel, CeilDiv(plan.n, kPanelColumns), [&](int64_t panel) {
    float* to = packed + panel * kPanelColumns * plan.k;
    for (int64_t k = 0; k < plan.k; ++k) {
      for (int64_t j = 0; j < kPanelColumns; ++j) {
        const int64_t column = panel * kPanelColumns + j;
        float weight = 0.0f;
        if (column < plan.n) {
          const int64_t group = group_index[k];
          const auto quantum =
              static_cast<float>(Extract(b + column * row_bytes, k, plan.bits));
          weight = (quantum - ZeroPointOf(plan, zero_points, column, group)) *
                   scales[column * plan.blocks() + group];
        }
        to[k * kPanelColumns + j] = weight;
      }
    }
  });
  return Status::Ok();
}

// gemm.nbits.f32 over decoded weights.
Status MultiplyDecoded(const Context& context, const MatMulNBitsPlan& plan,
                       const MatMulNBitsArgs& args) {
  MatMulArgs matmul;
  matmul.m = args.m;
  matmul.n = plan.n;
  matmul.k = plan.k;
  matmul.a = {args.a, args.a_row_stride, 1};
  matmul.packed_b = static_cast<const float*>(args.packed_b);
  if (args.bias != nullptr) matmul.c = {args.bias, 0, 1};
  matmul.y = args.y;
  matmul.y_row_stride = args.y_row_stride;
  return MatMul(context, matmul);
}

// How many columns one item takes: a multiple of `unit`.
int64_t ItemColumns(int64_t n, int64_t row_blocks, int64_t multiplications, int threads,
                    int64_t unit) {
  const int64_t wanted =
      std::clamp<int64_t>(multiplications / kItemMultiplications, 1, threads > 1 ? 4 * threads : 1);
  const int64_t blocks = CeilDiv(wanted, row_blocks);
  return RoundUp(std::min(CeilDiv(n, blocks), kItemColumns), unit);
}

Status AllocateScratch(const Context& context, int64_t bytes, uint8_t** scratch) {
  *scratch = static_cast<uint8_t*>(
      context.scratch.allocate(context.scratch.self, static_cast<size_t>(bytes)));
  if (*scratch != nullptr) return Status::Ok();
  return Status::OutOfMemory("MatMulNBits could not allocate " + std::to_string(bytes) +
                             " bytes of temporary memory");
}

// Everything one call knows.
struct Call {
  const Context& context;
  const MatMulNBitsPlan& plan;
  const MatMulNBitsArgs& args;
  const NBitsLayout& layout;
  const MatMulNBitsKernels& kernels;

  const uint8_t* Panel(int64_t column) const {
    return static_cast<const uint8_t*>(args.packed_b) + column / kPanelColumns * layout.panel_bytes;
  }
  const float* Bias(int64_t column) const {
    return args.bias == nullptr ? nullptr : args.bias + column;
  }
};

// gemm.nbits.f32, one row: weights are decoded in registers.
Status MultiplyRow(const Call& call) {
  constexpr int64_t kUnit = 4 * kPanelColumns;
  const int64_t columns =
      ItemColumns(call.plan.n, 1, call.plan.n * call.plan.k, call.context.parallel.threads, kUnit);
  ParallelFor(call.context.parallel, CeilDiv(call.plan.n, columns), [&](int64_t item) {
    const int64_t column = item * columns;
    call.kernels.row(call.layout, call.Panel(column), std::min(columns, call.plan.n - column),
                     call.args.a, call.Bias(column), call.args.y + column);
  });
  return Status::Ok();
}

// gemm.nbits.f32, more rows: panels are decoded once for a block of rows, then multiplied as fp32.
Status MultiplyRows(const Call& call) {
  const MatMulNBitsArgs& args = call.args;
  const MatMulNBitsPlan& plan = call.plan;
  const MatMulKernels& matmul = *FindKernels(MatMulKernelTable(), call.context.instruction_set);
  const int threads = call.context.parallel.threads;
  const int64_t row_blocks = CeilDiv(args.m, kBlockRows);
  const int64_t block_rows = CeilDiv(args.m, row_blocks);
  const int64_t panels = matmul.panels_at_once(block_rows);
  const int64_t depth =
      std::min<int64_t>(std::min<int64_t>(256, kDecodedPanelTerms / panels / 16 * 16), plan.k);
  const int64_t columns =
      ItemColumns(plan.n, row_blocks, args.m * plan.n * plan.k, threads, panels * kPanelColumns);
  const int64_t column_blocks = CeilDiv(plan.n, columns);
  const bool packs_a = args.m > matmul.tile_rows;

  const int64_t a_floats = packs_a ? RoundUp(block_rows * depth + kASlack, 16) : 0;
  const int64_t depth_blocks = CeilDiv(plan.k, depth), a_blocks = row_blocks * depth_blocks;
  const bool shares_a = packs_a && column_blocks > 1 && SharedBlocks::Fit(a_blocks, a_floats);

  const int64_t items = row_blocks * column_blocks;
  const int64_t slots = std::min<int64_t>(items, std::max(threads, 1));
  const int64_t b_floats = panels * kPanelColumns * depth;
  const int64_t slot_floats = b_floats + a_floats;
  const int64_t floats =
      slots * slot_floats + (shares_a ? SharedBlocks::Floats(a_blocks, a_floats) : 0);
  uint8_t* scratch = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      AllocateScratch(call.context, floats * static_cast<int64_t>(sizeof(float)), &scratch));
  float* memory = reinterpret_cast<float*>(scratch);
  SharedBlocks shared;
  if (shares_a) shared = SharedBlocks(memory + slots * slot_floats, a_blocks, a_floats);

  std::atomic<int64_t> next = 0;
  ParallelFor(call.context.parallel, slots, [&](int64_t slot) {
    float* decoded = memory + slot * slot_floats;
    float* packed_a = decoded + b_floats;
    for (int64_t item = next++; item < items; item = next++) {
      const int64_t row = item / column_blocks * block_rows;
      const int64_t first_column = item % column_blocks * columns;
      const int64_t end_column = std::min(first_column + columns, plan.n);
      MatMulBlock block;
      block.rows = std::min(block_rows, args.m - row);
      block.a_packed = packs_a;
      block.a_row_stride = args.a_row_stride;
      block.y_row_stride = args.y_row_stride;
      block.b = decoded;
      block.b_is_near = true;
      block.scaled = args.bias != nullptr;
      block.beta = 1.0f;
      block.c_column_stride = 1;
      for (int64_t k = 0; k < plan.k; k += depth) {
        block.depth = std::min(depth, plan.k - k);
        block.b_panel_stride = block.depth * kPanelColumns;
        block.first = k == 0;
        block.last = k + block.depth == plan.k;
        block.a = args.a + row * args.a_row_stride + k;
        if (packs_a) {
          const int64_t index = item / column_blocks * depth_blocks + k / depth;
          block.a = shared.Get(index, packed_a, [&](float* packed) {
            matmul.pack_a(block.rows, block.depth, block.a, args.a_row_stride, 1, packed);
          });
        }
        for (int64_t column = first_column; column < end_column; column += panels * kPanelColumns) {
          block.columns = std::min(panels * kPanelColumns, end_column - column);
          for (int64_t p = 0; p * kPanelColumns < block.columns; ++p) {
            call.kernels.decode(call.layout, call.Panel(column + p * kPanelColumns), k, block.depth,
                                decoded + p * block.b_panel_stride);
          }
          block.y = args.y + row * args.y_row_stride + column;
          block.c = call.Bias(column);
          matmul.block(block);
        }
      }
    }
  });
  return Status::Ok();
}

// gemm.nbits.s8: rows are quantised once, then shared by all columns.
Status MultiplyS8(const Call& call) {
  const MatMulNBitsArgs& args = call.args;
  const MatMulNBitsPlan& plan = call.plan;
  const NBitsLayout& layout = call.layout;
  const int threads = call.context.parallel.threads;
  const int64_t row_bytes = layout.blocks * layout.block_size;
  const int64_t values_bytes = RoundUp(args.m * row_bytes, 64);
  const int64_t sums = args.m * layout.blocks;
  uint8_t* scratch = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllocateScratch(
      call.context, values_bytes + 2 * sums * static_cast<int64_t>(sizeof(float)), &scratch));
  int8_t* values = reinterpret_cast<int8_t*>(scratch);
  float* row_scales = reinterpret_cast<float*>(scratch + values_bytes);
  float* row_sums = row_scales + sums;

  auto quantize = [&](int64_t row) {
    call.kernels.quantize(layout, args.a + row * args.a_row_stride, values + row * row_bytes,
                          row_scales + row * layout.blocks, row_sums + row * layout.blocks);
  };
  const Parallel serial;
  const bool many = args.m * plan.k >= kItemMultiplications;
  ParallelFor(many ? call.context.parallel : serial, args.m, quantize);

  const int64_t most_rows = std::clamp<int64_t>(kBlockBytesS8 / row_bytes / 8 * 8, 16, 128);
  const int64_t row_blocks = CeilDiv(args.m, most_rows);
  const int64_t block_rows = CeilDiv(args.m, row_blocks);
  const int64_t columns =
      ItemColumns(plan.n, row_blocks, args.m * plan.n * plan.k, threads, 4 * kPanelColumns);
  const int64_t column_blocks = CeilDiv(plan.n, columns);
  ParallelFor(call.context.parallel, row_blocks * column_blocks, [&](int64_t item) {
    const int64_t row = item / column_blocks * block_rows;
    const int64_t column = item % column_blocks * columns;
    const NBitsQuantizedRows rows = {values + row * row_bytes, row_scales + row * layout.blocks,
                                     row_sums + row * layout.blocks};
    call.kernels.rows_s8(layout, call.Panel(column), std::min(columns, plan.n - column),
                         std::min(block_rows, args.m - row), rows, call.Bias(column),
                         args.y + row * args.y_row_stride + column, args.y_row_stride);
  });
  return Status::Ok();
}

}  // namespace

const char* MatMulNBitsPlan::contract() const {
  return int8_activations ? contract::kGemmNBitsS8 : contract::kGemmNBitsF32;
}

Status MakeMatMulNBitsPlan(int64_t k, int64_t n, int64_t bits, int64_t block_size,
                           int64_t accuracy_level, ZeroPoints zero_points, MatMulNBitsPlan* plan,
                           bool has_group_index) {
  if (k <= 0 || n <= 0) {
    return Status::InvalidArgument("MatMulNBits needs K and N of 1 or more, got K = " +
                                   std::to_string(k) + " and N = " + std::to_string(n));
  }
  if (bits != 2 && bits != 4 && bits != 8) {
    return Status::InvalidArgument("MatMulNBits takes bits of 2, 4 or 8, got " +
                                   std::to_string(bits));
  }
  if (block_size < 16 || !std::has_single_bit(static_cast<uint64_t>(block_size))) {
    return Status::InvalidArgument(
        "MatMulNBits takes a block_size that is a power of two from 16 on, got " +
        std::to_string(block_size));
  }
  if (block_size > kLargestBlock) {
    return Status::Unsupported("MatMulNBits is served for block_size 16 to 256, got " +
                               std::to_string(block_size));
  }
  if (accuracy_level < 0 || accuracy_level > 4) {
    return Status::InvalidArgument("MatMulNBits takes accuracy_level 0 to 4, got " +
                                   std::to_string(accuracy_level));
  }
  plan->k = k;
  plan->n = n;
  plan->bits = static_cast<int>(bits);
  plan->block_size = block_size;
  plan->zero_points = zero_points;
  plan->has_group_index = has_group_index;
  plan->int8_activations =
      accuracy_level == 4 && zero_points != ZeroPoints::kFloat && !has_group_index;
  return Status::Ok();
}

size_t PackedMatMulNBitsBytes(const MatMulNBitsPlan& plan) {
  if (plan.has_group_index) return PackedMatMulBytes(plan.k, plan.n);
  return static_cast<size_t>(CeilDiv(plan.n, kPanelColumns) * MakeLayout(plan).panel_bytes);
}

Status PackMatMulNBits(const Context& context, const MatMulNBitsPlan& plan, const uint8_t* b,
                       const float* scales, const void* zero_points, void* packed,
                       const int32_t* group_index) {
  if (b == nullptr || scales == nullptr || packed == nullptr) {
    return Status::InvalidArgument(
        "PackMatMulNBits needs weights, scales and a buffer, got a null pointer");
  }
  if ((zero_points == nullptr) != (plan.zero_points == ZeroPoints::kDefault)) {
    return Status::InvalidArgument(
        "PackMatMulNBits needs zero points exactly where the plan has them");
  }
  if ((group_index != nullptr) != plan.has_group_index) {
    return Status::InvalidArgument(
        "PackMatMulNBits needs a group index exactly where the plan has one");
  }
  if (plan.has_group_index) {
    return PackDecoded(context, plan, b, scales, zero_points, group_index,
                       static_cast<float*>(packed));
  }
  const NBitsLayout layout = MakeLayout(plan);
  ParallelFor(context.parallel, CeilDiv(plan.n, kPanelColumns), [&](int64_t panel) {
    PackPanel(plan, layout, b, scales, zero_points, panel * kPanelColumns,
              static_cast<uint8_t*>(packed) + panel * layout.panel_bytes);
  });
  return Status::Ok();
}

Status MatMulNBits(const Context& context, const MatMulNBitsPlan& plan,
                   const MatMulNBitsArgs& args) {
  const MatMulNBitsKernels* kernels =
      FindKernels(MatMulNBitsKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::InvalidArgument("MatMulNBits has no kernels for instruction set " +
                                   std::string(Name(context.instruction_set)) + " in this build");
  }
  if (args.m < 0) {
    return Status::InvalidArgument("MatMulNBits takes 0 rows or more, got " +
                                   std::to_string(args.m));
  }
  if (args.m == 0) return Status::Ok();
  if (args.a == nullptr || args.packed_b == nullptr || args.y == nullptr) {
    return Status::InvalidArgument(
        "MatMulNBits needs activations, packed weights and an output, got a null pointer");
  }
  if (plan.has_group_index) return MultiplyDecoded(context, plan, args);
  const NBitsLayout layout = MakeLayout(plan);
  const Call call = {context, plan, args, layout, *kernels};
  if (plan.int8_activations) return MultiplyS8(call);
  return args.m == 1 ? MultiplyRow(call) : MultiplyRows(call);
}

}  // namespace batch_invariant::cpu
