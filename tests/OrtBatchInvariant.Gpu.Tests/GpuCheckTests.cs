using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Gpu.Tests;

/// <summary>`gpu-check.sh` without a GPU: the whole of it on the CPU, and what it makes of the tools of a GPU machine, by stand-ins.</summary>
public sealed class GpuCheckTests : IDisposable
{
    private const string NoGpu = "--device cpu --quick";

    private readonly TemporaryFolder _folder = new();

    public GpuCheckTests()
    {
        File.Copy(Path.Combine(AppContext.BaseDirectory, "gpu-check.sh"), At("gpu-check.sh"));
        Directory.CreateDirectory(At("examples"));
        File.Copy(Path.Combine(AppContext.BaseDirectory, "first_logits.py"), At("examples/first_logits.py"));
        Directory.CreateDirectory(At("library"));
        File.CreateSymbolicLink(At("library/libort_batch_invariant.so"), BatchInvariantProvider.GetLibraryPath());
        File.WriteAllText(At("COMMIT"), "0123abc\n");
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task EveryCheckPassesOnTheCpu()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        Directory.CreateSymbolicLink(At("program"), AppContext.BaseDirectory);
        (int exitCode, string output) = await Check(
            $"{NoGpu} --only", "bad-input alone converted ops completions invariance verify bench", "--bench", "--layers 2 --rows 1 2 --prefill 40 --dtypes int4 fp32");
        Assert.True(exitCode == 0, output);

        JsonElement checks = Json("checks.json");
        Assert.Equal((0, "0123abc"), (checks.GetProperty("failed").GetInt32(), checks.GetProperty("commit").GetString()));
        Assert.True(checks.GetProperty("elementsCompared").GetInt64() > 1_000_000);
        string[] subjects = [.. checks.GetProperty("programs").EnumerateArray().Select(program => program.GetProperty("subject").GetString()!).Order()];
        Assert.Equal(["alone", "bad-input", "completions", "converted", "invariance", "invariance", "ops", "verify"], subjects);
        Assert.All(checks.GetProperty("programs").EnumerateArray(), program => Assert.True(program.GetProperty("checks").GetArrayLength() > 0));
        JsonElement bench = Json("bench.json");
        Assert.Equal(6, bench.GetProperty("rows").GetArrayLength());
        Assert.False(bench.TryGetProperty("notMeasured", out _));
    }

    [Theory]
    [InlineData("exit 3", "FAILED alone: exit status 3", 3)]
    [InlineData("[ $1 = summary ] || sleep 30", "FAILED alone: it took longer than 1 s", 2)]
    public async Task AProgramThatFailsFailsTheCheck(string program, string said, int failed)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        Script("program/ortbi-gpu", program);
        (int exitCode, string output) = await Check($"{NoGpu} --limit 1 --only", "alone bench");
        Assert.Equal(1, exitCode);
        Assert.Contains(said, output, StringComparison.Ordinal);
        Assert.Contains($"FAILED ({failed})", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, "SUMMARY: 3 errors", 0, "PASSED")]
    [InlineData(true, "SUMMARY: 0 errors", 1, "FAILED memcheck finds nothing")]
    [InlineData(false, "SUMMARY: 3 errors", 1, "FAILED sanitize-synccheck-self_test: exit status 9")]
    public async Task SanitizersMustFindWhatIsPlantedAndNothingElse(bool isClean, string planted, int expected, string said)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        Script("tools/nvidia-smi", """case $1 in *name*) echo "A GPU" ;; *memory*) echo 81559 ;; *) echo 9.0 ;; esac""");
        Script("tools/cuobjdump", "echo symbols");
        Script("program/ortbi-gpu", """echo "$@" >> "$(dirname "$0")/calls.txt" """);
        Script("tools/compute-sanitizer", $"""
            echo "$@" >> "$(dirname "$0")/calls.txt"
            case $* in
              --help) echo "  --racecheck-indirect-barrier-dependency" ;;
              *ReadsWhatItMustNot*) echo "at CountKernel"; echo "========= ERROR {planted}"; exit 9 ;;
              *ReadsBeforeTheBarrier*) echo "at ReversedKernel"; echo "========= RACECHECK {planted}"; exit 9 ;;
              *synccheck*self_test*) {(isClean ? ":" : "exit 9")} ;;
            esac
            """);
        foreach (string test in (string[])["gemm", "matmul_nbits", "group_query_attention", "moe", "multi_head_attention", "norm", "softmax", "elementwise", "layout", "self_test"])
        {
            Script($"library/cuda_{test}_test", "exit 0");
        }

        (int exitCode, string output) = await Check("--only", "sanitize");
        Assert.True(expected == exitCode, output);
        Assert.Contains(said, output, StringComparison.Ordinal);

        string[] calls = File.ReadAllLines(At("tools/calls.txt"));
        Assert.Equal((4 * 10) + 3 + 1, calls.Length);
        Assert.All(calls, call => Assert.DoesNotContain("--kernel", call, StringComparison.Ordinal));
        string[] races = [.. calls.Where(call => call.Contains("racecheck", StringComparison.Ordinal))];
        Assert.Equal(10 + 1, races.Length);
        Assert.All(races, call => Assert.Contains("--racecheck-indirect-barrier-dependency ", call, StringComparison.Ordinal));
        Assert.All(races, call => Assert.True(!call.Contains("RingsAreFilledAgain", StringComparison.Ordinal) && !call.Contains("PassesOnThisDevice", StringComparison.Ordinal), call));
        Assert.Contains("kernels ", File.ReadAllText(At("program/calls.txt")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--device tpu", "--device is 'tpu'")]
    [InlineData("--only rubbish", "--only holds 'rubbish'")]
    [InlineData("--rubbish", "unknown argument '--rubbish'")]
    [InlineData("--device cuda", "nvidia-smi")]
    public async Task BadInputIsOneSentence(string arguments, string part)
    {
        if (!OperatingSystem.IsLinux() || File.Exists("/dev/nvidiactl"))
        {
            return;
        }

        (int exitCode, string output) = await Check(arguments);
        Assert.NotEqual(0, exitCode);
        Assert.Contains(part, output, StringComparison.Ordinal);
        Assert.Single(output.Trim().Split('\n'));
    }

    private string At(string path) => Path.Combine(_folder.Path, path);

    private JsonElement Json(string file) => JsonDocument.Parse(File.ReadAllText(At($"results/{file}"))).RootElement;

    private void Script(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        File.WriteAllText(At(path), $"#!/bin/bash\n{text}\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(At(path), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    // The first argument is several words.
    private async Task<(int ExitCode, string Output)> Check(string words, params string[] arguments)
    {
        var start = new ProcessStartInfo("bash", [At("gpu-check.sh"), .. words.Split(' '), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] = $"{At("tools")}:{start.Environment["PATH"]}";
        start.Environment["DOTNET_ROOT"] = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../.."));
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync() + await error;
        await process.WaitForExitAsync();
        return (process.ExitCode, output);
    }
}
