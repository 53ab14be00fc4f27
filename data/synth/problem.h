// Problems whose solution is written out step by step, for training and testing chains of thought.
//
// Texts are made to be easy to tokenize and to learn: words, digits and signs are separated by
// single spaces, so that a digit is always the same token (recall, which nobody computes with, has
// the plain sentences of the needle trials instead); a step says all that it needs; nothing is left
// to be worked out between two of them. What the steps look like:
//
//   modular_chain   Left to right mod 1 0 : 3 + 5 * 2 - 4
//                   3 + 5 = 8 ; 8 * 2 = 6 ; 6 - 4 = 2
//   addition        Add : 4 7 + 8 5
//                   0 + 7 = 7 , 7 + 5 = 1 2 ; write 2 carry 1
//                   1 + 4 = 5 , 5 + 8 = 1 3 ; write 3 carry 1
//                   sum 1 3 2
//   multiplication  Multiply : 4 7 * 2 5
//                   5 * 7 + 0 = 3 5 , 5 * 4 + 3 = 2 3 ; row 2 3 5
//                   2 * 7 + 0 = 1 4 , 2 * 4 + 1 = 9 ; row 9 4
//                   3 + 4 + 0 = 7 , 2 + 9 + 0 = 1 1 ; total 1 1 7 5
//                   product 1 1 7 5
//   graph_path      Shortest path from A to D : B > D , A > C , A > B , C > A
//                   A > C B new C B
//                   C > A new
//                   B > D new D
//                   path D < B < A
//   recall          The secret number of Oslo is 58212.
//                   The secret number of Kalu is 10733.
//                   The secret number of Lima is 94065.
//                   What are the secret numbers of Lima, Oslo?
//                   The secret number of Lima is 94065.
//                   The secret number of Oslo is 58212.
//
// data/synth/answer_check.h solves and checks the texts by other means.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/synth/random_stream.h"

namespace lacuna {

struct SynthProblem {
  std::string user;       // the question
  std::string reasoning;  // the steps
  std::string answer;
};

// A problem before it is solved, which takes longer.
struct SynthDraft {
  // Equal for problems that differ only in the order of operands or edges.
  std::string canonical;
  std::function<SynthProblem()> solve;
};

struct SynthTask {
  const char* name;
  const char* about;
  double tokens_per_character;      // about; counted with a byte-level BPE of 2048 tokens
  std::vector<std::string> levels;  // what each is, level 1 first
  // `level` is from 1 to levels.size().
  SynthDraft (*draw)(int level, RandomStream& random);
};

SynthTask ModularChainTask();
SynthTask AdditionTask();
SynthTask MultiplicationTask();
SynthTask GraphPathTask();
SynthTask RecallTask();

// All of them; the order is part of what `lacuna synth` writes.
const std::vector<SynthTask>& SynthTasks();

// "1 2 3" for 123, "- 5" for -5.
std::string SpacedNumber(int64_t value);
// Digits 0 to 9, the most significant one first.
std::string SpacedDigits(const std::vector<int>& digits);

}  // namespace lacuna
