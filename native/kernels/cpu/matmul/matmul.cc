// Checks a product, cuts it into items for the threads, and each item into blocks for the kernels.
#include "batch_invariant/cpu/matmul.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "kernels/cpu/dispatch/kernel_table.h"
#include "kernels/cpu/matmul/matmul_kernels.h"
#include "kernels/cpu/matmul/shared_blocks.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(MatMulKernels, kMatMulKernels, MatMulKernelTable)

namespace {

constexpr int64_t kBlockRows = 192;                // rows of a kept in the second-level cache
constexpr int64_t kItemColumns = 512;              // of a constant b
constexpr int64_t kComputedItemColumns = 256;      // of a computed b, packed for each item
constexpr int64_t kItemMultiplications = 1 << 16;  // fewer are not worth another thread

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

Status KernelsFor(const Context& context, const MatMulKernels** kernels) {
  *kernels = FindKernels(MatMulKernelTable(), context.instruction_set);
  if (*kernels != nullptr) return Status::Ok();
  return Status::InvalidArgument("MatMul has no kernels for instruction set " +
                                 std::string(Name(context.instruction_set)) + " in this build");
}

// How the outputs of one product are cut. The grid is all that the number of rows decides.
struct Grid {
  int64_t block_rows, row_blocks;
  int64_t block_columns, column_blocks;

  int64_t size() const { return row_blocks * column_blocks; }
};

Grid MakeGrid(const MatMulArgs& args, const MatMulKernels& kernels, int threads) {
  Grid grid;
  grid.block_rows = args.m <= kBlockRows ? args.m : CeilDiv(args.m, CeilDiv(args.m, kBlockRows));
  grid.row_blocks = CeilDiv(args.m, grid.block_rows);

  const int64_t work = args.m * args.n * std::max<int64_t>(args.k, 1) * args.batch;
  const int64_t wanted =
      std::clamp<int64_t>(work / kItemMultiplications, 1, threads > 1 ? 4 * threads : 1);
  const bool packs_b =
      args.packed_b == nullptr && (args.b.column_stride != 1 || args.m > kernels.tile_rows);
  const int64_t most_columns = packs_b                                       ? kComputedItemColumns
                               : args.m <= kernels.tile_rows && threads <= 1 ? args.n
                                                                             : kItemColumns;
  const int64_t least_blocks = CeilDiv(args.n, most_columns);
  const int64_t blocks = std::max(least_blocks, CeilDiv(wanted, grid.row_blocks * args.batch));
  grid.block_columns = CeilDiv(CeilDiv(args.n, blocks), kPanelColumns) * kPanelColumns;
  grid.column_blocks = CeilDiv(args.n, grid.block_columns);
  return grid;
}

// Temporary memory of one item at a time.
struct ItemScratch {
  float* a = nullptr;
  float* b = nullptr;
};

class Product {
 public:
  Product(const MatMulArgs& args, const MatMulKernels& kernels, int threads)
      : args_(args), kernels_(kernels), grid_(MakeGrid(args, kernels, threads)) {
    packs_a_ = args.m > kernels.tile_rows || args.a.column_stride != 1;
    // A row-major b is read in place by a single tile of rows, except for its last columns.
    b_in_place_ = args.packed_b == nullptr && args.b.column_stride == 1 && !packs_a_;
    needs_b_scratch_ = args.packed_b == nullptr && (!b_in_place_ || args.n % kPanelColumns != 0);
    splits_depth_ = packs_a_ || needs_b_scratch_;
    shares_a_ = packs_a_ && args.batch == 1 && grid_.column_blocks > 1 &&
                SharedBlocks::Fit(shared_blocks(), a_floats());
  }

  int64_t items() const { return grid_.size() * args_.batch; }
  int64_t depth() const { return splits_depth_ ? kernels_.block_depth : args_.k; }
  int64_t a_floats() const {
    return packs_a_ ? grid_.block_rows * std::min(depth(), args_.k) + kASlack : 0;
  }
  int64_t b_floats() const {
    return needs_b_scratch_
               ? (b_in_place_ ? kPanelColumns : grid_.block_columns) * std::min(depth(), args_.k)
               : 0;
  }

  int64_t shared_floats() const {
    return shares_a_ ? SharedBlocks::Floats(shared_blocks(), a_floats()) : 0;
  }
  void ShareA(float* memory) {
    if (shares_a_) shared_ = SharedBlocks(memory, shared_blocks(), a_floats());
  }

  void Run(int64_t item, const ItemScratch& scratch) const {
    const int64_t product = item / grid_.size();
    // Blocks of rows that share columns follow each other, while b is in the last-level cache.
    int64_t column = item % grid_.size() / grid_.row_blocks * grid_.block_columns;
    const int64_t row = item % grid_.row_blocks * grid_.block_rows;
    const int64_t rows = std::min(grid_.block_rows, args_.m - row);
    int64_t columns = std::min(grid_.block_columns, args_.n - column);
    if (b_in_place_) {
      const int64_t whole = columns / kPanelColumns * kPanelColumns;
      if (whole > 0) RunBlocks(product, row, rows, column, whole, args_.k, true, scratch);
      column += whole;
      columns -= whole;
    }
    if (columns > 0) RunBlocks(product, row, rows, column, columns, depth(), false, scratch);
  }

 private:
  int64_t depth_blocks() const { return CeilDiv(args_.k, depth()); }
  int64_t shared_blocks() const { return grid_.row_blocks * depth_blocks(); }

  void RunBlocks(int64_t product, int64_t row, int64_t rows, int64_t column, int64_t columns,
                 int64_t depth, bool b_in_place, const ItemScratch& scratch) const {
    const float* a = args_.a.data;
    if (a != nullptr) a += Offset(args_.a_offsets, product) + row * args_.a.row_stride;
    const int64_t b_offset = Offset(args_.b_offsets, product);

    MatMulBlock block;
    block.rows = rows;
    block.columns = columns;
    block.y = args_.y + product * args_.y_batch_stride + row * args_.y_row_stride + column;
    block.y_row_stride = args_.y_row_stride;
    block.alpha = args_.alpha;
    block.beta = args_.beta;
    if (args_.c.data != nullptr && args_.beta != 0.0f) {
      block.c = args_.c.data + row * args_.c.row_stride + column * args_.c.column_stride;
      block.c_row_stride = args_.c.row_stride;
      block.c_column_stride = args_.c.column_stride;
    }
    block.scaled = args_.alpha != 1.0f || block.c != nullptr;
    block.a_packed = packs_a_;
    block.a_row_stride = a == nullptr ? 0 : args_.a.row_stride;

    for (int64_t k = 0; block.first || k < args_.k; k += depth) {
      block.depth = std::min(depth, args_.k - k);
      block.last = k + block.depth == args_.k;
      if (block.depth > 0) {
        block.a = a + k * args_.a.column_stride;
        if (packs_a_) {
          const int64_t index = row / grid_.block_rows * depth_blocks() + k / depth;
          block.a = shared_.Get(index, scratch.a, [&](float* packed) {
            kernels_.pack_a(rows, block.depth, block.a, args_.a.row_stride, args_.a.column_stride,
                            packed);
          });
        }
        if (args_.packed_b != nullptr) {
          block.b = args_.packed_b + b_offset + column * args_.k + k * kPanelColumns;
          block.b_panel_stride = args_.k * kPanelColumns;
        } else {
          block.b =
              args_.b.data + b_offset + k * args_.b.row_stride + column * args_.b.column_stride;
          if (b_in_place) {
            block.b_row_stride = args_.b.row_stride;
            block.b_panel_stride = kPanelColumns;
          } else {
            kernels_.pack_b(block.depth, columns, block.b, args_.b.row_stride,
                            args_.b.column_stride, scratch.b);
            block.b = scratch.b;
            block.b_is_near = true;
            block.b_panel_stride = block.depth * kPanelColumns;
          }
        }
      }
      kernels_.block(block);
      block.first = false;
      if (block.last) break;
    }
  }

  static int64_t Offset(const int64_t* offsets, int64_t product) {
    return offsets == nullptr ? 0 : offsets[product];
  }

  const MatMulArgs& args_;
  const MatMulKernels& kernels_;
  Grid grid_;
  bool packs_a_ = false;
  bool b_in_place_ = false;
  bool needs_b_scratch_ = false;
  bool splits_depth_ = false;
  bool shares_a_ = false;
  SharedBlocks shared_;
};

}  // namespace

size_t PackedMatMulBytes(int64_t k, int64_t n) {
  return static_cast<size_t>(CeilDiv(n, kPanelColumns) * kPanelColumns * k) * sizeof(float);
}

Status PackMatMul(const Context& context, int64_t k, int64_t n, const MatrixView& b,
                  float* packed) {
  const MatMulKernels* kernels = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(KernelsFor(context, &kernels));
  if (k < 0 || n < 0) {
    return Status::InvalidArgument("PackMatMul takes sizes of 0 or more, got k = " +
                                   std::to_string(k) + " and n = " + std::to_string(n));
  }
  if (k == 0 || n == 0) return Status::Ok();
  if (b.data == nullptr || packed == nullptr) {
    return Status::InvalidArgument("PackMatMul needs a matrix and a buffer, got a null pointer");
  }
  constexpr int64_t kColumnsOfItem = 64;
  ParallelFor(context.parallel, CeilDiv(n, kColumnsOfItem), [&](int64_t item) {
    const int64_t column = item * kColumnsOfItem;
    kernels->pack_b(k, std::min(kColumnsOfItem, n - column), b.data + column * b.column_stride,
                    b.row_stride, b.column_stride, packed + column * k);
  });
  return Status::Ok();
}

Status MatMul(const Context& context, const MatMulArgs& args) {
  const MatMulKernels* kernels = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(KernelsFor(context, &kernels));
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch < 0) {
    return Status::InvalidArgument(
        "MatMul takes sizes of 0 or more, got m = " + std::to_string(args.m) +
        ", n = " + std::to_string(args.n) + ", k = " + std::to_string(args.k) +
        ", batch = " + std::to_string(args.batch));
  }
  if (args.m == 0 || args.n == 0 || args.batch == 0) return Status::Ok();
  if (args.y == nullptr) return Status::InvalidArgument("MatMul needs an output, got null");
  if (args.k > 0) {
    if (args.a.data == nullptr) return Status::InvalidArgument("MatMul needs a, got null");
    if ((args.b.data == nullptr) == (args.packed_b == nullptr)) {
      return Status::InvalidArgument("MatMul needs either b or packed_b, got both or neither");
    }
  }

  Product product(args, *kernels, context.parallel.threads);
  const int64_t slots = std::min<int64_t>(product.items(), std::max(context.parallel.threads, 1));
  const int64_t floats_of_slot =
      CeilDiv(product.a_floats(), 16) * 16 + CeilDiv(product.b_floats(), 16) * 16;
  const int64_t floats = slots * floats_of_slot + product.shared_floats();
  float* scratch = nullptr;
  if (floats > 0) {
    const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
    scratch = static_cast<float*>(context.scratch.allocate(context.scratch.self, bytes));
    if (scratch == nullptr) {
      return Status::OutOfMemory("MatMul could not allocate " + std::to_string(bytes) +
                                 " bytes of temporary memory");
    }
  }
  product.ShareA(scratch + slots * floats_of_slot);
  // Each slot owns one piece of scratch and takes items until none is left.
  std::atomic<int64_t> next = 0;
  ParallelFor(context.parallel, slots, [&](int64_t slot) {
    ItemScratch item_scratch;
    if (scratch != nullptr) {
      item_scratch.a = scratch + slot * floats_of_slot;
      item_scratch.b = item_scratch.a + CeilDiv(product.a_floats(), 16) * 16;
    }
    for (int64_t item = next++; item < product.items(); item = next++) {
      product.Run(item, item_scratch);
    }
  });
  return Status::Ok();
}

}  // namespace batch_invariant::cpu
