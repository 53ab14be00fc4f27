#include "data/tokenizer/utf8.h"

#include <array>
#include <cstring>

namespace lacuna {
namespace {

// A character, or the longest beginning of one that could still have become well-formed (then ok is
// false; at least one byte).
struct Character {
  int length;
  bool ok;
};

Character ReadCharacter(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  int length = 0;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  uint8_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= text.size() || byte(static_cast<size_t>(i)) < low ||
        byte(static_cast<size_t>(i)) > high)
      return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

// Both directions of the alphabet.
struct Alphabet {
  std::array<int32_t, 256> code_point;
  std::array<int16_t, 0x144> byte;  // by code point; -1: none

  Alphabet() {
    byte.fill(-1);
    int32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const int32_t symbol = visible ? b : next++;
      code_point[static_cast<size_t>(b)] = symbol;
      byte[static_cast<size_t>(symbol)] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& GetAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

int64_t FirstInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    // Eight ASCII bytes at once: most text is.
    while (i + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + i, 8);
      if (word & 0x8080808080808080ull) break;
      i += 8;
    }
    if (i == text.size()) break;
    const Character character = ReadCharacter(text.substr(i));
    if (!character.ok) return static_cast<int64_t>(i);
    i += static_cast<size_t>(character.length);
  }
  return -1;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const int64_t bad = FirstInvalidUtf8(text);
    result.append(text.substr(0, bad < 0 ? text.size() : static_cast<size_t>(bad)));
    if (bad < 0) break;
    text.remove_prefix(static_cast<size_t>(bad));
    result += "\xEF\xBF\xBD";
    text.remove_prefix(static_cast<size_t>(ReadCharacter(text).length));
  }
  return result;
}

int32_t ByteSymbolCodePoint(uint8_t byte) {
  return GetAlphabet().code_point[byte];
}

std::string ByteSymbol(uint8_t byte) {
  const int32_t symbol = ByteSymbolCodePoint(byte);
  if (symbol < 0x80) return std::string(1, static_cast<char>(symbol));
  return {static_cast<char>(0xC0 | (symbol >> 6)), static_cast<char>(0x80 | (symbol & 0x3F))};
}

bool BytesFromSymbols(std::string_view symbols, std::string* bytes) {
  const Alphabet& alphabet = GetAlphabet();
  bytes->clear();
  for (size_t i = 0; i < symbols.size(); ++i) {
    uint32_t symbol = static_cast<uint8_t>(symbols[i]);
    if (symbol >= 0x80) {
      // Every symbol has at most two bytes.
      if ((symbol & 0xE0) != 0xC0 || i + 1 == symbols.size()) return false;
      symbol = ((symbol & 0x1F) << 6) | (static_cast<uint8_t>(symbols[++i]) & 0x3F);
    }
    if (symbol >= alphabet.byte.size() || alphabet.byte[symbol] < 0) return false;
    bytes->push_back(static_cast<char>(alphabet.byte[symbol]));
  }
  return true;
}

std::string SymbolsFromBytes(std::string_view bytes) {
  std::string symbols;
  for (const char byte : bytes) symbols += ByteSymbol(static_cast<uint8_t>(byte));
  return symbols;
}

}  // namespace lacuna
