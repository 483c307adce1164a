// Mixture of experts: routing of every token, then one expert after the other over the rows that
// chose it, with the kernels of MatMul, MatMulNBits, Softmax and the activations.
//
// Order: experts ascending, so a token adds up its experts in that order whatever the batch. What
// is computed here and not by those kernels is plain single operations. Free: how rows are gathered
// and spread over threads.
#include "batch_invariant/cpu/moe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "batch_invariant/cpu/elementwise.h"
#include "batch_invariant/cpu/matmul.h"
#include "batch_invariant/cpu/softmax.h"
#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/dispatch/reused_scratch.h"

namespace batch_invariant::cpu {
namespace {

Status Invalid(const char* what) {
  return Status::InvalidArgument(std::string("mixture of experts: ") + what);
}

bool HasWeights(const ExpertWeights& weights) {
  return weights.plan != nullptr ? weights.nbits != nullptr : weights.packed != nullptr;
}

Status Check(const MoeArgs& args) {
  if (args.tokens < 0 || args.hidden <= 0 || args.inter <= 0 || args.experts <= 0) {
    return Invalid("hidden, inter and experts must be positive, tokens not negative");
  }
  if (args.k < 1 || args.k > args.experts) {
    return Invalid("k must be at least 1 and at most the number of experts");
  }
  if (args.tokens == 0) return Status::Ok();
  if (args.input == nullptr || args.router == nullptr || args.output == nullptr ||
      !HasWeights(args.fc1) || !HasWeights(args.fc2) ||
      (args.weights == RouterWeights::kGiven && args.router_weights == nullptr)) {
    return Invalid("an operand has no data");
  }
  return Status::Ok();
}

// Stands for a NaN in the outputs, whatever produced it.
float Canonical(float x) { return x == x ? x : std::bit_cast<float>(0x7fc00000u); }

struct Chosen {
  int64_t expert;
  float weight;
};

class Mixture {
 public:
  Mixture(const Context& context, const MoeArgs& args)
      : context_(context), args_(args), calls_(context) {}

  Status Run() {
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(args_.tokens * args_.k, &chosen_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(args_.tokens, &rows_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Route());
    BATCH_INVARIANT_RETURN_IF_ERROR(AllocateRows());
    std::fill_n(args_.output, args_.tokens * args_.hidden, 0.0f);
    for (int64_t expert = 0; expert < args_.experts; ++expert) {
      BATCH_INVARIANT_RETURN_IF_ERROR(RunExpert(expert));
    }
    return Status::Ok();
  }

 private:
  struct Row {
    int64_t token;
    float weight;
  };

  template <typename T>
  Status Allocate(int64_t count, T** memory) {
    *memory = static_cast<T*>(context_.scratch.allocate(
        context_.scratch.self, sizeof(T) * static_cast<size_t>(std::max<int64_t>(count, 1))));
    return *memory != nullptr ? Status::Ok()
                              : Status::OutOfMemory("mixture of experts: no memory for its rows");
  }

  // The k experts of every token, in the order of choice, and their weights.
  Status Route() {
    const int64_t experts = args_.experts, k = args_.k;
    int64_t* order = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(experts, &order));
    for (int64_t t = 0; t < args_.tokens; ++t) {
      const float* values = args_.router + t * experts;
      // NaN goes first, so that the order is total and the token gets it.
      const auto before = [values](int64_t a, int64_t b) {
        const bool nan_a = values[a] != values[a], nan_b = values[b] != values[b];
        if (nan_a != nan_b) return nan_a;
        if (!nan_a && values[a] != values[b]) return values[a] > values[b];
        return a > b;
      };
      for (int64_t e = 0; e < experts; ++e) order[e] = e;
      std::partial_sort(order, order + k, order + experts, before);
      for (int64_t i = 0; i < k; ++i) chosen_[t * k + i].expert = order[i];
    }

    float* weights = nullptr;
    const bool of_chosen = args_.weights == RouterWeights::kSoftmaxOfChosen;
    const int64_t width = of_chosen ? k : experts;
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(args_.tokens * width, &weights));
    if (args_.weights == RouterWeights::kGiven) {
      std::copy_n(args_.router_weights, args_.tokens * experts, weights);
    } else {
      const float* values = args_.router;
      if (of_chosen) {
        for (int64_t i = 0; i < args_.tokens * k; ++i) {
          weights[i] = args_.router[i / k * experts + chosen_[i].expert];
        }
        values = weights;
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(
          SoftmaxF32(calls_.Next(), {args_.tokens, width, 1, values, weights}));
    }
    for (int64_t t = 0; t < args_.tokens; ++t) {
      Chosen* chosen = chosen_ + t * k;
      const float* row = weights + t * width;
      float sum = 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        chosen[i].weight = row[of_chosen ? i : chosen[i].expert];
        sum += chosen[i].weight;
      }
      if (!args_.normalize) continue;
      for (int64_t i = 0; i < k; ++i) {
        chosen[i].weight = sum == 0.0f ? 0.0f : chosen[i].weight / sum;
      }
    }
    return Status::Ok();
  }

  // The rows that go through an expert, into rows_; returns their number.
  int64_t RowsOf(int64_t expert) {
    int64_t count = 0;
    for (int64_t i = 0; i < args_.tokens * args_.k; ++i) {
      const Chosen& chosen = chosen_[i];
      if (chosen.expert != expert || chosen.weight <= 0.0f) continue;
      rows_[count++] = {i / args_.k, chosen.weight};
    }
    return count;
  }

  int64_t Fc1Columns() const {
    return args_.activation == ExpertActivation::kSwiGlu ? 2 * args_.inter : args_.inter;
  }

  Status AllocateRows() {
    int64_t most = 0;
    for (int64_t expert = 0; expert < args_.experts; ++expert) {
      most = std::max(most, RowsOf(expert));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(most * args_.hidden, &gathered_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(most * Fc1Columns(), &first_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(most * args_.inter, &activated_));
    return Allocate(most * args_.hidden, &second_);
  }

  Status RunExpert(int64_t expert) {
    const int64_t count = RowsOf(expert), hidden = args_.hidden;
    if (count == 0) return Status::Ok();
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(gathered_ + r * hidden, args_.input + rows_[r].token * hidden,
                  sizeof(float) * static_cast<size_t>(hidden));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Linear(args_.fc1, expert, count, hidden, Fc1Columns(), gathered_, first_));
    BATCH_INVARIANT_RETURN_IF_ERROR(Activate(count));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Linear(args_.fc2, expert, count, args_.inter, hidden, activated_, second_));
    ParallelRows(context_.parallel, count, hidden, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float weight = rows_[r].weight;
        const float* from = second_ + r * hidden;
        float* to = args_.output + rows_[r].token * hidden;
        for (int64_t i = 0; i < hidden; ++i) to[i] = Canonical(to[i] + weight * from[i]);
      }
    });
    return Status::Ok();
  }

  Status Linear(const ExpertWeights& weights, int64_t expert, int64_t rows, int64_t k, int64_t n,
                const float* x, float* y) {
    const float* bias = weights.bias != nullptr ? weights.bias + expert * n : nullptr;
    if (weights.plan != nullptr) {
      const auto* packed = static_cast<const char*>(weights.nbits) +
                           static_cast<size_t>(expert) * PackedMatMulNBitsBytes(*weights.plan);
      return MatMulNBits(calls_.Next(), *weights.plan, {rows, x, k, packed, bias, y, n});
    }
    MatMulArgs matmul;
    matmul.m = rows;
    matmul.n = n;
    matmul.k = k;
    matmul.a = {x, k, 1};
    matmul.packed_b =
        weights.packed + static_cast<size_t>(expert) * (PackedMatMulBytes(k, n) / sizeof(float));
    if (bias != nullptr) matmul.c = {bias, 0, 1};
    matmul.y = y;
    matmul.y_row_stride = n;
    return MatMul(calls_.Next(), matmul);
  }

  Status Unary(UnaryOp op, int64_t count, float alpha, const float* x, float* y) {
    return UnaryF32(calls_.Next(), {op, 1, count, alpha, x, nullptr, y});
  }

  // first_ -> activated_.
  Status Activate(int64_t rows) {
    const int64_t count = rows * args_.inter;
    switch (args_.activation) {
      case ExpertActivation::kGelu:
        return Unary(UnaryOp::kGeluTanh, count, 0.0f, first_, activated_);
      case ExpertActivation::kSilu:
        return Unary(UnaryOp::kSilu, count, 0.0f, first_, activated_);
      case ExpertActivation::kSwiGlu:
        return SwiGlu(rows);
      case ExpertActivation::kRelu:
      case ExpertActivation::kIdentity:
        break;
    }
    const bool relu = args_.activation == ExpertActivation::kRelu;
    for (int64_t i = 0; i < count; ++i) {
      activated_[i] = relu && first_[i] <= 0.0f ? 0.0f : first_[i];
    }
    return Status::Ok();
  }

  Status SwiGlu(int64_t rows) {
    const int64_t inter = args_.inter;
    const int64_t step = args_.interleaved ? 2 : 1;
    const int64_t linear = args_.interleaved ? 1 : inter;
    const float limit = args_.limit;
    for (int64_t r = 0; r < rows; ++r) {
      const float* gate = first_ + r * 2 * inter;
      for (int64_t i = 0; i < inter; ++i) {
        const float g = gate[i * step];
        activated_[r * inter + i] = g > limit ? limit : g;
      }
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Unary(UnaryOp::kQuickGelu, rows * inter, args_.alpha, activated_, activated_));
    for (int64_t r = 0; r < rows; ++r) {
      const float* up = first_ + r * 2 * inter + linear;
      for (int64_t i = 0; i < inter; ++i) {
        float l = up[i * step];
        l = l > limit ? limit : l;
        l = l < -limit ? -limit : l;
        activated_[r * inter + i] *= l + args_.beta;
      }
    }
    return Status::Ok();
  }

  const Context& context_;
  const MoeArgs& args_;
  ReusedScratch calls_;
  Chosen* chosen_ = nullptr;    // [tokens, k]
  Row* rows_ = nullptr;         // [tokens]
  float* gathered_ = nullptr;   // [rows, hidden]
  float* first_ = nullptr;      // [rows, fc1 columns]
  float* activated_ = nullptr;  // [rows, inter]
  float* second_ = nullptr;     // [rows, hidden]
};

}  // namespace

Status MixtureOfExperts(const Context& context, const MoeArgs& args) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (args.tokens == 0) return Status::Ok();
  return Mixture(context, args).Run();
}

}  // namespace batch_invariant::cpu
