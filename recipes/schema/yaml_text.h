// Checks of a document's bytes, made before any parser sees them: what YAML or its parser would let
// pass in silence.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace lacuna {

// The first of: a byte that is not UTF-8, a control character (NUL included), a tab outside a
// comment, a line that git left in an unresolved merge, a %directive, more than 50000 characters
// with a meaning to YAML (nesting bombs), as "<name>:<line>:<column>:
// <message>"; nullopt for clean text. Lines and columns count from 1, columns in bytes.
std::optional<std::string> FindForbiddenText(std::string_view text, const std::string& name);

// Length of the UTF-8 sequence at the start of `text` (RFC 3629: no overlong forms, no surrogates);
// 0 where it is malformed.
size_t Utf8SequenceLength(std::string_view text);

// Does the source of a scalar, from `source` on, stand on one line? `plain` scalars must be `value`
// itself; quoted ones must end on their line (yaml-cpp 0.7 reads an unclosed quote to the end of
// the file and says nothing).
bool IsOneLineScalar(std::string_view source, std::string_view value, bool plain);

}  // namespace lacuna
