// Rotary embedding: bits of the plain loops on every instruction set and in every layout, and close
// to float64.
#include "batch_invariant/cpu/rotary.h"

#include <cmath>

#include "cpu/support/support.h"
#include "kernels/reference/rotary.h"

namespace batch_invariant::cpu::testing {
namespace {

struct Case {
  int64_t batch, heads, tokens, head_size, rotary_dim;
  bool interleaved, heads_first;
  RotaryPositions positions;
  int64_t cache_rows;
  std::vector<float> x, cosine, sine;
  std::vector<int64_t> position_ids;

  Case(Random& random, int64_t batch, int64_t heads, int64_t tokens, int64_t head_size,
       int64_t rotary_dim, bool interleaved, bool heads_first, RotaryPositions positions)
      : batch(batch),
        heads(heads),
        tokens(tokens),
        head_size(head_size),
        rotary_dim(rotary_dim),
        interleaved(interleaved),
        heads_first(heads_first),
        positions(positions),
        cache_rows(positions == RotaryPositions::kDirect ? batch * tokens : 50) {
    x = random.Normal(batch * heads * tokens * head_size);
    for (int64_t i = 0; i < cache_rows * (rotary_dim / 2); ++i) {
      const float angle = random.Uniform(-3.0f, 3.0f);
      cosine.push_back(std::cos(angle));
      sine.push_back(std::sin(angle));
    }
    const int64_t ids = positions == RotaryPositions::kOffset ? 1 : batch * tokens;
    for (int64_t i = 0; i < ids; ++i)
      position_ids.push_back(random.Integer(0, cache_rows - tokens));
  }

  RotaryArgs Args(float* y) const {
    RotaryArgs args;
    args.batch = batch;
    args.heads = heads;
    args.tokens = tokens;
    args.head_size = head_size;
    args.rotary_dim = rotary_dim;
    args.interleaved = interleaved;
    args.x = x.data();
    args.x_batch = args.y_batch = heads * tokens * head_size;
    args.x_head = args.y_head = heads_first ? tokens * head_size : head_size;
    args.x_token = args.y_token = heads_first ? head_size : heads * head_size;
    args.y = y;
    args.positions = positions;
    args.position_ids = position_ids.data();
    args.cos_cache = cosine.data();
    args.sin_cache = sine.data();
    args.cache_rows = cache_rows;
    return args;
  }
};

using RotaryTest = InstructionSetTest;

TEST_P(RotaryTest, HasTheBitsOfThePlainLoops) {
  Random random(1);
  for (int64_t head_size : {2, 8, 64, 80, 128}) {
    for (int64_t rotary_dim : {head_size, head_size / 4 * 2}) {
      for (bool interleaved : {false, true}) {
        for (bool heads_first : {false, true}) {
          for (RotaryPositions positions :
               {RotaryPositions::kOffset, RotaryPositions::kPerToken, RotaryPositions::kDirect}) {
            const Case one(random, 2, 3, 5, head_size, rotary_dim, interleaved, heads_first,
                           positions);
            std::vector<float> expected(one.x.size()), y = Poisoned(one.x.size());
            reference::Rotary(one.Args(expected.data()));
            for (int threads : {1, 3}) {
              const Status status = RotaryF32(TestContext(GetParam(), threads), one.Args(y.data()));
              ASSERT_TRUE(status.ok()) << status.message;
              EXPECT_TRUE(SameBits(expected, y));
            }
            std::vector<float> in_place = one.x;
            RotaryArgs args = one.Args(in_place.data());
            args.x = in_place.data();
            ASSERT_TRUE(RotaryF32(TestContext(GetParam()), args).ok());
            EXPECT_TRUE(SameBits(expected, in_place));
          }
        }
      }
    }
  }
}

TEST_P(RotaryTest, IsCloseToFloat64) {
  Random random(2);
  const Case one(random, 1, 1, 1, 64, 64, false, false, RotaryPositions::kPerToken);
  std::vector<float> y = Poisoned(64);
  ASSERT_TRUE(RotaryF32(TestContext(GetParam()), one.Args(y.data())).ok());
  for (int64_t i = 0; i < 32; ++i) {
    const double c = one.cosine[one.position_ids[0] * 32 + i];
    const double s = one.sine[one.position_ids[0] * 32 + i];
    EXPECT_NEAR(y[i], one.x[i] * c - one.x[i + 32] * s, 1e-6);
    EXPECT_NEAR(y[i + 32], one.x[i + 32] * c + one.x[i] * s, 1e-6);
  }
  AddCompared(64);
}

TEST_P(RotaryTest, RefusesAPositionOutsideTheCaches) {
  Random random(3);
  Case one(random, 1, 1, 2, 8, 8, false, false, RotaryPositions::kPerToken);
  std::vector<float> y = Poisoned(16), untouched = y;
  for (int64_t position : {int64_t{-1}, one.cache_rows}) {
    one.position_ids[1] = position;
    EXPECT_EQ(RotaryF32(TestContext(GetParam()), one.Args(y.data())).code,
              StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(SameBits(untouched, y));
}

BI_INSTANTIATE_INSTRUCTION_SETS(RotaryTest);

}  // namespace
}  // namespace batch_invariant::cpu::testing
