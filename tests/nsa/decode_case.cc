#include "tests/nsa/decode_case.h"

#include <gtest/gtest.h>

#include "core/stream.h"
#include "tests/support/compare.h"

namespace lacuna::test {

DecodeCase::DecodeCase(const NsaCase& c, const std::vector<int64_t>& prompts, PhiWithStorage* phi_k,
                       PhiWithStorage* phi_v)
    : c_(c), phi_k_(phi_k), phi_v_(phi_v), rope_(c.rope, c.in.at("q").dtype(), c.device()) {
  rope_.Prepare(c.longest());
  for (size_t i = 0; i < prompts.size(); ++i) {
    caches_.push_back(std::make_unique<NsaCache>(c.config));
    const auto number = static_cast<int64_t>(i);
    if (prompts[i] > 0)
      caches_.back()->FillFromPrompt(Rows(number, 0, prompts[i]), ForwardOf(number, prompts[i]));
  }
}

bool DecodeCase::ended(int64_t i) const {
  return length(i) == EndOf(i);
}

int64_t DecodeCase::EndOf(int64_t i) const {
  const auto n = static_cast<size_t>(i);
  return c_.cu_seqlens[n + 1] - c_.cu_seqlens[n];
}

NsaInputs DecodeCase::Rows(int64_t i, int64_t begin, int64_t end) const {
  const int64_t first = c_.cu_seqlens[static_cast<size_t>(i)];
  std::map<std::string, Variable> v;
  for (const char* name : kNsaInputNames)
    v[name] = Variable(c_.in.at(name).Slice(first + begin, first + end).Clone());
  return MakeInputs(v);
}

NsaResult DecodeCase::ForwardOf(int64_t i, int64_t tokens) {
  Tape tape(Tape::Mode::kInference, ComputeStream(c_.device()));
  const auto grid =
      std::make_shared<const NsaGrid>(PackedSequences::Single(tokens).To(c_.device()), c_.config);
  return NsaOperator(tape, Rows(i, 0, tokens), phi_k_->phi(), phi_v_->phi(), grid, rope_,
                     c_.config);
}

DecodeResult DecodeCase::Step(const std::vector<int64_t>& sequences) {
  std::vector<NsaCache*> caches;
  std::map<std::string, Variable> rows;
  for (const char* name : kNsaInputNames) {
    Shape shape = c_.in.at(name).shape();
    shape[0] = static_cast<int64_t>(sequences.size());
    rows[name] = Variable(Tensor::Empty(shape, c_.in.at(name).dtype(), c_.device()));
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto s = static_cast<size_t>(sequences[i]);
    caches.push_back(caches_[s].get());
    const int64_t row = c_.cu_seqlens[s] + caches_[s]->length(), at = static_cast<int64_t>(i);
    for (const char* name : kNsaInputNames)
      rows[name].value().Slice(at, at + 1).CopyFrom(c_.in.at(name).Slice(row, row + 1));
  }
  return DecodeTogether(caches, MakeInputs(rows), c_.config, phi_k_->phi(), phi_v_->phi(), rope_);
}

void ExpectDecodeEqualsForward(DecodeCase* decode, double tolerance) {
  std::vector<NsaResult> whole;
  for (int64_t i = 0; i < decode->num_sequences(); ++i) whole.push_back(decode->Forward(i));
  while (true) {
    std::vector<int64_t> running;  // the last one first
    for (int64_t i = decode->num_sequences() - 1; i >= 0; --i) {
      if (!decode->ended(i)) running.push_back(i);
    }
    if (running.empty()) return;
    const DecodeResult step = decode->Step(running);
    const Tensor o = step.o.To(kCpu), blocks = step.blocks.To(kCpu);
    for (size_t r = 0; r < running.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const NsaResult& expected = whole[static_cast<size_t>(running[r])];
      const int64_t t = decode->length(running[r]) - 1;
      SCOPED_TRACE("sequence " + std::to_string(running[r]) + ", t = " + std::to_string(t));
      ASSERT_TRUE(SameBits(blocks.Slice(row, row + 1), expected.blocks.Slice(t, t + 1).To(kCpu)));
      ASSERT_TRUE(
          Close(o.Slice(row, row + 1), expected.o.value().Slice(t, t + 1).To(kCpu), tolerance));
    }
  }
}

}  // namespace lacuna::test
