// UTF-8: checking, repairing, and the byte alphabet of byte-level BPE.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lacuna {

// Offset of the first byte that does not begin a well-formed character (Unicode 14, table 3-7: no
// overlong forms, no surrogates, at most U+10FFFF); -1 where the text is UTF-8.
int64_t FirstInvalidUtf8(std::string_view text);

// Every maximal ill-formed part replaced by one U+FFFD, as Unicode recommends and Python does.
std::string ReplaceInvalidUtf8(std::string_view text);

// GPT-2's alphabet writes each byte as one visible character: printable ASCII and Latin-1 as
// themselves, the others as U+0100, U+0101, ... in order. `ByteSymbol(' ')` is "Ġ".
std::string ByteSymbol(uint8_t byte);
// Its code point: the order of the alphabet's 256 symbols.
int32_t ByteSymbolCodePoint(uint8_t byte);
// The bytes that `symbols` stands for; false (and `bytes` unspecified) where a character is not of
// the alphabet.
bool BytesFromSymbols(std::string_view symbols, std::string* bytes);
std::string SymbolsFromBytes(std::string_view bytes);

}  // namespace lacuna
