#include "recipes/benchmark/bench_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "recipes/benchmark/block_lists.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

constexpr double kGiB = 1 << 30;

double GiB(int64_t bytes) {
  return static_cast<double>(bytes) / kGiB;
}

std::string Name(const BenchRow& row) {
  return row.tokens == 0 ? row.op : fmt::format("{} {}", row.op, row.tokens);
}

const char* UnitOf(BenchRow::Bound bound) {
  return bound == BenchRow::Bound::kBytes ? "GB/s" : "TFLOP/s";
}
double InUnit(BenchRow::Bound bound, double per_second) {
  return per_second / (bound == BenchRow::Bound::kBytes ? 1e9 : 1e12);
}

}  // namespace

std::string Line(const Ceilings& ceilings) {
  return fmt::format("Ceilings: matrix product {:.1f} TFLOP/s, copy {:.0f} GB/s",
                     ceilings.flops_per_second / 1e12, ceilings.bytes_per_second / 1e9);
}

std::string Line(const RowResult& r) {
  const BenchRow::Bound bound = r.row.bound;
  return fmt::format(
      "  {:<34} {:>10.4f} ms {:>9.1f} {:<7} {:>6.1f} %  {}{}{}", Name(r.row), r.timing.milliseconds,
      InUnit(bound, r.per_second()), UnitOf(bound), 100 * r.ratio(), r.row.formula,
      r.held_bytes ? fmt::format("; held for backward {:.2f} GiB", GiB(*r.held_bytes)) : "",
      r.lists
          ? fmt::format("; {} lists: {:.1f} blocks a token, {:.1f} of {} adjacent, {:.1f} of {}",
                        r.lists->pattern, r.lists->of_token, r.lists->of_adjacent, kAdjacent,
                        r.lists->of_far_adjacent, kFarAdjacent)
          : "");
}

std::string Line(const LossMemory& memory) {
  return fmt::format(
      "  Head and loss of {} tokens, forward and backward: {:.2f} GiB beyond hidden states, weight "
      "and its gradient (all logits in bf16: {:.2f} GiB)",
      FormatCount(memory.tokens), GiB(memory.extra_bytes), GiB(memory.logits_bytes));
}

std::string Line(const DecodeResult& r, const DecodeResult* full, const Ceilings& ceilings) {
  std::string text = fmt::format(
      "  {:<34} {:>10.4f} ms {:>9.1f} GB/s    {:>6.1f} %  {:.1f} tokens read, {:.1f} MB, {:.4f} ms "
      "at "
      "the copy's rate",
      fmt::format("{} {} x {}", r.op, r.batch, r.tokens), r.milliseconds,
      r.bytes_per_second() / 1e9, 100 * r.bytes_per_second() / ceilings.bytes_per_second,
      r.tokens_read, r.bytes / 1e6, 1e3 * r.bytes / ceilings.bytes_per_second);
  if (r.kernels) text += fmt::format("; {:.2f} kernels", *r.kernels);
  if (full != nullptr)
    text += fmt::format("; beside full attention {:.1f}x fewer bytes, {:.2f}x faster",
                        full->bytes / r.bytes, full->milliseconds / r.milliseconds);
  return text;
}

std::string Lines(const StepsResult& s, const Ceilings& ceilings) {
  return fmt::format(
      "  {}: {} parameters, {} tokens a step\n"
      "  {:.1f} ms, the host has queued it after {:.1f} ms; {} tok/s, {:.1f} TFLOP/s, MFU {:.1f} % "
      "of the matrix product; at most {:.1f} GiB in use\n"
      "  FLOPs a token: {:.4g} = 6 matrix parameters used + phi + 6 H (Dk + Dv) pairs / T a layer; "
      "recomputation does not count",
      s.recipe, FormatCount(s.parameters), FormatCount(s.times.tokens), 1e3 * s.times.median(),
      1e3 * s.times.median_queued(), FormatCount(static_cast<int64_t>(s.times.tokens_per_second())),
      s.per_second() / 1e12, 100 * s.per_second() / ceilings.flops_per_second, GiB(s.peak_bytes),
      s.flops_per_token);
}

std::string PeerTable(const BenchReport& report) {
  std::string text = fmt::format("\nBeside PyTorch {}\n  {:<34} {:>12} {:>12} {:>10}\n",
                                 report.torch, "", "Lacuna ms", "PyTorch ms", "speed");
  for (const RowResult& r : report.rows) {
    const auto peer = report.torch_rows.find({r.row.op, r.row.tokens});
    if (peer != report.torch_rows.end() && peer->second.milliseconds) {
      const double theirs = *peer->second.milliseconds;
      text += fmt::format("  {:<34} {:>12.4f} {:>12.4f} {:>9.2f}x\n", Name(r.row),
                          r.timing.milliseconds, theirs, theirs / r.timing.milliseconds);
    } else {
      text += fmt::format("  {:<34} {:>12.4f} left out: {}\n", Name(r.row), r.timing.milliseconds,
                          peer == report.torch_rows.end() ? "no answer" : peer->second.left_out);
    }
  }
  for (const RowResult& r : report.rows) {
    const auto peer = report.torch_rows.find({r.row.op, r.row.tokens});
    if (peer == report.torch_rows.end()) continue;
    if (const auto theirs = peer->second.triton_milliseconds) {
      text += fmt::format("  {:<34} {:>12.4f} {:>12.4f} {:>9.2f}x  Triton\n", Name(r.row),
                          r.timing.milliseconds, *theirs, *theirs / r.timing.milliseconds);
    } else if (!peer->second.triton_left_out.empty()) {
      text += fmt::format("  {:<34} {:>12.4f} Triton left out: {}\n", Name(r.row),
                          r.timing.milliseconds, peer->second.triton_left_out);
    }
  }
  for (const RowResult& r : report.rows) {
    const auto peer = report.torch_rows.find({r.row.op, r.row.tokens});
    if (!r.held_bytes || peer == report.torch_rows.end() || !peer->second.held_bytes) continue;
    text += fmt::format("  {:<34} {:>8.2f} GiB {:>8.2f} GiB held for backward\n", Name(r.row),
                        GiB(*r.held_bytes), GiB(*peer->second.held_bytes));
  }
  return text;
}

nlohmann::json ToJson(const BenchReport& report) {
  nlohmann::json out = {{"device", report.device},
                        {"driver", report.driver},
                        {"date", report.date},
                        {"ceilings",
                         {{"flops_per_second", report.ceilings.flops_per_second},
                          {"bytes_per_second", report.ceilings.bytes_per_second}}},
                        {"rows", nlohmann::json::array()}};
  for (const RowResult& r : report.rows) {
    nlohmann::json row = {{"section", r.section},
                          {"op", r.row.op},
                          {"tokens", r.row.tokens},
                          {"ms", r.timing.milliseconds},
                          {"samples", r.timing.samples},
                          {"calls", r.timing.calls},
                          {r.row.bound == BenchRow::Bound::kBytes ? "bytes" : "flops", r.row.work},
                          {"formula", r.row.formula},
                          {"ratio", r.ratio()}};
    if (r.held_bytes) row["held_bytes"] = *r.held_bytes;
    if (r.lists) {
      row["lists"] = {{"pattern", r.lists->pattern},
                      {"blocks_of_token", r.lists->of_token},
                      {"distinct_of_4", r.lists->of_adjacent},
                      {"distinct_of_12", r.lists->of_far_adjacent}};
    }
    if (const auto peer = report.torch_rows.find({r.row.op, r.row.tokens});
        peer != report.torch_rows.end()) {
      if (peer->second.held_bytes) row["torch_held_bytes"] = *peer->second.held_bytes;
      if (peer->second.milliseconds) {
        row["torch_ms"] = *peer->second.milliseconds;
      } else {
        row["torch_left_out"] = peer->second.left_out;
      }
      if (peer->second.triton_milliseconds) row["triton_ms"] = *peer->second.triton_milliseconds;
      if (!peer->second.triton_left_out.empty())
        row["triton_left_out"] = peer->second.triton_left_out;
    }
    out["rows"].push_back(std::move(row));
  }
  if (report.loss_memory) {
    out["loss_memory"] = {{"tokens", report.loss_memory->tokens},
                          {"extra_bytes", report.loss_memory->extra_bytes},
                          {"logits_bytes", report.loss_memory->logits_bytes}};
  }
  for (const DecodeResult& r : report.decode) {
    nlohmann::json row = {{"op", r.op},
                          {"batch", r.batch},
                          {"tokens", r.tokens},
                          {"tokens_read", r.tokens_read},
                          {"bytes", r.bytes},
                          {"ms", r.milliseconds},
                          {"ratio", r.bytes_per_second() / report.ceilings.bytes_per_second}};
    if (r.kernels) row["kernels"] = *r.kernels;
    out["decode"].push_back(std::move(row));
  }
  if (report.steps) {
    const StepsResult& s = *report.steps;
    out["steps"] = {{"recipe", s.recipe},
                    {"parameters", s.parameters},
                    {"tokens", s.times.tokens},
                    {"seconds", s.times.seconds},
                    {"queued_seconds", s.times.queued_seconds},
                    {"tokens_per_second", s.times.tokens_per_second()},
                    {"flops_per_token", s.flops_per_token},
                    {"mfu", s.per_second() / report.ceilings.flops_per_second},
                    {"peak_bytes", s.peak_bytes}};
  }
  if (!report.torch.empty()) out["torch"] = report.torch;
  return out;
}

}  // namespace lacuna
