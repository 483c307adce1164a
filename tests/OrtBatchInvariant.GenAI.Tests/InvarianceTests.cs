using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.GenAI.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

[Collection(DemoModels.Name)]
public sealed class InvarianceTests(DemoModels models, ITestOutputHelper output)
{
    private const int Steps = 12;
    private const string Prompt = "The President said that the ship";

    private static readonly string[] s_neighbours =
    [
        "I", "Call me Ishmael. Some years ago, never mind how long precisely", "The whale", "Fellow citizens of the Senate and of the House",
        "No", "It was a dark and stormy night; the rain fell in torrents", "Gold and silver, and the trade of the whole world",
    ];

    public static TheoryData<string> Precisions => [nameof(DemoModels.Fp32), nameof(DemoModels.Int4)];

    /// <summary>Batches of 1 to 8 rows, every position, neighbours of other lengths: same logits to the bit, same tokens.</summary>
    [Theory]
    [MemberData(nameof(Precisions))]
    public void CompletionDoesNotDependOnItsBatch(string precision)
    {
        using var config = new Config(Folder(precision));
        config.UseBatchInvariant();
        using var model = new Model(config);
        model.GetCoverageReport(config).ThrowIfVarying();
        using var tokenizer = new Tokenizer(model);
        Completion alone = Completion.Generate(model, tokenizer, [Prompt], 0, Steps);
        (long compared, long different) = (0, 0);
        for (int batch = 2; batch <= 8; batch++)
        {
            for (int position = 0; position < batch; position++)
            {
                Completion inBatch = Completion.Generate(model, tokenizer, Batch(batch, position), position, Steps);
                Assert.Equal(alone.Tokens, inBatch.Tokens);
                (long more, long bad) = alone.CompareTo(inBatch);
                compared += more;
                different += bad;
            }
        }

        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.True(compared > 1_000_000);
        Assert.Equal(0, different);
    }

    /// <summary>The proof that the test above can fail.</summary>
    [Fact]
    public void StockCompletionDependsOnItsBatch()
    {
        using var config = new Config(models.Int4);
        using var model = new Model(config);
        using var tokenizer = new Tokenizer(model);
        Completion alone = Completion.Generate(model, tokenizer, [Prompt], 0, Steps);
        (long compared, long different) = alone.CompareTo(Completion.Generate(model, tokenizer, Batch(4, 2), 2, Steps));
        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.NotEqual(0, different);
    }

    /// <summary>Threads, instruction sets and the length of the KV buffer leave every bit as it is.</summary>
    [Theory]
    [MemberData(nameof(Precisions))]
    public void CompletionDoesNotDependOnThreadsInstructionsOrBuffer(string precision)
    {
        (BatchInvariantGenAIOptions Options, int MaxLength)[] cases =
        [
            (new() { IntraOpThreads = 1 }, 64),
            (new() { IntraOpThreads = 2 }, 64),
            (new() { IntraOpThreads = 3 }, 500),
            (new() { IntraOpThreads = 2, InstructionSet = CpuInstructionSet.Scalar }, 128),
        ];
        Completion[] completions = [.. cases.Select(one =>
        {
            using var config = new Config(Folder(precision));
            using var model = new Model(config.UseBatchInvariant(one.Options));
            using var tokenizer = new Tokenizer(model);
            return Completion.Generate(model, tokenizer, Batch(3, 1), 1, Steps, one.MaxLength);
        })];
        (long compared, long different) = (0, 0);
        foreach (Completion other in completions[1..])
        {
            (long more, long bad) = completions[0].CompareTo(other);
            compared += more;
            different += bad;
        }

        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.True(compared > 100_000);
        Assert.Equal(0, different);
    }

    private static string[] Batch(int size, int position)
    {
        string[] prompts = [.. Enumerable.Range(0, size).Select(i => s_neighbours[(i + size) % s_neighbours.Length])];
        prompts[position] = Prompt;
        return prompts;
    }

    private string Folder(string precision) => precision == nameof(DemoModels.Fp32) ? models.Fp32 : models.Int4;
}
