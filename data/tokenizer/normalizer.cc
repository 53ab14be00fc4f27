#include "data/tokenizer/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/error.h"

namespace lacuna {
namespace {

// The characters of Unicode 9, whose tables the `tokenizers` library normalises by: later ones pass
// unchanged, as if they were unassigned. Otherwise a text's ids would depend on the release of ICU.
const icu::UnicodeSet& NormalisedCharacters() {
  static const icu::UnicodeSet* const set = [] {
    UErrorCode error = U_ZERO_ERROR;
    auto* characters = new icu::UnicodeSet(u"[:Age=9.0:]", error);
    LACUNA_CHECK(U_SUCCESS(error), "icu: {}", u_errorName(error));
    characters->freeze();
    return characters;
  }();
  return *set;
}

const icu::Normalizer2& NormalizerOf(NormalForm form) {
  static const auto normalizers = [] {
    UErrorCode error = U_ZERO_ERROR;
    const std::array<const icu::Normalizer2*, 4> complete = {
        icu::Normalizer2::getNFCInstance(error), icu::Normalizer2::getNFDInstance(error),
        icu::Normalizer2::getNFKCInstance(error), icu::Normalizer2::getNFKDInstance(error)};
    LACUNA_CHECK(U_SUCCESS(error), "icu: {}", u_errorName(error));
    std::array<std::unique_ptr<const icu::Normalizer2>, 4> filtered;
    for (size_t i = 0; i < 4; ++i)
      filtered[i] =
          std::make_unique<icu::FilteredNormalizer2>(*complete[i], NormalisedCharacters());
    return filtered;
  }();
  return *normalizers[static_cast<size_t>(form)];
}

}  // namespace

std::string_view Normalize(std::string_view text, const std::vector<NormalForm>& forms,
                           std::string* buffer) {
  if (forms.empty() ||
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }))
    return text;
  for (const NormalForm form : forms) {
    std::string normalized;
    icu::StringByteSink<std::string> sink(&normalized, static_cast<int32_t>(text.size()));
    UErrorCode error = U_ZERO_ERROR;
    NormalizerOf(form).normalizeUTF8(
        0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
    LACUNA_CHECK(U_SUCCESS(error), "icu: {} for {} bytes", u_errorName(error), text.size());
    *buffer = std::move(normalized);
    text = *buffer;
  }
  return text;
}

}  // namespace lacuna
