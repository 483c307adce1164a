// fp32 matrix product over sixteen lanes, contract gemm.f32.
//
//   y[i, j] = fma(beta, c[i, j], alpha * acc[i, j]),  acc = sum over k of a[i, k] * b[k, j]
//
// Layouts: b in panels of sixteen columns, [panel][k][16]; a by rows, or packed in tiles of rows,
// [tile][k][rows of the tile]; y and c by rows.
// Order: one fp32 accumulator for each y[i, j], from +0, one fused multiply-add for each k
// ascending. A block that is not the last along K leaves its accumulators in y, which rounds
// nothing. Free: the rows and panels of a tile, the depth of a block, the order of tiles, threads.
// Lanes are columns, so the tile's shape cannot be seen in any accumulator.
//
// Included by matmul_<set>.cc after that set's SIMD header.
#include "kernels/cpu/matmul/matmul_kernels.h"

namespace batch_invariant::cpu::BI_SIMD {

// A tile keeps rows * panels accumulators in registers, and needs some for b and a.
inline constexpr int kTileRows = kVectorRegisters >= 32 ? 12 : kVectorRegisters >= 8 ? 6 : 2;
inline constexpr int kTileAccumulators = kVectorRegisters >= 32 ? 24 : kTileRows;
static_assert(kTileRows <= kTransposedRows);
inline constexpr int kMostPanels = kVectorRegisters >= 32 ? 8 : 4;
constexpr int TilePanels(int rows) {
  const int fitting = kTileAccumulators / rows;
  const int panels = fitting < 1 ? 1 : fitting;
  return panels < kMostPanels ? panels : kMostPanels;
}

// What a tile brings nearer while it multiplies: in its term k, a line of kStreams panels by turns,
// `step` bytes further each time. Tiles of few rows read many panels side by side, which the
// processor's own prefetching serves better.
inline constexpr int kStreams = 4;
inline constexpr int kFetchingRows = 4;
inline constexpr int64_t kRowsAhead = 64;
struct Fetch {
  const char* from;  // null: nothing
  int64_t stream_stride;
  int64_t step;
};
template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};

// Rows are spread evenly over the tiles, so that none is left with a single row.
struct TileRows {
  int64_t tiles, each, larger;  // the first `larger` tiles have one row more than `each`

  BI_INLINE int most() const { return static_cast<int>(each + (larger > 0 ? 1 : 0)); }
};
BI_INLINE TileRows SplitRows(int64_t rows) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return {tiles, rows / tiles, rows % tiles};
}

BI_INLINE F32x16 LoadC(const MatMulBlock& block, int64_t row, int64_t column, int count) {
  const float* c = block.c + row * block.c_row_stride + column * block.c_column_stride;
  if (block.c_column_stride == 1) return LoadPartial(c, count);
  if (block.c_column_stride == 0) return Splat(*c);
  float values[16] = {};
  for (int i = 0; i < count; ++i) values[i] = c[i * block.c_column_stride];
  return Load(values);
}

BI_INLINE F32x16 Finish(const MatMulBlock& block, F32x16 acc, int64_t row, int64_t column,
                        int count) {
  if (block.scaled) {
    acc = Mul(acc, Splat(block.alpha));
    if (block.c != nullptr) acc = Fma(Splat(block.beta), LoadC(block, row, column, count), acc);
  }
  return Canonical(acc);
}

template <int kRows, int kPanels, bool kPackedA, bool kPackedB>
static void Tile(const MatMulBlock& block, const float* a, const float* b, Fetch fetch,
                 int64_t row, int64_t column) {
  const int64_t a_row_stride = kPackedA ? 1 : block.a_row_stride;
  constexpr int64_t kAColumnStride = kPackedA ? kRows : 1;
  const int64_t b_row_stride = kPackedB ? kPanelColumns : block.b_row_stride;
  const int64_t b_panel_stride = block.b_panel_stride;
  float* y = block.y + row * block.y_row_stride + column;
  const int64_t left = block.columns - column - kPanelColumns * (kPanels - 1);
  const int last_count = static_cast<int>(left < kPanelColumns ? left : kPanelColumns);
  const bool full = last_count == kPanelColumns;

  F32x16 acc[kRows][kPanels];
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const float* from = y + r * block.y_row_stride + p * kPanelColumns;
      acc[r][p] = block.first               ? ZeroF32()
                  : full || p + 1 < kPanels ? Load(from)
                                            : LoadPartial(from, last_count);
    }
  }
  const auto multiply = [&](auto fetches) BI_INLINE_LAMBDA {
    for (int64_t k = 0; k < block.depth; ++k, a += kAColumnStride, b += b_row_stride) {
      F32x16 b_row[kPanels];
      BI_UNROLL
      for (int p = 0; p < kPanels; ++p) b_row[p] = Load(b + p * b_panel_stride);
      if constexpr (fetches.value) {
        const char* line = fetch.from + (k & (kStreams - 1)) * fetch.stream_stride + k * fetch.step;
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) Prefetch(line + p * b_panel_stride * sizeof(float));
      }
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const F32x16 a_value = Splat(a[r * a_row_stride]);
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) acc[r][p] = Fma(a_value, b_row[p], acc[r][p]);
      }
    }
  };
  constexpr bool kMayFetch = kRows >= kFetchingRows - 1;  // beside a tile of one row more
  if (kMayFetch && fetch.from != nullptr) {
    multiply(Constant<kMayFetch>{});
  } else {
    multiply(Constant<false>{});
  }
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const int count = p + 1 < kPanels ? kPanelColumns : last_count;
      F32x16 result = acc[r][p];
      if (block.last) {
        result = Finish(block, result, row + r, column + p * kPanelColumns, count);
      }
      float* to = y + r * block.y_row_stride + p * kPanelColumns;
      if (full || p + 1 < kPanels) {
        Store(to, result);
      } else {
        StorePartial(to, result, count);
      }
    }
  }
}

using TileFunction = void (*)(const MatMulBlock&, const float*, const float*, Fetch, int64_t,
                              int64_t);

// A single tile of rows fetches ahead in its own panels. Of several, the first ones share the panels
// that follow, so that memory is read while the panels in the cache are multiplied.
BI_INLINE Fetch FetchOf(const MatMulBlock& block, const float* b, int64_t panels_at_once,
                        int64_t turn, int64_t tiles, int64_t tile, int64_t most_rows) {
  constexpr int64_t kLine = 64;
  constexpr int64_t kFetchingTiles = 4;
  const int64_t bytes = sizeof(float);
  if (block.b_is_near || most_rows < kFetchingRows) return {};
  if (tiles == 1) {
    return {reinterpret_cast<const char*>(b + kRowsAhead * block.b_row_stride), 0,
            block.b_row_stride * bytes};
  }
  if (tile >= kFetchingTiles) return {};
  if (tiles > kFetchingTiles) tiles = kFetchingTiles;
  const int64_t panels = (block.columns + kPanelColumns - 1) / kPanelColumns;
  const int64_t next = (turn / kStreams + 1) * kStreams * panels_at_once;
  const float* from = next < panels ? block.b + next * block.b_panel_stride
                      : block.last  ? b
                                    : block.b + block.depth * block.b_row_stride;
  const int64_t passed = (turn % kStreams * tiles + tile) * block.depth;
  return {reinterpret_cast<const char*>(from) + passed * (kLine / kStreams) / tiles,
          panels_at_once * block.b_panel_stride * bytes,
          (kLine / kStreams + tiles - 1) / tiles};
}

// By rows of the tile (first entry: one row). `wide` takes TilePanels(rows) panels, `narrow` one,
// and `uneven` as many as its neighbours of one row more.
struct TileFunctions {
  TileFunction wide[kTileRows];
  TileFunction uneven[kTileRows];
  TileFunction narrow[kTileRows];
};
template <int kRows, bool kPackedA, bool kPackedB>
constexpr void AddTiles(TileFunctions& functions) {
  functions.wide[kRows - 1] = &Tile<kRows, TilePanels(kRows), kPackedA, kPackedB>;
  functions.uneven[kRows - 1] = &Tile<kRows, TilePanels(kRows + 1), kPackedA, kPackedB>;
  functions.narrow[kRows - 1] = &Tile<kRows, 1, kPackedA, kPackedB>;
  if constexpr (kRows > 1) AddTiles<kRows - 1, kPackedA, kPackedB>(functions);
}
template <bool kPackedA, bool kPackedB>
constexpr TileFunctions MakeTiles() {
  TileFunctions functions = {};
  AddTiles<kTileRows, kPackedA, kPackedB>(functions);
  return functions;
}
template <bool kPackedA, bool kPackedB>
inline constexpr TileFunctions kTiles = MakeTiles<kPackedA, kPackedB>();

template <bool kPackedA, bool kPackedB>
static void Tiles(const MatMulBlock& block) {
  const TileFunctions& functions = kTiles<kPackedA, kPackedB>;
  const TileRows split = SplitRows(block.rows);
  const int most_rows = split.most();
  const int panels_at_once = TilePanels(most_rows);
  int64_t column = 0;
  for (int64_t turn = 0; column < block.columns; ++turn) {
    const int64_t panels = (block.columns - column + kPanelColumns - 1) / kPanelColumns;
    const bool wide = panels >= panels_at_once;
    const float* b = block.b + column / kPanelColumns * block.b_panel_stride;
    int64_t row = 0;
    // All tiles of rows pass over the same panels while these are in the first-level cache.
    for (int64_t tile = 0; tile < split.tiles; ++tile) {
      const int rows = static_cast<int>(split.each + (tile < split.larger ? 1 : 0));
      const float* a = block.a + row * (kPackedA ? block.depth : block.a_row_stride);
      const TileFunction* by_rows = !wide              ? functions.narrow
                                    : rows < most_rows ? functions.uneven
                                                       : functions.wide;
      const Fetch fetch = FetchOf(block, b, panels_at_once, turn, split.tiles, tile, most_rows);
      by_rows[rows - 1](block, a, b, fetch, row, column);
      row += rows;
    }
    column += kPanelColumns * (wide ? panels_at_once : 1);
  }
}

static void MultiplyBlock(const MatMulBlock& block) {
  if (block.a_packed) {
    Tiles<true, true>(block);
  } else if (block.b_row_stride == kPanelColumns) {
    Tiles<false, true>(block);
  } else {
    Tiles<false, false>(block);
  }
}

static int PanelsAtOnce(int64_t rows) { return TilePanels(SplitRows(rows).most()); }

static void PackA(int64_t rows, int64_t depth, const float* a, int64_t row_stride,
                  int64_t column_stride, float* packed) {
  const TileRows split = SplitRows(rows);
  for (int64_t tile = 0; tile < split.tiles; ++tile) {
    const int64_t count = split.each + (tile < split.larger ? 1 : 0);
    int64_t k = 0;
    if (column_stride == 1) {
      for (; k + 16 <= depth; k += 16) {
        F32x16 square[kTransposedRows];
        for (int r = 0; r < kTransposedRows; ++r) {
          square[r] = r < count ? Load(a + r * row_stride + k) : ZeroF32();
        }
        // What it writes beyond the tile is overwritten by the next one or falls into kASlack.
        StoreTransposed(square, static_cast<int>(count), packed + k * count);
      }
    }
    for (; k < depth; ++k) {
      for (int64_t r = 0; r < count; ++r) {
        packed[k * count + r] = a[r * row_stride + k * column_stride];
      }
    }
    a += count * row_stride;
    packed += count * depth;
  }
}

static void PackB(int64_t depth, int64_t columns, const float* b, int64_t row_stride,
                  int64_t column_stride, float* packed) {
  for (int64_t column = 0; column < columns; column += kPanelColumns) {
    const int64_t left = columns - column;
    const int count = static_cast<int>(left < kPanelColumns ? left : kPanelColumns);
    const float* from = b + column * column_stride;
    int64_t k = 0;
    if (column_stride == 1) {
      if (count == kPanelColumns) {
        for (; k < depth; ++k) Store(packed + k * kPanelColumns, Load(from + k * row_stride));
      }
      for (; k < depth; ++k) {
        Store(packed + k * kPanelColumns, LoadPartial(from + k * row_stride, count));
      }
    } else {
      if (row_stride == 1) {
        for (; k + 16 <= depth; k += 16) {
          F32x16 square[16];
          for (int j = 0; j < 16; ++j) {
            square[j] = j < count ? Load(from + j * column_stride + k) : ZeroF32();
          }
          Transpose(square);
          for (int i = 0; i < 16; ++i) Store(packed + (k + i) * kPanelColumns, square[i]);
        }
      }
      for (; k < depth; ++k) {
        for (int j = 0; j < kPanelColumns; ++j) {
          packed[k * kPanelColumns + j] =
              j < count ? from[k * row_stride + j * column_stride] : 0.0f;
        }
      }
    }
    packed += depth * kPanelColumns;
  }
}

extern const MatMulKernels kMatMulKernels;
const MatMulKernels kMatMulKernels = {
    kInstructionSet, kTileRows,     256 / TilePanels(kTileRows), PanelsAtOnce, PackA,
    PackB,           MultiplyBlock,
};

}  // namespace batch_invariant::cpu::BI_SIMD
