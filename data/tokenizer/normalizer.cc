#include "data/tokenizer/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace lacuna {
namespace {

const icu::Normalizer2& NormalizerOf(NormalForm form) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc: normalizer = icu::Normalizer2::getNFCInstance(error); break;
    case NormalForm::kNfd: normalizer = icu::Normalizer2::getNFDInstance(error); break;
    case NormalForm::kNfkc: normalizer = icu::Normalizer2::getNFKCInstance(error); break;
    case NormalForm::kNfkd: normalizer = icu::Normalizer2::getNFKDInstance(error); break;
  }
  LACUNA_CHECK(U_SUCCESS(error), "icu: {}", u_errorName(error));
  return *normalizer;
}

}  // namespace

std::string_view Normalize(std::string_view text, const std::vector<NormalForm>& forms, std::string* buffer) {
  if (forms.empty() || std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; })) return text;
  for (const NormalForm form : forms) {
    std::string normalized;
    icu::StringByteSink<std::string> sink(&normalized, static_cast<int32_t>(text.size()));
    UErrorCode error = U_ZERO_ERROR;
    NormalizerOf(form).normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
    LACUNA_CHECK(U_SUCCESS(error), "icu: {} for {} bytes", u_errorName(error), text.size());
    *buffer = std::move(normalized);
    text = *buffer;
  }
  return text;
}

}  // namespace lacuna
