#!/usr/bin/env bash
# Packs the NuGet packages and the tool `ortbi` into artifacts/nuget.
#   scripts/pack.sh [--check]
#     --check      then uses them as a newcomer would: installs the tool, exports the demo model with it, and builds and
#                  runs the program of the README against the packages alone; all of it under build/pack-check.
#   Environment: CUDA=AUTO|ON|OFF and JOBS, as in scripts/build-native.sh. Native libraries of other platforms that lie in
#                artifacts/native/<rid>/ are packed as well.
source "$(dirname "$0")/lib.sh"
help_asked "$@"

check=no
case ${1:-} in '') ;; --check) check=yes ;; *) die "unknown argument '$1', see --help" ;; esac

require dotnet
scripts/pack-genai.sh
[ -f "artifacts/native/$(rid)/$(library_name)" ] || scripts/build-native.sh

packages=artifacts/nuget
rm -rf "$packages"; mkdir -p "$packages"
for project in src/*/*.csproj; do
  step "Packing $(basename "$project" .csproj)"
  # As on a build server: no path of this machine gets into assemblies and symbols.
  dotnet pack "$project" -c Release --verbosity quiet -p:ContinuousIntegrationBuild=true -o "$packages"
done
ls -l "$packages"
[ $check = yes ] || exit 0

work=$root/build/pack-check
rm -rf "$work"; mkdir -p "$work/consumer"
version=$(sed -n 's|.*<VersionPrefix>\(.*\)</.*|\1|p' Directory.Build.props)
cached=$(dotnet nuget locals global-packages --list | sed 's/^[^:]*: //')

step "Installing the tool"
dotnet tool install OrtBatchInvariant.Cli --version "$version" --tool-path "$work/tool" --add-source "$packages"
"$work/tool/ortbi" export models/demo "$work/model" --precision int4

step "Building a program against the packages"
# Directory.Build.* and central package versions of this repository must not reach the program.
for file in Directory.Build.props Directory.Build.targets Directory.Packages.props; do echo '<Project />' > "$work/consumer/$file"; done
cp tests/OrtBatchInvariant.GenAI.Sample/Program.cs "$work/consumer/"
cat > "$work/consumer/consumer.csproj" <<PROJECT
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFramework>net10.0</TargetFramework>
    <ImplicitUsings>enable</ImplicitUsings>
    <!-- A folder of its own, so that no package of this version from an earlier build is taken. -->
    <RestorePackagesPath>$work/packages</RestorePackagesPath>
    <RestoreFallbackFolders>$cached</RestoreFallbackFolders>
    <RestoreAdditionalProjectSources>$root/$packages;$root/$feed</RestoreAdditionalProjectSources>
    <NoWarn>NU1603;NU1507</NoWarn>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="OrtBatchInvariant.GenAI" Version="$version" />
    <PackageReference Include="Microsoft.ML.OnnxRuntime" Version="$(sed -n 's|.*<OnnxRuntimeVersion>\(.*\)</.*|\1|p' Directory.Packages.props)" />
    <PackageReference Include="Microsoft.ML.OnnxRuntimeGenAI" Version="$(sed -n 's|.*<OnnxRuntimeGenAIVersion>\(.*\)</.*|\1|p' Directory.Packages.props)" />
  </ItemGroup>
</Project>
PROJECT
dotnet build "$work/consumer" -c Release --verbosity quiet

step "Running it"
prompt="The President said that"
text=$(dotnet "$work/consumer/bin/Release/net10.0/consumer.dll" "$work/model" "$prompt")
expected=$("$work/tool/ortbi" generate "$work/model" -p "$prompt" --max-tokens 64 2>/dev/null)
echo "$text"
[ -n "$text" ] || die "the program built against the packages printed nothing"
case $expected in *"${text:0:40}"*) ;; *) die "the tool continues the prompt otherwise: '$expected'" ;; esac
echo "The packages work: the tool and a program built against them give the same text."
