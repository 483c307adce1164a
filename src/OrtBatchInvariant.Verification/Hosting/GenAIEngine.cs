using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntimeGenAI;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>
/// GenAI's Engine, which batches requests by itself. GenAI 0.15.2 has it in its C interface alone; this is what is needed of that.
/// </summary>
/// <remarks>
/// Models whose KV cache is one buffer are served in static batches of up to <see cref="MaxRows"/> requests: whoever waits when a batch
/// ends is in the next one, padded on the right, and a request that is done keeps its row until all are. A request hands out its tokens
/// and never its logits.
/// </remarks>
internal sealed partial class GenAIEngine : IDisposable
{
    /// <summary>The most requests that run together: 0.15.2 takes no other number for these models.</summary>
    public const int MaxRows = 4;

    private readonly HostedModel _model;
    private readonly Dictionary<nint, Submitted> _submitted = [];
    private readonly nint _engine;
    private nint _lastId;

    /// <exception cref="VerificationException">GenAI makes no engine for the model.</exception>
    public GenAIEngine(HostedModel model)
    {
        _model = model;
        Check(Native.CreateEngine(Handle(model.Model), out _engine));
    }

    /// <summary>Requests that were submitted and are not done.</summary>
    public int Pending => _submitted.Count;

    /// <summary>Submits a request for greedy tokens. Those that end a text are never chosen, so that all completions are equally long.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="newTokens">Tokens to generate.</param>
    /// <param name="state">Given back with its tokens.</param>
    public void Submit(ReadOnlySpan<int> prompt, int newTokens, object state)
    {
        var parameters = new GeneratorParams(_model.Model);
        nint request = 0;
        try
        {
            parameters.SetSearchOption("do_sample", false);
            parameters.SetSearchOption("max_length", prompt.Length + newTokens);
            parameters.SetSearchOption("min_length", prompt.Length + newTokens);
            Check(Native.CreateRequest(Handle(parameters), out request));
            Check(Native.CreateSequences(out nint sequences));
            try
            {
                Check(Native.AppendTokenSequence(prompt, (nuint)prompt.Length, sequences));
                Check(Native.AddTokens(request, sequences));
            }
            finally
            {
                Native.DestroySequences(sequences);
            }

            Check(Native.SetOpaqueData(request, ++_lastId));
            Check(Native.AddRequest(_engine, request));
            _submitted[_lastId] = new Submitted(request, parameters, state);
        }
        catch
        {
            if (request != 0)
            {
                Native.DestroyRequest(request);
            }

            parameters.Dispose();
            throw;
        }
    }

    /// <summary>Runs the model unless tokens of the run before are still to be had.</summary>
    /// <returns>What was submitted with a request, and its new token; null if there is none.</returns>
    public (object State, int Token)? Step()
    {
        Check(Native.Step(_engine, out nint request));
        if (request == 0)
        {
            return null;
        }

        try
        {
            Check(Native.GetOpaqueData(request, out nint id));
            Submitted submitted = _submitted[id];
            Check(Native.GetUnseenToken(request, out int token));
            Check(Native.IsDone(request, out byte isDone));
            if (isDone != 0)
            {
                // The Engine drops it with its batch; of one that is removed from it by name it keeps the memory.
                _submitted.Remove(id);
                submitted.Release();
            }

            return (submitted.State, token);
        }
        finally
        {
            Native.DestroyRequest(request);
        }
    }

    public void Dispose()
    {
        foreach (Submitted submitted in _submitted.Values)
        {
            submitted.Release();
        }

        Native.DestroyEngine(_engine);
    }

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Handle")]
    private static extern nint Handle(Model model);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Handle")]
    private static extern nint Handle(GeneratorParams parameters);

    private void Check(nint result)
    {
        if (result != 0)
        {
            string message = Marshal.PtrToStringUTF8(Native.GetError(result)) ?? "no reason was given";
            Native.DestroyResult(result);
            throw new VerificationException($"{_model.Folder.Path}: GenAI's Engine failed ({message.ReplaceLineEndings(" ").Trim().TrimEnd('.')}).");
        }
    }

    private sealed record Submitted(nint Request, GeneratorParams Parameters, object State)
    {
        public void Release()
        {
            Native.DestroyRequest(Request);
            Parameters.Dispose();
        }
    }

    private static partial class Native
    {
        private const string Library = "onnxruntime-genai";

        [LibraryImport(Library, EntryPoint = "OgaCreateEngine")]
        public static partial nint CreateEngine(nint model, out nint engine);

        [LibraryImport(Library, EntryPoint = "OgaDestroyEngine")]
        public static partial void DestroyEngine(nint engine);

        [LibraryImport(Library, EntryPoint = "OgaEngineStep")]
        public static partial nint Step(nint engine, out nint request);

        [LibraryImport(Library, EntryPoint = "OgaEngineAddRequest")]
        public static partial nint AddRequest(nint engine, nint request);

        [LibraryImport(Library, EntryPoint = "OgaCreateRequest")]
        public static partial nint CreateRequest(nint parameters, out nint request);

        [LibraryImport(Library, EntryPoint = "OgaDestroyRequest")]
        public static partial void DestroyRequest(nint request);

        [LibraryImport(Library, EntryPoint = "OgaRequestAddTokens")]
        public static partial nint AddTokens(nint request, nint sequences);

        [LibraryImport(Library, EntryPoint = "OgaRequestGetUnseenToken")]
        public static partial nint GetUnseenToken(nint request, out int token);

        [LibraryImport(Library, EntryPoint = "OgaRequestIsDone")]
        public static partial nint IsDone(nint request, out byte isDone);

        [LibraryImport(Library, EntryPoint = "OgaRequestSetOpaqueData")]
        public static partial nint SetOpaqueData(nint request, nint data);

        [LibraryImport(Library, EntryPoint = "OgaRequestGetOpaqueData")]
        public static partial nint GetOpaqueData(nint request, out nint data);

        [LibraryImport(Library, EntryPoint = "OgaCreateSequences")]
        public static partial nint CreateSequences(out nint sequences);

        [LibraryImport(Library, EntryPoint = "OgaDestroySequences")]
        public static partial void DestroySequences(nint sequences);

        [LibraryImport(Library, EntryPoint = "OgaAppendTokenSequence")]
        public static partial nint AppendTokenSequence(ReadOnlySpan<int> tokens, nuint count, nint sequences);

        [LibraryImport(Library, EntryPoint = "OgaResultGetError")]
        public static partial nint GetError(nint result);

        [LibraryImport(Library, EntryPoint = "OgaDestroyResult")]
        public static partial void DestroyResult(nint result);
    }
}
