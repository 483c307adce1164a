using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`bench`: decode steps and prefills of a decoder of real shape with random weights, or products, ours and stock in turn.</summary>
internal static class BenchCommand
{
    private const int Past = 1024;
    private const int Rounds = 5;

    // A copy on an H200 reaches this, reading and writing together, in bytes per microsecond.
    private const double Bandwidth = 4.28e6;

    // bf16 products of 8192^3 on an H200, in operations per microsecond.
    private const double Throughput = 790e6;

    public static Command Create()
    {
        var command = new Command("bench", "Measure decode steps and prefills of a Llama-3-8B shaped decoder with random weights.");
        var common = new CommonOptions(command);
        var rows = new Option<int[]>("--rows") { Description = "Batch sizes of decode steps.", DefaultValueFactory = _ => [1, 8, 32, 128], AllowMultipleArgumentsPerToken = true };
        var prefill = new Option<int[]>("--prefill") { Description = "Prompt lengths of prefills.", DefaultValueFactory = _ => [2048, 8192], Arity = ArgumentArity.ZeroOrMore, AllowMultipleArgumentsPerToken = true };
        var dtypes = new Option<string[]>("--dtypes") { Description = "fp16, bf16 and int4.", DefaultValueFactory = _ => ["fp16", "int4"], AllowMultipleArgumentsPerToken = true };
        var layers = new Option<int>("--layers") { Description = "Number of layers.", DefaultValueFactory = _ => 32 };
        var name = new Option<string>("--name") { Description = "What to call the device.", DefaultValueFactory = _ => "" };
        var products = new Option<string[]>("--products")
        {
            Description = "Measure MatMul and MatMulNBits with weights of these sizes instead, each K:N, over the row counts of --rows.", DefaultValueFactory = _ => [], HelpName = "K:N",
            AllowMultipleArgumentsPerToken = true,
        };
        var experts = new Option<string[]>("--experts")
        {
            Description = "Measure MoE and QMoE of these sizes instead, each HIDDEN:INTER:EXPERTS:K, over the row counts of --rows.", DefaultValueFactory = _ => [], HelpName = "SIZES",
            AllowMultipleArgumentsPerToken = true,
        };
        var seconds = new Option<int>("--seconds") { Description = "After so long nothing more is begun; what is left out is said.", DefaultValueFactory = _ => int.MaxValue };
        foreach (Option option in (Option[])[rows, prefill, dtypes, layers, products, experts, name, seconds])
        {
            command.Add(option);
        }

        command.SetAction(parsed =>
        {
            var bench = new Bench(common.Read(parsed), parsed.GetRequiredValue(rows), parsed.GetRequiredValue(prefill), parsed.GetValue(layers), TimeSpan.FromSeconds(parsed.GetValue(seconds)), parsed.GetRequiredValue(name), Arguments(parsed));
            foreach (string dtype in parsed.GetRequiredValue(dtypes))
            {
                if (parsed.GetRequiredValue(products) is { Length: > 0 } sizes)
                {
                    bench.RunProducts(dtype, [.. sizes.Select(Size)]);
                }
                else if (parsed.GetRequiredValue(experts) is { Length: > 0 } mixtures)
                {
                    bench.RunExperts(dtype, [.. mixtures.Select(Mixture)]);
                }
                else
                {
                    bench.Run(dtype);
                }
            }

            return bench.Rows > 0 ? 0 : 1;
        });
        return command;
    }

    private static (int K, int N) Size(string text) =>
        text.Split(':') is [var k, var n] && int.TryParse(k, NumberStyles.None, CultureInfo.InvariantCulture, out int depth) && int.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out int width)
        && depth > 0 && depth % 32 == 0 && width > 0
            ? (depth, width)
            : throw new VerificationException($"--products holds '{text}': use K:N, K a multiple of 32, for example 4096:14336.");

    private static ExpertsModel Mixture(string text)
    {
        int[] sizes = [.. text.Split(':').Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int size) ? size : 0)];
        return sizes is [var hidden and > 0, var inter and > 0, var count and > 0, var k and > 0] && k <= count && hidden % 32 == 0 && inter % 32 == 0
            ? new ExpertsModel(hidden, inter, count, k)
            : throw new VerificationException($"--experts holds '{text}': use HIDDEN:INTER:EXPERTS:K, the first two multiples of 32, for example 2048:768:128:8.");
    }

    // What was measured; not where files lie.
    private static string Arguments(ParseResult parsed)
    {
        List<string> tokens = [.. parsed.Tokens.Select(token => token.Value)];
        foreach (string option in (string[])["--models", "--json"])
        {
            if (tokens.IndexOf(option) is var at and >= 0)
            {
                tokens.RemoveRange(at, 2);
            }
        }

        return string.Join(' ', tokens.Select(token => token.Contains(' ', StringComparison.Ordinal) ? $"'{token}'" : token));
    }

    private sealed class Bench(CommonValues values, int[] rowCounts, int[] prefills, int layers, TimeSpan limit, string device, string command)
    {
        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private readonly List<BenchmarkRow> _rows = [];
        private readonly List<string> _notMeasured = [];

        public int Rows => _rows.Count;

        public void Run(string dtype)
        {
            var options = new ExportOptions
            {
                Target = values.DeviceId is null ? ExportTarget.Cpu : ExportTarget.Cuda,
                AccuracyLevel = 0,
                Precision = dtype switch
                {
                    "fp16" => ExportPrecision.Fp16,
                    "bf16" => ExportPrecision.Bf16,
                    "int4" => ExportPrecision.Int4,
                    "fp32" => ExportPrecision.Fp32,
                    _ => throw new VerificationException($"--dtypes holds '{dtype}': use fp16, bf16 or int4."),
                },
            };
            HfConfig shape = KnownShapes.Get("llama3-8b") with { LayerCount = layers, ContextLength = 16384 };
            if (values.IsQuick)
            {
                shape = shape with { HiddenSize = 512, IntermediateSize = 1024, HeadCount = 4, KeyValueHeadCount = 2, VocabularySize = 4096 };
            }

            if (IsOver($"whole steps in {dtype}"))
            {
                return;
            }

            string name = values.IsQuick ? "small" : "llama3-8b-shaped";
            ModelFolder folder = RepeatedLayers.Make(values.ModelsFolder, $"bench-{name}-{layers}-{dtype}-{options.Target}", shape, options);
            bool hasGraphs = values.DeviceId is not null;
            using DecoderModel ours = DecoderModel.Open(folder, values.Options(KernelSet.BatchInvariant) with { EnableCudaGraph = hasGraphs });
            using DecoderModel? stock = values.Stock ? DecoderModel.Open(folder, values.Options(KernelSet.Stock) with { EnableCudaGraph = hasGraphs }) : null;

            double parameters = (((long)shape.HiddenSize * shape.HeadSize * ((2 * shape.HeadCount) + (2 * shape.KeyValueHeadCount))) + (3L * shape.HiddenSize * shape.IntermediateSize)) * (double)layers
                + ((double)shape.HiddenSize * shape.VocabularySize);
            double weightBytes = parameters * (dtype == "int4" ? 0.5 + (2.0 / 32) : 2);
            double cacheBytes = 2.0 * layers * shape.KeyValueHeadCount * shape.HeadSize * 2;
            foreach (int rows in rowCounts.Where(rows => !IsOver($"decode step in {dtype}, {rows} rows")))
            {
                double floor = Math.Max((weightBytes + (rows * cacheBytes * Past)) / Bandwidth, 2 * parameters * rows / Throughput);
                Measure(
                    name, "decode step", $"{layers} layers, {Past} past, CUDA graph", dtype, rows, rows, floor, stock is null ? null : () => DecoderTiming.DecodeStep(stock, rows, Past),
                    () => DecoderTiming.DecodeStep(ours, rows, Past), warmUp: 6, each: values.IsQuick ? 2 : 12);
            }

            foreach (int tokens in prefills.Where(tokens => !IsOver($"prefill in {dtype}, {tokens} tokens")))
            {
                double attention = 2.0 * layers * shape.HeadCount * shape.HeadSize * tokens * tokens;
                double floor = Math.Max(weightBytes / Bandwidth, ((2 * parameters * tokens) + attention) / Throughput);
                Measure(
                    name, "prefill", $"{layers} layers, {tokens} tokens", dtype, 1, tokens, floor, stock is null ? null : () => DecoderTiming.Prefill(stock, 1, tokens),
                    () => DecoderTiming.Prefill(ours, 1, tokens), warmUp: 1, each: 1);
            }
        }

        /// <summary>Measures a model of several products of one size; what is recorded is the time of one.</summary>
        public void RunProducts(string dtype, IReadOnlyList<(int K, int N)> sizes)
        {
            if (dtype is not ("fp16" or "bf16" or "int4"))
            {
                throw new VerificationException($"--dtypes holds '{dtype}': use fp16, bf16 or int4.");
            }

            bool hasGraphs = values.DeviceId is not null;
            foreach ((int k, int n) in sizes.Where(size => !IsOver($"products in {dtype}, {size.K}:{size.N}")))
            {
                string file = ProductModel.Make(values.ModelsFolder, dtype, k, n);
                int copies = ProductModel.Copies(dtype, k, n);
                using ProductSession ours = ProductSession.Open(file, values.Options(KernelSet.BatchInvariant) with { EnableCudaGraph = hasGraphs });
                using ProductSession? stock = values.Stock ? ProductSession.Open(file, values.Options(KernelSet.Stock) with { EnableCudaGraph = hasGraphs }) : null;
                foreach (int rows in rowCounts)
                {
                    double floor = Math.Max(
                        (ProductModel.WeightBytes(dtype, k, n) + (2.0 * rows * (k + n))) / Bandwidth, 2.0 * rows * k * n / Throughput);
                    Measure(
                        "products", dtype == "int4" ? "MatMulNBits" : "MatMul", FormattableString.Invariant($"k{k} n{n}, {copies} products, CUDA graph"), dtype, rows, null, floor,
                        stock is null ? null : () => stock.Time(rows), () => ours.Time(rows), warmUp: 4, each: values.IsQuick ? 1 : 3, copies);
                }
            }
        }

        /// <summary>Measures a model of several mixtures of experts of one size; what is recorded is the time of one.</summary>
        public void RunExperts(string dtype, IReadOnlyList<ExpertsModel> models)
        {
            bool hasGraphs = values.DeviceId is not null;
            foreach (ExpertsModel model in models.Where(model => !IsOver($"experts in {dtype}, {model}")))
            {
                string file = model.Make(values.ModelsFolder, dtype);
                int copies = model.Copies(dtype);
                using ProductSession ours = ProductSession.Open(file, values.Options(KernelSet.BatchInvariant) with { EnableCudaGraph = hasGraphs });
                using ProductSession? stock = values.Stock ? OpenStock(file) : null;
                foreach (int rows in rowCounts)
                {
                    double floor = Math.Max(
                        model.UsedExperts(rows) * model.ExpertBytes(dtype) / Bandwidth, 6.0 * rows * model.K * model.Hidden * model.Inter / Throughput);
                    Measure(
                        "experts", dtype == "int4" ? "QMoE" : "MoE",
                        FormattableString.Invariant($"hidden {model.Hidden}, inter {model.Inter}, {model.K} of {model.Experts} experts, {copies} mixtures"),
                        dtype, rows, null, floor, stock is null ? null : () => stock.Time(rows), () => ours.Time(rows), warmUp: 4, each: values.IsQuick ? 1 : 3, copies);
                }
            }
        }

        // Without a graph, which its kernels may not stand. Null where stock does not take the weights.
        private ProductSession? OpenStock(string file)
        {
            try
            {
                return ProductSession.Open(file, values.Options(KernelSet.Stock));
            }
            catch (VerificationException exception)
            {
                LeaveOut($"stock: {exception.Message}");
                return null;
            }
        }

        // Whenever something is added, so that a run that is cut leaves what it measured.
        private void WriteRecord()
        {
            if (values.JsonFile is { } file)
            {
                var record = new BenchmarkRecord(
                    device, DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), $"ortbi-gpu {command}",
                    Environment.GetEnvironmentVariable("ORTBI_COMMIT") ?? "", OrtEnv.Instance().GetVersionString(), _rows, _notMeasured.Count > 0 ? _notMeasured : null);
                AtomicText.Write(file, JsonSerializer.Serialize(record, RecordContext.Default.BenchmarkRecord) + "\n");
            }
        }

        private bool IsOver(string next)
        {
            bool isOver = _clock.Elapsed > limit;
            if (isOver)
            {
                LeaveOut($"{next}: after {limit.TotalSeconds:F0} s nothing more was begun");
            }

            return isOver;
        }

        private void LeaveOut(string what)
        {
            Console.WriteLine($"not measured: {what}");
            _notMeasured.Add(what);
            WriteRecord();
        }

        // What does not fit the device's memory is left out.
        private void Measure(
            string subject, string op, string shape, string dtype, int rows, int? tokens, double floor, Func<TimedRun>? stock, Func<TimedRun> ours, int warmUp, int each, int copies = 1)
        {
            try
            {
                AddRow(subject, op, shape, dtype, rows, tokens, floor, stock, ours, warmUp, each, copies);
            }
            catch (Exception exception) when (exception is VerificationException or OnnxRuntimeException)
            {
                LeaveOut($"{op} in {dtype}, {shape}, {rows} rows: {exception.Message.ReplaceLineEndings(" ").Trim()}");
            }
        }

        private void AddRow(
            string subject, string op, string shape, string dtype, int rows, int? tokens, double floor, Func<TimedRun>? stock, Func<TimedRun> ours, int warmUp, int each, int copies)
        {
            using TimedRun? peer = stock?.Invoke();
            using TimedRun run = ours();
            peer?.WarmUp(warmUp);
            run.WarmUp(warmUp);
            for (int round = 0; round < Rounds; round++)
            {
                peer?.Measure(each);
                run.Measure(each);
            }

            double microseconds = run.Microseconds / copies;
            double? peerMicroseconds = peer?.Microseconds / copies;
            var row = new BenchmarkRow(
                subject, op, shape, dtype, rows, peer is null ? "" : $"ONNX Runtime {OrtEnv.Instance().GetVersionString()} {(values.DeviceId is null ? "CPU" : "CUDA")}",
                Round(peerMicroseconds), Math.Round(microseconds, 1), Math.Round(floor, 1), Round(tokens * 1e6 / peerMicroseconds), Round(tokens * 1e6 / microseconds),
                peerMicroseconds is { } other ? Math.Round(other / microseconds, 3) : null);
            _rows.Add(row);
            WriteRecord();
            string speed = row.TokensPerSecond is { } perSecond ? FormattableString.Invariant($" {perSecond:N0} tokens/s;") : "";
            Console.WriteLine(FormattableString.Invariant(
                $"{op} {dtype} {shape}, {rows} rows, after {_clock.Elapsed.TotalSeconds:F0} s: {row.Microseconds / 1000:F4} ms;{speed} stock {row.PeerMicroseconds / 1000:F4} ms; ratio {row.Ratio:F2}; floor {row.FloorMicroseconds / 1000:F4} ms"));
        }

        private static double? Round(double? value) => value is { } number ? Math.Round(number, 1) : null;
    }
}
