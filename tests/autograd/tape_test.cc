// The tape: order of sums, hooks, deferred work, version checks, recompute.
#include "autograd/tape.h"

#include <gtest/gtest.h>

#include "autograd/functions/activation.h"
#include "autograd/functions/linear.h"
#include "autograd/functions/norm.h"
#include "autograd/recompute.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomParameter;
using test::RandomTensor;

Tensor Ones(const Shape& shape) {
  return Tensor::FromDoubles(std::vector<double>(static_cast<size_t>(NumElements(shape)), 1.0),
                             shape, DType::kF64);
}

TEST(Tape, SumsOverConsumersAndLeavesTheSharedGradientAlone) {
  Tape tape;
  const Variable x = tape.Leaf(RandomTensor({3, 2}, DType::kF64, 1));
  const Variable y = Add(tape, x, x);  // hands one tensor to both inputs
  const Variable z = Add(tape, y, x);  // x has three consumers
  const Tensor seed = Ones({3, 2});
  tape.Backward({{z, seed}});
  EXPECT_TRUE(test::Close(tape.Grad(x), std::vector<double>(6, 3.0), 0));
  EXPECT_TRUE(test::Close(seed, std::vector<double>(6, 1.0), 0)) << "the seed was overwritten";
}

TEST(Tape, DeepChainsNeedNoStack) {
  Tape tape;
  const Variable x = tape.Leaf(Ones({1}));
  Variable y = x;
  for (int i = 0; i < 200000; ++i) y = Reshape(tape, y, {1});
  tape.Backward({{y, Ones({1})}});
  EXPECT_TRUE(test::Close(tape.Grad(x), std::vector<double>{1.0}, 0));
}

TEST(Tape, ConstantsRecordNothing) {
  Tape tape;
  const Variable x(Ones({2}));
  EXPECT_FALSE(Add(tape, x, x).requires_grad());
  EXPECT_EQ(tape.num_nodes(), 0u);
}

TEST(Tape, HookFiresOnceWhenTheLastConsumerIsDone) {
  Parameter w = RandomParameter("w", {2, 2}, DType::kF64, 3);
  int fired = 0;
  Tensor at_hook;
  w.on_grad_ready = [&](Parameter& p) {
    ++fired;
    at_hook = p.grad.Clone();
  };
  const Tensor x = RandomTensor({5, 2}, DType::kF64, 4);
  for (const bool fire : {false, true}) {
    w.grad.Zero();
    Tape tape;
    const Variable y = Linear(tape, Linear(tape, Variable(x), w), w);
    tape.Backward({{y, Ones({5, 2})}}, fire);
    EXPECT_EQ(fired, fire ? 1 : 0);
  }
  EXPECT_TRUE(test::SameBits(at_hook, w.grad)) << "the hook saw an unfinished gradient";
}

TEST(Tape, HookFiresWhereNoGradientArrives) {
  Parameter used = RandomParameter("used", {2, 2}, DType::kF64, 3),
            unused = RandomParameter("unused", {2, 2}, DType::kF64, 5);
  int fired = 0;
  unused.on_grad_ready = [&](Parameter&) { ++fired; };
  Tape tape;
  const Variable x(RandomTensor({5, 2}, DType::kF64, 4));
  Linear(tape, x, unused);  // its output goes nowhere
  tape.Backward({{Linear(tape, x, used), Ones({5, 2})}}, true);
  EXPECT_EQ(fired, 1);
}

TEST(Tape, DeferredWorkCountsAsUnfinished) {
  Parameter w = RandomParameter("w", {2, 2}, DType::kF64, 3);
  std::vector<std::string> order;
  w.on_grad_ready = [&](Parameter&) { order.push_back("hook"); };
  Tape tape;
  tape.HoldDeferred(true);
  const Variable x = tape.Leaf(RandomTensor({5, 2}, DType::kF64, 4));
  const Variable first = tape.Record("probe", {x}, {}, x.value(), [&](GradContext& g) {
    order.push_back("waiting");
    tape.RunDeferred();
    g.Set(0, g.dy());
  });
  tape.Backward({{Linear(tape, first, w), Ones({5, 2})}}, true);
  EXPECT_EQ(order, (std::vector<std::string>{"waiting", "hook"}));
}

TEST(Tape, OverwritingASavedTensorIsAnError) {
  Tape tape;
  Tensor value = RandomTensor({2}, DType::kF64, 1);
  const Variable y = Sigmoid(tape, tape.Leaf(value));
  Tensor alias = y.value();
  alias.Zero();
  EXPECT_THROW(tape.Backward({{y, Ones({2})}}), Error);
}

TEST(Tape, WorkAtAPlaceInBackward) {
  Parameter w = RandomParameter("w", {2, 2}, DType::kF64, 3);
  std::vector<std::string> order;
  w.on_grad_ready = [&](Parameter&) { order.push_back("hook"); };
  Tape tape;
  const Variable x = tape.Leaf(RandomTensor({5, 2}, DType::kF64, 4));
  tape.AtBackward("before", [&] { order.push_back("last"); });
  const Variable y = Linear(tape, x, w);
  tape.AtBackward("after", [&] { order.push_back("first"); });
  Sigmoid(tape, y);  // which no gradient reaches
  tape.Backward({{y, Ones({5, 2})}}, true);
  EXPECT_EQ(order, (std::vector<std::string>{"first", "hook", "last"}));
  Tape forward(Tape::Mode::kInference);
  forward.AtBackward("never", [] {});
  EXPECT_EQ(forward.num_nodes(), 0u);
}

// A parameter's value may be in other memory in backward, but has to be there and the same.
TEST(Tape, ASavedValueMayMove) {
  enum class Then { kMoves, kIsAway, kChanges };
  for (const Then then : {Then::kMoves, Then::kIsAway, Then::kChanges}) {
    Parameter w = RandomParameter("w", {2, 2}, DType::kF64, 3);
    w.share = w.value.Clone();
    Tape tape;
    const Variable x = tape.Leaf(RandomTensor({5, 2}, DType::kF64, 4));
    const Variable y = Linear(tape, x, w);
    w.value = then == Then::kIsAway ? Tensor() : w.value.Clone();
    if (then == Then::kChanges) w.share.MutableRef();
    if (then == Then::kMoves) {
      tape.Backward({{y, Ones({5, 2})}});
      EXPECT_TRUE(tape.Grad(x).defined());
    } else {
      EXPECT_THROW(tape.Backward({{y, Ones({5, 2})}}), Error);
    }
  }
}

TEST(Tape, WrongGradientShapeIsAnError) {
  Tape tape;
  const Variable y = Sigmoid(tape, tape.Leaf(RandomTensor({2}, DType::kF64, 1)));
  EXPECT_THROW(tape.Backward({{y, Ones({3})}}), Error);
}

// A segment with a decision, two parameters (one used twice) and a branch.
std::vector<Variable> Block(Tape& tape, const std::vector<Variable>& in, Parameter& w,
                            Parameter& scale, int* decided) {
  const Variable h = RmsNorm(tape, in[0], scale, 1e-6);
  const std::vector<Tensor> decision = tape.Decide([&] {
    ++*decided;
    return std::vector<Tensor>{RandomTensor({4, 3}, DType::kF64, 77)};
  });
  const Variable y = Linear(tape, Linear(tape, Add(tape, h, Variable(decision[0])), w), w);
  return {Add(tape, y, in[0]), Sigmoid(tape, h)};
}

TEST(Recompute, SameBitsAsWithoutAndDecidesOnce) {
  Parameter w = RandomParameter("w", {3, 3}, DType::kF64, 3),
            scale = RandomParameter("scale", {3}, DType::kF64, 4);
  const Tensor input = RandomTensor({4, 3}, DType::kF64, 5);
  std::vector<std::vector<Tensor>> results;
  for (const bool recompute : {false, true}) {
    w.grad.Zero();
    scale.grad.Zero();
    int decided = 0, hooks = 0;
    w.on_grad_ready = scale.on_grad_ready = [&](Parameter&) { ++hooks; };
    Tape tape;
    const Variable x = tape.Leaf(input);
    const Segment segment = [&](Tape& t, const std::vector<Variable>& in) {
      return Block(t, in, w, scale, &decided);
    };
    const std::vector<Variable> y =
        recompute ? Recompute(tape, "block", {x}, segment) : segment(tape, {x});
    tape.Backward({{y[0], RandomTensor({4, 3}, DType::kF64, 6)},
                   {y[1], RandomTensor({4, 3}, DType::kF64, 7)}},
                  true);
    EXPECT_EQ(decided, 1);
    EXPECT_EQ(hooks, 2);
    results.push_back(
        {y[0].value(), y[1].value(), tape.Grad(x), w.grad.Clone(), scale.grad.Clone()});
  }
  for (size_t i = 0; i < results[0].size(); ++i)
    EXPECT_TRUE(test::SameBits(results[1][i], results[0][i])) << i;
}

// A costly result and a decision in turns, then a product that is not read the second time.
TEST(Recompute, KeepsWhatIsCostlyIfAskedTo) {
  Parameter w = RandomParameter("w", {3, 3}, DType::kF64, 3);
  const Tensor input = RandomTensor({4, 3}, DType::kF64, 5),
               dy = RandomTensor({4, 3}, DType::kF64, 6);
  int computed = 0, decided = 0;
  const Segment segment = [&](Tape& t, const std::vector<Variable>& in) {
    Variable x = in[0];
    for (int i = 0; i < 2; ++i) {
      const std::vector<Tensor> y = t.Costly([&]() -> std::vector<Tensor> {
        ++computed;
        return {Linear(t, Variable(x.value()), w).value()};
      });
      const std::vector<Tensor> choice = t.Decide([&]() -> std::vector<Tensor> {
        return {RandomTensor({4, 3}, DType::kF64, static_cast<uint64_t>(++decided))};
      });
      x = Add(t, Linear(t, Add(t, x, Variable(y[0])), w), Variable(choice[0]));
    }
    const Variable end = Linear(t, x, w, in[0], /*y_is_read=*/!t.recomputing());
    EXPECT_EQ(end.value().is_meta(), t.recomputing());
    return std::vector<Variable>{end};
  };
  std::vector<std::vector<Tensor>> results;
  for (const int kind : {0, 1, 2}) {  // no segment; keeps nothing; keeps
    w.grad.Zero();
    computed = decided = 0;
    Tape tape;
    const Variable x = tape.Leaf(input);
    const Variable y =
        kind == 0 ? segment(tape, {x})[0] : Recompute(tape, "segment", {x}, segment, kind == 2)[0];
    tape.Backward({{y, dy}});
    EXPECT_EQ(computed, kind == 1 ? 4 : 2);
    EXPECT_EQ(decided, 2);
    results.push_back({y.value(), tape.Grad(x), w.grad.Clone()});
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(test::SameBits(results[1][i], results[0][i])) << i;
    EXPECT_TRUE(test::SameBits(results[2][i], results[0][i])) << i;
  }
}

TEST(Recompute, GradientsAgreeWithDifferences) {
  Parameter w = RandomParameter("w", {3, 3}, DType::kF64, 3),
            scale = RandomParameter("scale", {3}, DType::kF64, 4);
  int decided = 0;
  EXPECT_TRUE(test::GradCheck(
      [&](Tape& tape, const std::vector<Variable>& in) {
        return Recompute(tape, "block", in, [&](Tape& t, const std::vector<Variable>& x) {
          return Block(t, x, w, scale, &decided);
        });
      },
      {RandomTensor({4, 3}, DType::kF64, 5)}, {&w, &scale}));
}

}  // namespace
}  // namespace lacuna
