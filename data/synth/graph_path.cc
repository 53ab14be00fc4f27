// A shortest path in a directed graph by breadth-first search: a line for each node that is visited,
// with all its successors and those not seen before, up to the line that finds the goal; then the
// way back.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "data/synth/problem.h"

namespace lacuna {
namespace {

struct Level {
  int nodes, degree;  // every node has as many edges that leave it
};

constexpr Level kLevels[] = {{5, 2},  {8, 2},   {12, 2},  {18, 2},  {26, 2},
                             {50, 3}, {100, 3}, {200, 4}, {400, 4}, {640, 8}};

struct Graph {
  int nodes = 0;
  int start = 0, goal = 0;
  std::vector<std::pair<int, int>> edges;

  // One letter, or two where there are more nodes than letters.
  std::string Name(int node) const {
    std::string name;
    if (nodes > 26) name += static_cast<char>('A' + node / 26);
    return name + static_cast<char>('A' + node % 26);
  }

  std::string Question() const {
    std::string text = fmt::format("Shortest path from {} to {} :", Name(start), Name(goal));
    const char* separator = " ";
    for (const auto& [from, to] : edges) {
      text += fmt::format("{}{} > {}", separator, Name(from), Name(to));
      separator = " , ";
    }
    return text;
  }

  // In the order of the edges.
  std::vector<std::vector<int>> Successors() const {
    std::vector<std::vector<int>> successors(static_cast<size_t>(nodes));
    for (const auto& [from, to] : edges) successors[static_cast<size_t>(from)].push_back(to);
    return successors;
  }

  // The nodes that breadth-first search finds, in its order; those next to the start left out.
  std::vector<int> FoundLater() const {
    const auto successors = Successors();
    std::vector<int> queue{start};
    std::vector<bool> found(static_cast<size_t>(nodes), false);
    found[static_cast<size_t>(start)] = true;
    size_t next_to_start = 0;
    for (size_t at = 0; at < queue.size(); ++at) {
      for (const int to : successors[static_cast<size_t>(queue[at])]) {
        if (found[static_cast<size_t>(to)]) continue;
        found[static_cast<size_t>(to)] = true;
        queue.push_back(to);
      }
      if (at == 0) next_to_start = queue.size();
    }
    return {queue.begin() + static_cast<int64_t>(next_to_start), queue.end()};
  }

  SynthProblem Solve() const {
    SynthProblem problem{.user = Question(), .reasoning = "", .answer = ""};
    const auto successors = Successors();
    std::vector<int> parent(static_cast<size_t>(nodes), -1), queue{start};
    parent[static_cast<size_t>(start)] = start;
    for (size_t at = 0; parent[static_cast<size_t>(goal)] < 0; ++at) {
      std::string all, fresh;
      for (const int to : successors[static_cast<size_t>(queue[at])]) {
        all += fmt::format(" {}", Name(to));
        if (parent[static_cast<size_t>(to)] >= 0) continue;
        parent[static_cast<size_t>(to)] = queue[at];
        queue.push_back(to);
        fresh += fmt::format(" {}", Name(to));
      }
      problem.reasoning += fmt::format("{} >{} new{}\n", Name(queue[at]), all, fresh);
    }
    problem.reasoning += fmt::format("path {}", Name(goal));
    problem.answer = Name(goal);
    for (int node = goal; node != start;) {
      node = parent[static_cast<size_t>(node)];
      problem.reasoning += fmt::format(" < {}", Name(node));
      problem.answer = fmt::format("{} {}", Name(node), problem.answer);
    }
    return problem;
  }
};

void DrawEdges(int degree, RandomStream& random, Graph* graph) {
  graph->edges.clear();
  for (int from = 0; from < graph->nodes; ++from) {
    std::vector<int> targets;
    while (static_cast<int>(targets.size()) < degree) {
      const int to = random.Below(graph->nodes);
      if (to != from && std::find(targets.begin(), targets.end(), to) == targets.end())
        targets.push_back(to);
    }
    for (const int to : targets) graph->edges.emplace_back(from, to);
  }
  random.Shuffle(&graph->edges);
}

SynthDraft Draw(int level, RandomStream& random) {
  Graph graph;
  graph.nodes = kLevels[level - 1].nodes;
  // A graph without a way of two edges is no problem.
  std::vector<int> found;
  while (found.empty()) {
    DrawEdges(kLevels[level - 1].degree, random, &graph);
    graph.start = random.Below(graph.nodes);
    found = graph.FoundLater();
  }
  // One of those found last, so that there is something to search.
  const int candidates = (static_cast<int>(found.size()) + 2) / 3;
  graph.goal = found[found.size() - 1 - static_cast<size_t>(random.Below(candidates))];
  Graph sorted = graph;
  std::sort(sorted.edges.begin(), sorted.edges.end());
  return {sorted.Question(), [graph = std::move(graph)] { return graph.Solve(); }};
}

}  // namespace

SynthTask GraphPathTask() {
  SynthTask task{
      "graph_path", "a shortest path in a directed graph, breadth first", 0.42, {}, Draw};
  for (const Level& level : kLevels) {
    task.levels.push_back(
        fmt::format("{} nodes, {} edges", level.nodes, level.nodes * level.degree));
  }
  return task;
}

}  // namespace lacuna
