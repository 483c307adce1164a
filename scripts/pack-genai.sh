#!/usr/bin/env bash
# Makes sure that `dotnet restore` finds Microsoft.ML.OnnxRuntimeGenAI and Microsoft.ML.OnnxRuntimeGenAI.Managed.
# Where a package source has them nothing is done. Otherwise both are packed, under their own ids and version, into
# artifacts/packages from the npm package com.github.asus4.onnxruntime-genai: GenAI's C# sources and native libraries.
#   scripts/pack-genai.sh [--force]      --force packs again what is already there
source "$(dirname "$0")/lib.sh"
help_asked "$@"

npm_package=com.github.asus4.onnxruntime-genai@0.4.9
npm_sha256=80d03d6afe24dbf6bcde5bfcf424b26c9a2a4161a495e2dc71ac2e08288e7af4
force=no
case ${1:-} in '') ;; --force) force=yes ;; *) die "unknown argument '$1', see --help" ;; esac

require dotnet
mkdir -p "$feed"
version=$(sed -n 's|.*<OnnxRuntimeGenAIVersion>\(.*\)</.*|\1|p' Directory.Packages.props)
package=$feed/Microsoft.ML.OnnxRuntimeGenAI.$version.nupkg
managed=$feed/Microsoft.ML.OnnxRuntimeGenAI.Managed.$version.nupkg

if [ $force = no ]; then
  if [ -f "$package" ] && [ -f "$managed" ]; then echo "GenAI $version is already in $feed"; exit 0; fi
  if log=$(dotnet restore scripts/packages/OnnxRuntimeGenAI.csproj --force 2>&1); then
    echo "GenAI $version comes from the package sources or the package cache of this machine"; exit 0
  fi
  # NU1101: no source knows the id; NU1102: none has this version. Anything else is trouble that packing cannot mend.
  grep -qE 'NU110[12].*OnnxRuntimeGenAI' <<<"$log" || { printf '%s\n' "$log" >&2; die "restoring GenAI $version failed, see above"; }
fi

require npm tar sha256sum
work=build/packages/genai
rm -rf "$work"; mkdir -p "$work"
step "Fetching $npm_package (100 MB)"
npm pack "$npm_package" --pack-destination "$work" --silent >/dev/null ||
  die "npm could not fetch $npm_package: check the network and 'npm config get registry'"
archive=$(echo "$work"/*.tgz)
echo "$npm_sha256  $archive" | sha256sum --check --quiet - || die "$archive is not the archive that this script knows: its SHA-256 differs"
tar -xzf "$archive" -C "$work" package/LICENSE package/ThirdPartyNotices.txt package/Runtime \
  package/Plugins/Linux package/Plugins/macOS package/Plugins/Windows
rm "$archive"

step "Packing GenAI $version into $feed"
for id in Microsoft.ML.OnnxRuntimeGenAI.Managed Microsoft.ML.OnnxRuntimeGenAI; do
  dotnet pack "scripts/packages/genai/$id.csproj" -c Release -p:GenAISource="$root/$work/package" -o "$work/out" --verbosity quiet
done
mv "$work/out/$(basename "$managed")" "$managed"
mv "$work/out/$(basename "$package")" "$package"
rm -rf "$work"

# NuGet never reads a source again for a version that its cache holds, so drop what an earlier local feed left there.
cache=$(dotnet nuget locals global-packages --list --force-english-output | sed 's/^global-packages: //')
for id in microsoft.ml.onnxruntimegenai microsoft.ml.onnxruntimegenai.managed; do
  metadata=$cache/$id/$version/.nupkg.metadata
  if grep -qs '"source": *"[^"]*artifacts.packages' "$metadata"; then rm -rf "${cache:?}/$id/$version"; fi
done
echo "GenAI $version is in $feed"
