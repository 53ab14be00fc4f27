// A small training state for checkpoint tests: a function of the step alone, so that what is loaded
// can be told from its step.
#pragma once

#include <functional>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "distributed/checkpoint_reader.h"
#include "distributed/checkpoint_writer.h"
#include "tests/support/random.h"

namespace lacuna::test {

inline const std::vector<std::pair<std::string, Shape>>& CheckpointShapes() {
  static const std::vector<std::pair<std::string, Shape>> shapes = {
      {"embedding.weight", {61, 24}},
      {"layers.0.norm.weight", {24}},
      {"layers.0.ffn.weight", {3, 40, 24}},
      {"lm_head.weight", {61, 24}}};
  return shapes;
}

// Weights and moments, plus tensors of the other dtypes, one of them empty. With `step` < 0 the
// right shapes and no contents.
inline TrainingState CheckpointState(int64_t step) {
  TrainingState state;
  uint64_t seed = static_cast<uint64_t>(step) * 1000;
  const auto fill = [&](const Shape& shape, DType dtype) {
    return step < 0 ? Tensor::Zeros(shape, dtype) : RandomTensor(shape, dtype, ++seed);
  };
  for (const char* group : {"model/", "adamw.m/", "adamw.v/"}) {
    for (const auto& [name, shape] : CheckpointShapes())
      state.Add(group + name, fill(shape, DType::kF32));
  }
  state.Add("model/router.bias", fill({7}, DType::kF64));
  state.Add("model/narrow", fill({5, 3}, DType::kBF16));
  state.Add("data/seen", Tensor::FromVector(std::vector<int64_t>{step, step * 3, -1}, {3}));
  state.Add("data/empty", Tensor::Zeros({0, 4}, DType::kF32));
  state.scalars = {{"step", step},
                   {"loss", 1.0 / 3 + static_cast<double>(step)},
                   {"seed", 0xFFFFFFFFFFFFFFFFu},
                   {"text", "a \"quoted\" \xC3\xA9\nline"}};
  return state;
}

// Few tensors, for sweeps that save hundreds of times.
inline TrainingState SmallCheckpointState(int64_t step) {
  TrainingState state;
  const Shape shape = {40, 50};
  for (const char* name : {"model/w", "adamw.m/w"}) {
    state.Add(name, step < 0 ? Tensor::Zeros(shape, DType::kF32)
                             : RandomTensor(shape, DType::kF32,
                                            static_cast<uint64_t>(step * 10 + name[0])));
  }
  state.scalars = {{"step", step}};
  return state;
}

// Changes what a manifest says and makes its checksum right again.
inline void EditManifest(const std::string& path,
                         const std::function<void(nlohmann::json& body)>& edit) {
  const std::string text = *ReadFile(path, 1 << 20, ExitCode::kData);
  const size_t begin = text.find('\n') + 1;
  nlohmann::json body =
      nlohmann::json::parse(text.substr(begin, text.rfind('\n', text.size() - 2) - begin));
  edit(body);
  const std::string changed = body.dump();
  const std::string hash = ToHex(XXH3_64bits(changed.data(), changed.size()));
  const absl::Status written = WriteFileDurably(
      path, "{\"hash\":\"" + hash + "\",\"manifest\":\n" + changed + "\n}\n", ExitCode::kData);
  LACUNA_CHECK(written.ok(), "{}", Message(written));
}

}  // namespace lacuna::test
