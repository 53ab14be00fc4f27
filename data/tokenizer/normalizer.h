// Unicode normalisation forms (ICU), of the characters that Unicode 9 has: those of the
// `tokenizers` library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lacuna {

enum class NormalForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// `text` (UTF-8) put through `forms` in order; the result is `text` itself or lies in `buffer`.
// ASCII is in every form already.
std::string_view Normalize(std::string_view text, const std::vector<NormalForm>& forms,
                           std::string* buffer);

}  // namespace lacuna
