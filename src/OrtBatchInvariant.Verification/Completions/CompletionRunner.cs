using System.Diagnostics;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Completions;

/// <summary>Runs batches through GenAI's own generator loop and records every logit on the way.</summary>
/// <remarks>
/// The prompt goes in with a single <c>AppendTokens</c>: before a second one GenAI 0.15.2 leaves the last generated token out of the
/// KV cache, so that what follows would not be the completion of the same text.
/// </remarks>
public sealed class CompletionRunner(HostedModel model)
{
    private readonly ModelFolder _folder = model.Folder;

    /// <summary>Time spent inside GenAI so far, without the recording.</summary>
    public TimeSpan Elapsed { get; private set; }

    /// <summary>Tokens generated so far, in all rows, neighbours included.</summary>
    public long GeneratedTokens { get; private set; }

    /// <summary>Completes a batch.</summary>
    /// <returns>The completions of the rows that have a prompt number, in the order of the rows.</returns>
    /// <exception cref="VerificationException">GenAI refused the batch, or its logits are not numbers that can be compared.</exception>
    public IReadOnlyList<Completion> Run(CompletionBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        int width = batch.Rows.Max(row => row.Tokens.Length);
        Check(batch, width);
        var recorders = new RowRecorder?[batch.Rows.Count];
        try
        {
            for (int row = 0; row < recorders.Length; row++)
            {
                recorders[row] = batch.Rows[row].Prompt is { } prompt ? new RowRecorder(prompt, _folder.EosTokenIds, batch.NewTokens) : null;
            }

            Generate(batch, width, recorders);
            return [.. recorders.OfType<RowRecorder>().Select(recorder => recorder.Finish(batch.Description))];
        }
        catch (OnnxRuntimeGenAIException exception)
        {
            throw new VerificationException($"{_folder.Path}: generation failed ({HostedModel.OneLine(exception)}).", exception);
        }
        finally
        {
            foreach (RowRecorder? recorder in recorders)
            {
                recorder?.Dispose();
            }
        }
    }

    private void Generate(CompletionBatch batch, int width, RowRecorder?[] recorders)
    {
        using var parameters = new GeneratorParams(model.Model);
        parameters.SetSearchOption("batch_size", batch.Rows.Count);
        parameters.SetSearchOption("max_length", batch.MaxLength ?? (width + batch.NewTokens - batch.Forced));
        parameters.SetSearchOption("do_sample", false);
        parameters.SetSearchOption("chunk_size", batch.ChunkSize ?? 0);

        long start = Stopwatch.GetTimestamp();
        using var generator = new Generator(model.Model, parameters);
        generator.AppendTokens(Pad(batch.Rows, width));
        for (int step = 0; step < batch.NewTokens - batch.Forced && !generator.IsDone(); step++)
        {
            generator.GenerateNextToken();
            Elapsed += Stopwatch.GetElapsedTime(start);

            GeneratedTokens += batch.Rows.Count;
            Record(batch, generator, step, recorders);
            if (recorders.All(recorder => recorder is not { IsDone: false }))
            {
                return;
            }

            start = Stopwatch.GetTimestamp();
        }
    }

    private void Record(CompletionBatch batch, Generator generator, int step, RowRecorder?[] recorders)
    {
        using Tensor tensor = generator.GetOutput(_folder.LogitsName);
        if (tensor.Type() != ElementType.float32)
        {
            throw new VerificationException($"{_folder.Path}: its logits are of type {tensor.Type()}; only float32 can be recorded.");
        }

        long[] shape = tensor.Shape();
        int positions = (int)shape[1];
        int vocabulary = (int)shape[2];
        ReadOnlySpan<float> logits = tensor.GetData<float>();
        ReadOnlySpan<int> nextTokens = generator.GetNextTokens();
        for (int row = 0; row < recorders.Length; row++)
        {
            if (recorders[row] is not { IsDone: false } recorder)
            {
                continue;
            }

            // A prefill gives logits for each position, padding included; of a chunked one the last chunk is left.
            int last = step > 0 || batch.ChunkSize is not null ? positions - 1 : batch.Rows[row].Tokens.Length - 1;
            int first = step > 0 ? last : last - batch.Forced;
            for (int position = first; position <= last && !recorder.IsDone; position++)
            {
                recorder.Add(
                    logits.Slice(((row * positions) + position) * vocabulary, vocabulary),
                    position == last ? nextTokens[row] : null);
            }
        }
    }

    private int[] Pad(IReadOnlyList<CompletionRow> rows, int width)
    {
        int[] tokens = new int[rows.Count * width];
        Array.Fill(tokens, _folder.PadTokenId);
        for (int row = 0; row < rows.Count; row++)
        {
            rows[row].Tokens.CopyTo(tokens, row * width);
        }

        return tokens;
    }

    private void Check(CompletionBatch batch, int width)
    {
        // GenAI takes the pads at the end of a row for padding even if the prompt itself ends in them.
        if (batch.Rows.FirstOrDefault(row => row.Tokens is [] || (batch.Rows.Count > 1 && row.Tokens[^1] == _folder.PadTokenId)) is not null)
        {
            throw new VerificationException("A prompt is empty or ends in the padding token, which GenAI would cut off: give it another last token.");
        }

        if (width + batch.NewTokens - batch.Forced > _folder.ContextLength)
        {
            throw new VerificationException(
                $"{_folder.Path}: a prompt of {width} tokens and {batch.NewTokens} new ones exceed the context of {_folder.ContextLength} tokens: ask for fewer.");
        }

        if (batch.ChunkSize is not null && (batch.Rows.Count > 1 || batch.Forced > 0))
        {
            throw new VerificationException("A chunked prefill takes a batch of one row and no tokens of its completion.");
        }
    }
}
