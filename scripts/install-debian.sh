#!/usr/bin/env bash
# Installs the Debian packages that building and testing need and that are missing. Needs root.
# The .NET SDK is not among them: https://dotnet.microsoft.com/download
#   scripts/install-debian.sh [--neon]      --neon: also the cross compiler and emulator of scripts/test-neon.sh
source "$(dirname "$0")/lib.sh"
help_asked "$@"

packages=(cmake g++ ninja-build libgtest-dev libgmock-dev)
# A browser looks at the page that `ortbi verify --html` writes; any Chromium will do.
command -v chromium >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
case ${1:-} in '') ;; --neon) packages+=(g++-aarch64-linux-gnu qemu-user-static) ;; *) die "unknown argument '$1', see --help" ;; esac
# npm is only there to fetch GenAI; any npm will do, not just Debian's.
command -v npm >/dev/null || packages+=(npm)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then echo "Nothing to install: ${packages[*]} are there"; exit 0; fi
[ "$(id -u)" -eq 0 ] || die "run as root to install: ${missing[*]}"
step "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
