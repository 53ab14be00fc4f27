// Random damage to a file's bytes.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace lacuna::test {

// One edit, or one to four: bits and bytes changed; bytes removed, repeated, exchanged, cut off; numbers,
// binary or in digits, that are too large, negative or off by one; words of the format put in or
// over; a part of `other`, a file of the same format, put in.
std::string Mutate(std::string bytes, const std::string& other,
                   const std::vector<std::string_view>& words, std::mt19937_64& random);

}  // namespace lacuna::test
