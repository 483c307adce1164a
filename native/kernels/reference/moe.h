// The definition of MoE and QMoE in plain loops, over weights as a model holds them.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_MOE_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_MOE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "batch_invariant/cpu/moe.h"
#include "batch_invariant/cpu/softmax.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/matmul.h"
#include "kernels/reference/softmax.h"

namespace batch_invariant::reference {

// Layer `layer` (1 or 2) of an expert: y [n] from x [k], its bias included.
using ExpertLayer =
    std::function<void(int layer, int64_t expert, const std::vector<float>& x, float* y)>;

inline float ExpertActivate(const cpu::MoeArgs& args, float x) {
  switch (args.activation) {
    case cpu::ExpertActivation::kRelu:
      return x <= 0.0f ? 0.0f : x;
    case cpu::ExpertActivation::kGelu:
      return Unary(cpu::UnaryOp::kGeluTanh, x, 0.0f);
    case cpu::ExpertActivation::kSilu:
      return Unary(cpu::UnaryOp::kSilu, x, 0.0f);
    default:
      return x;
  }
}

// Inputs, shapes and attributes are those of `args`; its packed weights are not read.
inline void MixtureOfExperts(const cpu::MoeArgs& args, const ExpertLayer& layer) {
  const bool gated = args.activation == cpu::ExpertActivation::kSwiGlu;
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float* router = args.router + t * args.experts;
    std::vector<int64_t> order(args.experts);
    for (int64_t e = 0; e < args.experts; ++e) order[e] = e;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      if (std::isnan(router[a]) != std::isnan(router[b])) return std::isnan(router[a]);
      if (std::isnan(router[a]) || router[a] == router[b]) return a > b;
      return router[a] > router[b];
    });
    order.resize(args.k);

    std::vector<float> values(router, router + args.experts);
    if (args.weights == cpu::RouterWeights::kGiven) {
      values.assign(args.router_weights + t * args.experts,
                    args.router_weights + (t + 1) * args.experts);
    } else {
      if (args.weights == cpu::RouterWeights::kSoftmaxOfChosen) {
        values.clear();
        for (int64_t e : order) values.push_back(router[e]);
      }
      const auto length = static_cast<int64_t>(values.size());
      Softmax({1, length, 1, values.data(), values.data()}, false);
    }
    std::vector<float> weights(args.k);
    float sum = 0.0f;
    for (int64_t i = 0; i < args.k; ++i) {
      weights[i] = values[args.weights == cpu::RouterWeights::kSoftmaxOfChosen ? i : order[i]];
      sum += weights[i];
    }

    const std::vector<float> x(args.input + t * args.hidden, args.input + (t + 1) * args.hidden);
    float* y = args.output + t * args.hidden;
    std::fill_n(y, args.hidden, 0.0f);
    for (int64_t e = 0; e < args.experts; ++e) {
      const auto found = std::find(order.begin(), order.end(), e);
      if (found == order.end()) continue;
      float weight = weights[found - order.begin()];
      if (args.normalize) weight = sum == 0.0f ? 0.0f : weight / sum;
      if (weight <= 0.0f) continue;
      std::vector<float> first(gated ? 2 * args.inter : args.inter), second(args.hidden);
      std::vector<float> activated(args.inter);
      layer(1, e, x, first.data());
      for (int64_t i = 0; i < args.inter; ++i) {
        if (!gated) {
          activated[i] = ExpertActivate(args, first[i]);
          continue;
        }
        float g = first[args.interleaved ? 2 * i : i];
        float l = first[args.interleaved ? 2 * i + 1 : args.inter + i];
        g = g > args.limit ? args.limit : g;
        l = l > args.limit ? args.limit : l;
        l = l < -args.limit ? -args.limit : l;
        activated[i] = Unary(cpu::UnaryOp::kQuickGelu, g, args.alpha) * (l + args.beta);
      }
      layer(2, e, activated, second.data());
      for (int64_t i = 0; i < args.hidden; ++i) y[i] = Canonical(y[i] + weight * second[i]);
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_MOE_H_
