// Products with weights of 2, 4 or 8 bits over sixteen lanes.
//
//   gemm.nbits.f32  w[k] = (q[k] - zero) * scale; acc = fma(a[k], w[k], acc) for k ascending; +
//   bias gemm.nbits.s8   d = sum of qa[k] * (q[k] - zero) over a block, exact;
//                   acc = fma(float(d), s_a * scale, acc) for blocks ascending; + bias
//
// Layout: NBitsLayout. Lanes are columns.
// Order: one fp32 accumulator for each output, from +0, in the order above. q - zero is exact in
// fp32, and so is d: at most 256 * 255 * 127 < 2^24. Free: rows and panels at once, threads, where
// weights are decoded to, how d is summed.
//
// Included by matmul_nbits_<set>.cc after that set's SIMD header.
#include "kernels/cpu/matmul_nbits/matmul_nbits_kernels.h"

namespace batch_invariant::cpu::BI_SIMD {

inline constexpr int64_t kColumns = 16;     // of a panel
inline constexpr int64_t kGroupBytes = 64;  // of 32 / bits terms

template <int kBits>
inline constexpr int kGroupTerms = 32 / kBits;
template <int kBits>
inline constexpr int32_t kTermMask = (1 << kBits) - 1;

BI_INLINE F32x16 LoadScales(const uint8_t* record) {
  return Load(reinterpret_cast<const float*>(record));
}

template <int kBits>
BI_INLINE F32x16 LoadZeroPoints(const NBitsLayout& layout, const uint8_t* record) {
  const uint8_t* zeros = record + layout.zero_points_offset;
  switch (layout.zero_points) {
    case ZeroPoints::kPacked:
      return ToF32(LoadU8(zeros));
    case ZeroPoints::kFloat:
      return Load(reinterpret_cast<const float*>(zeros));
    default:
      return Splat(static_cast<float>(1 << (kBits - 1)));
  }
}

// Term kTerm of a group, still as an integer.
template <int kBits, int kTerm>
BI_INLINE I32x16 Term(I32x16 group) {
  constexpr int kShift = 8 * (kTerm % 4) + kBits * (kTerm / 4);
  const I32x16 shifted = ShiftRight<kShift>(group);
  return kShift + kBits == 32 ? shifted : And(shifted, Splat(kTermMask<kBits>));
}
template <int kBits, int kTerm>
BI_INLINE F32x16 Weight(I32x16 group, F32x16 zero, F32x16 scale) {
  return Mul(Sub(ToF32(Term<kBits, kTerm>(group)), zero), scale);
}

template <int kBits, int kTerm = 0>
BI_INLINE void DecodeGroup(I32x16 group, F32x16 zero, F32x16 scale, int64_t count, float* weights) {
  if (kTerm < count) {
    Store(weights + kTerm * kColumns, Weight<kBits, kTerm>(group, zero, scale));
    if constexpr (kTerm + 1 < kGroupTerms<kBits>) {
      DecodeGroup<kBits, kTerm + 1>(group, zero, scale, count, weights);
    }
  }
}

template <int kBits>
static void DecodePanel(const NBitsLayout& layout, const uint8_t* panel, int64_t first,
                        int64_t depth, float* weights) {
  constexpr int64_t kTerms = kGroupTerms<kBits>;
  while (depth > 0) {
    const uint8_t* record = panel + first / layout.block_size * layout.record_bytes;
    const F32x16 zero = LoadZeroPoints<kBits>(layout, record);
    const F32x16 scale = LoadScales(record);
    const int64_t inside = first % layout.block_size;
    const uint8_t* groups = record + layout.weights_offset + inside / kTerms * kGroupBytes;
    const int64_t left = layout.block_size - inside;
    const int64_t count = depth < left ? depth : left;
    int64_t term = 0;
    for (; term + kTerms <= count; term += kTerms) {
      DecodeGroup<kBits>(LoadI32(groups), zero, scale, kTerms, weights + term * kColumns);
      groups += kGroupBytes;
    }
    if (term < count) {
      DecodeGroup<kBits>(LoadI32(groups), zero, scale, count - term, weights + term * kColumns);
    }
    weights += count * kColumns;
    first += count;
    depth -= count;
  }
}

static void Decode(const NBitsLayout& layout, const uint8_t* panel, int64_t first, int64_t depth,
                   float* weights) {
  switch (layout.bits) {
    case 2:
      return DecodePanel<2>(layout, panel, first, depth, weights);
    case 4:
      return DecodePanel<4>(layout, panel, first, depth, weights);
    default:
      return DecodePanel<8>(layout, panel, first, depth, weights);
  }
}

// One row.

template <int kBits, int kPanels, int kTerm = 0>
BI_INLINE void MultiplyGroup(const I32x16 (&group)[kPanels], const F32x16 (&zero)[kPanels],
                             const F32x16 (&scale)[kPanels], const float* a, int64_t count,
                             F32x16 (&acc)[kPanels]) {
  if (kTerm < count) {
    const F32x16 value = Splat(a[kTerm]);
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      acc[p] = Fma(value, Weight<kBits, kTerm>(group[p], zero[p], scale[p]), acc[p]);
    }
    if constexpr (kTerm + 1 < kGroupTerms<kBits>) {
      MultiplyGroup<kBits, kPanels, kTerm + 1>(group, zero, scale, a, count, acc);
    }
  }
}

BI_INLINE void StoreOutput(F32x16 acc, const float* bias, float* y, int64_t count) {
  if (count >= kColumns) {
    if (bias != nullptr) acc = Add(acc, Load(bias));
    Store(y, Canonical(acc));
  } else {
    const int lanes = static_cast<int>(count);
    if (bias != nullptr) acc = Add(acc, LoadPartial(bias, lanes));
    StorePartial(y, Canonical(acc), lanes);
  }
}

template <int kBits, int kPanels>
static void RowPanels(const NBitsLayout& layout, const uint8_t* panels, int64_t columns,
                      const float* a, const float* bias, float* y) {
  constexpr int64_t kTerms = kGroupTerms<kBits>;
  F32x16 acc[kPanels];
  BI_UNROLL
  for (int p = 0; p < kPanels; ++p) acc[p] = ZeroF32();
  for (int64_t first = 0; first < layout.k; first += layout.block_size) {
    F32x16 zero[kPanels], scale[kPanels];
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const uint8_t* record = panels + p * layout.panel_bytes;
      zero[p] = LoadZeroPoints<kBits>(layout, record);
      scale[p] = LoadScales(record);
    }
    const int64_t left = layout.k - first;
    const int64_t count = left < layout.block_size ? left : layout.block_size;
    const uint8_t* groups = panels + layout.weights_offset;
    I32x16 group[kPanels];
    int64_t term = 0;
    for (; term + kTerms <= count; term += kTerms) {
      BI_UNROLL
      for (int p = 0; p < kPanels; ++p) group[p] = LoadI32(groups + p * layout.panel_bytes);
      MultiplyGroup<kBits, kPanels>(group, zero, scale, a + first + term, kTerms, acc);
      groups += kGroupBytes;
    }
    if (term < count) {
      BI_UNROLL
      for (int p = 0; p < kPanels; ++p) group[p] = LoadI32(groups + p * layout.panel_bytes);
      MultiplyGroup<kBits, kPanels>(group, zero, scale, a + first + term, count - term, acc);
    }
    panels += layout.record_bytes;
  }
  BI_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    const int64_t column = p * kColumns;
    StoreOutput(acc[p], bias == nullptr ? nullptr : bias + column, y + column, columns - column);
  }
}

// Enough panels to cover the latency of each one's chain of multiply-adds.
inline constexpr int kRowPanels = kVectorRegisters >= 32 ? 4 : kVectorRegisters >= 8 ? 2 : 1;

template <int kBits>
static void RowOfBits(const NBitsLayout& layout, const uint8_t* panels, int64_t columns,
                      const float* a, const float* bias, float* y) {
  int64_t column = 0;
  while (column < columns) {
    const bool wide = columns - column > kColumns * (kRowPanels - 1);
    const float* bias_here = bias == nullptr ? nullptr : bias + column;
    if (wide) {
      RowPanels<kBits, kRowPanels>(layout, panels, columns - column, a, bias_here, y + column);
    } else {
      RowPanels<kBits, 1>(layout, panels, columns - column, a, bias_here, y + column);
    }
    column += kColumns * (wide ? kRowPanels : 1);
    panels += layout.panel_bytes * (wide ? kRowPanels : 1);
  }
}

static void Row(const NBitsLayout& layout, const uint8_t* panels, int64_t columns, const float* a,
                const float* bias, float* y) {
  switch (layout.bits) {
    case 2:
      return RowOfBits<2>(layout, panels, columns, a, bias, y);
    case 4:
      return RowOfBits<4>(layout, panels, columns, a, bias, y);
    default:
      return RowOfBits<8>(layout, panels, columns, a, bias, y);
  }
}

// int8 activations.

static void Quantize(const NBitsLayout& layout, const float* a, int8_t* values, float* scales,
                     float* sums) {
  for (int64_t block = 0; block < layout.blocks; ++block) {
    const int64_t first = block * layout.block_size;
    const int64_t count =
        layout.k - first < layout.block_size ? layout.k - first : layout.block_size;
    // Magnitudes order like their bits, NaN above all, so the order of comparison cannot be seen.
    I32x16 largest_bits = ZeroI32();
    for (int64_t i = 0; i < count; i += 16) {
      const int64_t left = count - i;
      const F32x16 x =
          left >= 16 ? Load(a + first + i) : LoadPartial(a + first + i, static_cast<int>(left));
      largest_bits = Max(largest_bits, BitsOf(Abs(x)));
    }
    const int32_t bits = ReduceMax(largest_bits);
    float largest;
    memcpy(&largest, &bits, sizeof(largest));
    const F32x16 inverse = Splat(bits == 0 ? 0.0f : 127.0f / largest);
    I32x16 sum = ZeroI32();
    for (int64_t i = 0; i < layout.block_size; i += 16) {
      const int64_t left = count - i;
      const F32x16 x = left >= 16
                           ? Load(a + first + i)
                           : LoadPartial(a + first + i, static_cast<int>(left > 0 ? left : 0));
      const F32x16 scaled = Mul(x, inverse);
      const F32x16 number = Select(IsNan(scaled), ZeroF32(), scaled);
      const I32x16 q = ToI32(Max(Splat(-127.0f), Min(Splat(127.0f), number)));
      sum = Add(sum, q);
      StoreI8(values + first + i, q);
    }
    scales[block] = largest / 127.0f;
    sums[block] = static_cast<float>(ReduceAdd(sum));
  }
}

BI_INLINE I32x16 SplatFour(const int8_t* values) {
  int32_t four;
  memcpy(&four, values, sizeof(four));
  return Splat(four);
}

// Sums of one group's products: field kField of each byte, then the next one.
template <int kBits, int kRows, int kPanels, int kField = 0>
BI_INLINE void DotGroup(const I32x16 (&group)[kPanels], const int8_t* a, int64_t a_stride,
                        DotSum (&sum)[kRows][kPanels]) {
  I32x16 terms[kPanels];
  BI_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    terms[p] = And(ShiftRight<kBits * kField>(group[p]), Splat(kTermMask<kBits> * 0x01010101));
  }
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const I32x16 values = SplatFour(a + r * a_stride + 4 * kField);
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) sum[r][p] = DotAddU4(sum[r][p], terms[p], values);
  }
  if constexpr (kField + 1 < 8 / kBits) {
    DotGroup<kBits, kRows, kPanels, kField + 1>(group, a, a_stride, sum);
  }
}

// total[r][p] = sum of qa * (q - offset) over a block; offset is kDotU8Offset for 8 bits, else 0.
template <int kBits, int kRows, int kPanels>
BI_INLINE void DotBlock(const NBitsLayout& layout, const uint8_t* groups, const int8_t* a,
                        int64_t a_stride, I32x16 (&total)[kRows][kPanels]) {
  I32x16 group[kPanels];
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) total[r][p] = ZeroI32();
  }
  if constexpr (kBits == 8) {
    for (int64_t term = 0; term < layout.block_size; term += 4) {
      BI_UNROLL
      for (int p = 0; p < kPanels; ++p) group[p] = LoadI32(groups + p * layout.panel_bytes);
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const I32x16 values = SplatFour(a + r * a_stride + term);
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          total[r][p] = DotAddU8(total[r][p], group[p], values);
        }
      }
      groups += kGroupBytes;
    }
  } else {
    constexpr int64_t kMostTerms = int64_t{4} * kDotU4Steps;
    const int64_t part = layout.block_size < kMostTerms ? layout.block_size : kMostTerms;
    for (int64_t first = 0; first < layout.block_size; first += part) {
      DotSum sum[kRows][kPanels];
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) sum[r][p] = DotZero();
      }
      for (int64_t term = 0; term < part; term += kGroupTerms<kBits>) {
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) group[p] = LoadI32(groups + p * layout.panel_bytes);
        DotGroup<kBits, kRows, kPanels>(group, a + first + term, a_stride, sum);
        groups += kGroupBytes;
      }
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        BI_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          total[r][p] = Add(total[r][p], DotTotal(sum[r][p]));
        }
      }
    }
  }
}

template <int kBits, int kRows, int kPanels>
static void RowsPanels(const NBitsLayout& layout, const uint8_t* panels, int64_t columns,
                       const NBitsQuantizedRows& a, const float* bias, float* y,
                       int64_t y_row_stride) {
  const int64_t a_stride = layout.blocks * layout.block_size;
  constexpr float kOffset = kBits == 8 ? kDotU8Offset : 0;
  F32x16 acc[kRows][kPanels];
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) acc[r][p] = ZeroF32();
  }
  for (int64_t block = 0; block < layout.blocks; ++block) {
    I32x16 total[kRows][kPanels];
    DotBlock<kBits, kRows, kPanels>(layout, panels + layout.weights_offset,
                                    a.values + block * layout.block_size, a_stride, total);
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const uint8_t* record = panels + p * layout.panel_bytes;
      const F32x16 scale = LoadScales(record);
      const F32x16 zero =
          Sub(Splat(kOffset), LoadZeroPoints<kBits>(layout, record));  // negative, exact
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int64_t row_block = r * layout.blocks + block;
        const F32x16 d = Fma(zero, Splat(a.sums[row_block]), ToF32(total[r][p]));  // exact
        acc[r][p] = Fma(d, Mul(Splat(a.scales[row_block]), scale), acc[r][p]);
      }
    }
    panels += layout.record_bytes;
  }
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const int64_t column = p * kColumns;
      StoreOutput(acc[r][p], bias == nullptr ? nullptr : bias + column,
                  y + r * y_row_stride + column, columns - column);
    }
  }
}

// Rows that share one unpacking of the weights; their sums stay in registers.
inline constexpr int kRowsAtOnce = kVectorRegisters >= 32 ? 8 : kVectorRegisters >= 8 ? 4 : 1;

using RowsFunction = void (*)(const NBitsLayout&, const uint8_t*, int64_t,
                              const NBitsQuantizedRows&, const float*, float*, int64_t);

template <int kBits>
struct RowsFunctions {
  RowsFunction by_rows[kRowsAtOnce];  // first entry: one row
};
template <int kBits, int kRows>
constexpr void AddRows(RowsFunctions<kBits>& functions) {
  functions.by_rows[kRows - 1] = &RowsPanels<kBits, kRows, 1>;
  if constexpr (kRows > 1) AddRows<kBits, kRows - 1>(functions);
}
template <int kBits>
constexpr RowsFunctions<kBits> MakeRows() {
  RowsFunctions<kBits> functions = {};
  AddRows<kBits, kRowsAtOnce>(functions);
  return functions;
}

template <int kBits>
static void RowsOfBits(const NBitsLayout& layout, const uint8_t* panels, int64_t columns,
                       int64_t rows, const NBitsQuantizedRows& a, const float* bias, float* y,
                       int64_t y_row_stride) {
  static constexpr RowsFunctions<kBits> kFunctions = MakeRows<kBits>();
  // Rows are spread evenly over the tiles.
  const int64_t tiles = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const int panels_at_once = rows == 1 ? kRowPanels : 1;
  int64_t column = 0;
  while (column < columns) {
    const bool wide = columns - column > kColumns * (panels_at_once - 1);
    const float* bias_here = bias == nullptr ? nullptr : bias + column;
    int64_t row = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t count = rows / tiles + (tile < rows % tiles ? 1 : 0);
      const NBitsQuantizedRows a_here = {a.values + row * layout.blocks * layout.block_size,
                                         a.scales + row * layout.blocks,
                                         a.sums + row * layout.blocks};
      const RowsFunction function =
          wide && rows == 1 ? &RowsPanels<kBits, 1, kRowPanels> : kFunctions.by_rows[count - 1];
      function(layout, panels, columns - column, a_here, bias_here, y + row * y_row_stride + column,
               y_row_stride);
      row += count;
    }
    column += kColumns * (wide ? panels_at_once : 1);
    panels += layout.panel_bytes * (wide ? panels_at_once : 1);
  }
}

static void RowsS8(const NBitsLayout& layout, const uint8_t* panels, int64_t columns, int64_t rows,
                   const NBitsQuantizedRows& a, const float* bias, float* y, int64_t y_row_stride) {
  switch (layout.bits) {
    case 2:
      return RowsOfBits<2>(layout, panels, columns, rows, a, bias, y, y_row_stride);
    case 4:
      return RowsOfBits<4>(layout, panels, columns, rows, a, bias, y, y_row_stride);
    default:
      return RowsOfBits<8>(layout, panels, columns, rows, a, bias, y, y_row_stride);
  }
}

extern const MatMulNBitsKernels kMatMulNBitsKernels;
const MatMulNBitsKernels kMatMulNBitsKernels = {kInstructionSet, Decode, Row, Quantize, RowsS8};

}  // namespace batch_invariant::cpu::BI_SIMD
