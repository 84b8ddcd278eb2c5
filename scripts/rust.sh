# Finds cargo and checks its version. Sourced (also by sh), not run.
#
# The version wanted is `rust-version` of Cargo.toml; RUST_OK is set when it is there.

if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  export PATH
fi
rust_wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
if ! rust_has="$(cargo --version 2>/dev/null)"; then
  echo "error: there is no working cargo; jangbu needs Rust $rust_wanted or newer (Debian's own is too old)." >&2
  echo "  try: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
  echo "       then run this command again (no new shell is needed)" >&2
  echo "       if rustup is there already: rustup default stable" >&2
  exit 1
fi
rust_has="$(echo "$rust_has" | sed 's/^cargo \([0-9.]*\).*/\1/')"
if [ "$(printf '%s\n' "$rust_wanted" "$rust_has" | sort -V | head -n 1)" != "$rust_wanted" ]; then
  echo "error: $(command -v cargo) is version $rust_has; jangbu needs Rust $rust_wanted or newer." >&2
  if command -v rustup >/dev/null 2>&1; then
    echo "  try: rustup update stable && rustup default stable" >&2
  else
    echo "  try: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    echo "       and put ~/.cargo/bin first in PATH" >&2
  fi
  exit 1
fi
