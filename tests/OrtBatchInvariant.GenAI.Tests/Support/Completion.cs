using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntimeGenAI;

namespace OrtBatchInvariant.GenAI.Tests.Support;

/// <summary>What one row of a batch produced: its tokens, and the bits of its logits at every step.</summary>
internal sealed record Completion(int[] Tokens, int[][] LogitBits)
{
    /// <summary>Runs a batch through GenAI's own loop and returns the row at <paramref name="position"/>.</summary>
    internal static Completion Generate(Model model, Tokenizer tokenizer, string[] prompts, int position, int steps, int maxLength = 128)
    {
        using var parameters = new GeneratorParams(model);
        parameters.SetSearchOption("batch_size", prompts.Length);
        parameters.SetSearchOption("max_length", maxLength);
        parameters.SetSearchOption("do_sample", false);
        using var generator = new Generator(model, parameters);
        using Sequences encoded = tokenizer.EncodeBatch(prompts);
        // Right padding: the row's last prompt token stands before its own pads.
        ReadOnlySpan<int> padded = encoded[(ulong)position];
        int last = padded.LastIndexOfAnyExcept(tokenizer.GetPadTokenId());
        generator.AppendTokenSequences(encoded);

        var tokens = new List<int>();
        var logits = new List<int[]> { RowOf(generator, position, last) };
        while (!generator.IsDone() && tokens.Count < steps)
        {
            generator.GenerateNextToken();
            tokens.Add(generator.GetNextTokens()[position]);
            if (tokens.Count > 1)
            {
                logits.Add(RowOf(generator, position, 0));
            }
        }

        return new Completion([.. tokens], [.. logits]);
    }

    /// <summary>How many logits, of how many, differ in any bit from another row's; a missing step differs in all of them.</summary>
    internal (long Compared, long Different) CompareTo(Completion other)
    {
        long compared = 0;
        long different = 0;
        for (int step = 0; step < Math.Max(LogitBits.Length, other.LogitBits.Length); step++)
        {
            int[] mine = LogitBits.ElementAtOrDefault(step) ?? [];
            int[] theirs = other.LogitBits.ElementAtOrDefault(step) ?? [];
            int length = Math.Max(mine.Length, theirs.Length);
            compared += length;
            different += mine.Length == theirs.Length ? mine.Zip(theirs).Count(pair => pair.First != pair.Second) : length;
        }

        return (compared, different);
    }

    private static int[] RowOf(Generator generator, int batch, int sequencePosition)
    {
        using Tensor logits = generator.GetOutput("logits");
        long[] shape = logits.Shape();
        int vocabulary = (int)shape[2];
        // A prefill whose head was pruned, and every decode step, has one position only.
        long row = (batch * shape[1]) + Math.Min(sequencePosition, shape[1] - 1);
        return MemoryMarshal.Cast<float, int>(logits.GetData<float>().Slice((int)row * vocabulary, vocabulary)).ToArray();
    }
}
