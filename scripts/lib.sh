# Shared by the scripts beside it: `source "$(dirname "$0")/lib.sh"`. Sets -euo pipefail and moves to the repository root.
set -euo pipefail

script_file=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
feed=artifacts/packages

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

step() { printf '\n==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$script_file")" "$*" >&2; exit 1; }

# The comment block at the top of the script is its help text.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$script_file"; }
help_asked() { case " $* " in *" --help "*|*" -h "*) usage; exit 0 ;; esac; }

# rid: the .NET runtime identifier of this machine. library_name: what the native library is called on it.
rid() {
  local os arch
  case $(uname -s) in
    Linux) os=linux ;; Darwin) os=osx ;; MINGW*|MSYS*|CYGWIN*) os=win ;;
    *) die "this operating system, $(uname -s), is not supported: Linux, macOS or Windows" ;;
  esac
  case $(uname -m) in
    x86_64|amd64) arch=x64 ;; aarch64|arm64) arch=arm64 ;;
    *) die "this processor, $(uname -m), is not supported: x86-64 or arm64" ;;
  esac
  echo "$os-$arch"
}
library_name() {
  case $(rid) in
    win-*) echo ort_batch_invariant.dll ;; osx-*) echo libort_batch_invariant.dylib ;; *) echo libort_batch_invariant.so ;;
  esac
}

# require TOOL...: names every tool that is missing and how to get it, then stops.
require() {
  local tool missing=()
  for tool in "$@"; do
    case $tool in
      dotnet) dotnet --version >/dev/null 2>&1 || missing+=("the .NET SDK 10 (https://dotnet.microsoft.com/download)") ;;
      c++) command -v "${CXX:-c++}" >/dev/null || missing+=("a C++20 compiler (Debian: apt-get install g++)") ;;
      ninja-or-make) command -v ninja >/dev/null || command -v make >/dev/null || missing+=("ninja or make (Debian: apt-get install ninja-build)") ;;
      cmake) command -v cmake >/dev/null || missing+=("cmake 3.25 or later (Debian: apt-get install cmake)") ;;
      npm) command -v npm >/dev/null || missing+=("npm, to fetch GenAI, which no NuGet source here has (Debian: apt-get install npm)") ;;
      googletest)
        printf '#include <gmock/gmock.h>\n' | "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1 ||
          missing+=("GoogleTest with GoogleMock (Debian: apt-get install libgtest-dev libgmock-dev)") ;;
      *) command -v "$tool" >/dev/null || missing+=("$tool") ;;
    esac
  done
  [ ${#missing[@]} -eq 0 ] && return
  printf '%s needs what this machine lacks:\n' "$(basename "$script_file")" >&2
  printf '  - %s\n' "${missing[@]}" >&2
  [ ! -f /etc/debian_version ] || printf 'scripts/install-debian.sh installs all but the .NET SDK.\n' >&2
  exit 1
}
