// Shortest paths: every edge of an answer must be there, and its length the distance that relaxing
// all edges until nothing changes gives.
#include <map>
#include <set>

#include "data/synth/checkers.h"

namespace lacuna::synth {
namespace {

using Name = std::string_view;

struct Graph {
  Name start, goal;
  std::vector<std::pair<Name, Name>> edges;
};

std::optional<Graph> Read(std::string_view user) {
  WordReader words(user);
  Graph graph;
  if (!words.TakeAll("Shortest path from")) return std::nullopt;
  graph.start = words.Next();
  if (!words.Take("to")) return std::nullopt;
  graph.goal = words.Next();
  if (!words.Take(":")) return std::nullopt;
  do {
    const Name from = words.Next();
    if (!words.Take(">") || words.done()) return std::nullopt;
    graph.edges.emplace_back(from, words.Next());
  } while (words.Take(","));
  if (!words.done()) return std::nullopt;
  return graph;
}

// Edges of a shortest path from start to goal; empty where there is no path.
std::optional<int64_t> Distance(const Graph& graph) {
  std::map<Name, int64_t> distance{{graph.start, 0}};
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [from, to] : graph.edges) {
      const auto known = distance.find(from);
      if (known == distance.end()) continue;
      const auto [entry, added] = distance.try_emplace(to, known->second + 1);
      if (!added && entry->second <= known->second + 1) continue;
      entry->second = known->second + 1;
      changed = true;
    }
  }
  const auto found = distance.find(graph.goal);
  if (found == distance.end()) return std::nullopt;
  return found->second;
}

std::optional<CheckVerdict> Answer(std::string_view user, std::string_view answer) {
  const auto graph = Read(user);
  if (!graph) return std::nullopt;
  const auto distance = Distance(*graph);
  if (!distance) return std::nullopt;
  std::vector<Name> path;
  for (WordReader words(answer); !words.done();) path.push_back(words.Next());
  if (path.empty()) return Wrong("the answer is empty, must be a path");
  if (path.front() != graph->start || path.back() != graph->goal)
    return Wrong("the path goes from {} to {}, must be from {} to {}", path.front(), path.back(),
                 graph->start, graph->goal);
  const std::set<std::pair<Name, Name>> edges(graph->edges.begin(), graph->edges.end());
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    if (!edges.contains({path[i], path[i + 1]}))
      return Wrong("there is no edge {} > {}", path[i], path[i + 1]);
  }
  const auto length = static_cast<int64_t>(path.size()) - 1;
  if (length != *distance)
    return Wrong("the path has {} edges, the shortest has {}", length, *distance);
  return Correct();
}

// One line "X > successors new those not seen before" for the node that is next in the queue.
CheckVerdict TakeVisit(const std::multimap<Name, Name>& successors, Name node, WordReader* words,
                       std::map<Name, Name>* parents, std::vector<Name>* queue) {
  const std::string where = words->Where();
  if (words->Next() != node || !words->Take(">"))
    return Wrong("{}: the next line must be for {}", where, node);
  std::vector<Name> fresh;
  const auto [begin, end] = successors.equal_range(node);
  for (auto edge = begin; edge != end; ++edge) {
    if (words->Next() != edge->second)
      return Wrong("{}: {} must stand where {} does among the successors of {}", where,
                   edge->second, words->Where(), node);
    if (parents->try_emplace(edge->second, node).second) fresh.push_back(edge->second);
  }
  if (!words->Take("new")) return Wrong("{}: no \"new\" behind the successors of {}", where, node);
  for (const Name to : fresh) {
    if (words->Next() != to) return Wrong("{}: {} is new and is left out", where, to);
    queue->push_back(to);
  }
  if (!words->Take("\n")) return Wrong("{}: the line must end before {}", where, words->Where());
  return Correct();
}

std::optional<CheckVerdict> Trace(std::string_view user, std::string_view reasoning) {
  const auto graph = Read(user);
  if (!graph || !Distance(*graph)) return std::nullopt;
  std::multimap<Name, Name> successors;  // equal keys keep the order of the text
  for (const auto& [from, to] : graph->edges) successors.emplace(from, to);
  WordReader words(reasoning, /*lines=*/true);
  std::map<Name, Name> parents{{graph->start, graph->start}};
  std::vector<Name> queue{graph->start};
  for (size_t at = 0; !parents.contains(graph->goal); ++at) {
    CheckVerdict verdict = TakeVisit(successors, queue[at], &words, &parents, &queue);
    if (!verdict.correct) return verdict;
  }
  if (!words.Take("path") || words.Next() != graph->goal)
    return Wrong("the goal is found: \"path {}\" must stand before {}", graph->goal, words.Where());
  for (Name node = graph->goal; node != graph->start;) {
    node = parents.at(node);
    const std::string where = words.Where();
    if (!words.Take("<") || words.Next() != node)
      return Wrong("{}: the way back must go on with < {}", where, node);
  }
  if (!words.done()) return Wrong("behind the path: {}", words.Where());
  return Correct();
}

}  // namespace

Checker GraphPathChecker() {
  return {"graph_path", "Shortest path from", Answer, Trace};
}

}  // namespace lacuna::synth
