# What the quick starts share; sourced by them from the repository's root.
lacuna=build/cpu-release/bin/lacuna
# Ranks are not bound to cores: mpirun would give each only one.
launch=(mpirun -n 2 --bind-to none)
[ "$(id -u)" -eq 0 ] && launch+=(--allow-run-as-root)
began=$SECONDS
say() { printf '\n== %s (%d:%02d)\n' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }

set_up_and_build() {
  say "set-up and build"
  tools/setup.sh
  cmake --preset cpu-release >/dev/null
  cmake --build build/cpu-release -j "$(nproc)" --target lacuna
}

# Text and a tokenizer of its own, in the folder $1.
fetch_text() {
  tools/fetch_quickstart_text.sh "$1"
  [ -f "$1/tokenizer.json" ] || "$lacuna" tokenizer train "$1/text" --vocab-size 2048 --output "$1/tokenizer.json"
}
