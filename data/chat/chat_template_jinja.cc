// The built-in templates in Jinja. Only constructs that the widely used templates have themselves
// are used, so that the smaller Jinja engines of inference servers know them, too.
#include <fmt/format.h>

#include "data/chat/chat_template.h"

namespace lacuna {
namespace {

// A Jinja string.
std::string Literal(std::string_view text) {
  std::string literal = "'";
  for (const char c : text) {
    if (c == '\n') {
      literal += "\\n";
    } else {
      if (c == '\'' || c == '\\') literal += '\\';
      literal += c;
    }
  }
  return literal + "'";
}

// {{- a + b + c }} of what is not empty.
std::string Print(const std::vector<std::string>& expressions) {
  std::string sum;
  for (const std::string& expression : expressions) {
    if (expression == "''") continue;
    sum.append(sum.empty() ? "" : " + ").append(expression);
  }
  return "{{- " + sum + " }}\n";
}

// Sets `content`, and prints the reasoning.
std::string ReadAnswer(const ChatTemplate& format, HistoryThinking history_thinking) {
  std::string text = R"(        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- endif %}
        {%- if not reasoning.strip() and content.lstrip().startswith('<think>') and '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[1:] | join('<think>') %}
            {%- set content = content.split('</think>')[1:] | join('</think>') %}
            {%- set content = content.lstrip('\n') %}
        {%- endif %}
)";
  const bool strip = format.strip_answers;
  if (strip) text += "        {%- set content = content.strip() %}\n";
  text += "        {%- if reasoning.strip()";
  if (history_thinking == HistoryThinking::kDrop) text += " and loop.index0 > ns.last_user";
  text += " %}\n            " + Print({Literal(format.think_before),
                                       strip ? "reasoning.strip()" : "reasoning.strip('\\n')",
                                       Literal(format.think_after)});
  if (!strip) text += "            {%- set content = content.lstrip('\\n') %}\n";
  if (!format.no_think.empty())
    text += "        {%- else %}\n            " + Print({Literal(format.no_think)});
  return text + "        {%- endif %}\n";
}

constexpr char kBeginning[] = R"({%- if tools %}
    {{- raise_exception('tools are not supported') }}
{%- endif %}
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set ns.last_user = loop.index0 %}
    {%- endif %}
{%- endfor %}
)";

constexpr char kMessage[] = R"({%- for message in messages %}
    {%- set content = message.content %}
    {%- if content is not string %}
        {{- raise_exception('content must be a string') }}
    {%- endif %}
    {%- if message.tool_calls %}
        {{- raise_exception('tool calls are not supported') }}
    {%- endif %}
)";

constexpr char kOtherRoles[] = R"(    {%- elif message.role == 'system' %}
        {{- raise_exception('a system message must be the first') }}
    {%- else %}
        {{- raise_exception('role must be system, user or assistant') }}
    {%- endif %}
)";

}  // namespace

std::string ChatTemplateJinja(const ChatTemplate& format, HistoryThinking history_thinking) {
  const std::string prompt = format.strip_prompts ? "content.strip()" : "content";
  std::string text = kBeginning;
  if (!format.begin.empty()) text += Print({Literal(format.begin)});
  text += kMessage;
  text += "    {%- if message.role == 'system' and loop.first %}\n        " +
          Print({Literal(format.system.before), prompt, Literal(format.system.after)});
  text += "    {%- elif message.role == 'user' %}\n        " +
          Print({Literal(format.user.before), prompt, Literal(format.user.after)});
  text +=
      "    {%- elif message.role == 'assistant' %}\n        " + Print({Literal(format.assistant)});
  text += ReadAnswer(format, history_thinking);
  text += "        " + Print({"content", Literal(format.stop + format.assistant_after)});
  text += kOtherRoles;
  if (!format.end.empty()) {
    text +=
        "    {%- if loop.last and message.role == 'assistant' and not add_generation_prompt %}\n";
    text += "        " + Print({Literal(format.end)}) + "    {%- endif %}\n";
  }
  text += "{%- endfor %}\n{%- if add_generation_prompt %}\n    " +
          Print({Literal(format.assistant)}) + "{%- endif %}";
  return text;
}

}  // namespace lacuna
