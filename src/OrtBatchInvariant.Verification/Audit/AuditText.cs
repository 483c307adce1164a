using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>The text of an audit: a prompt and its greedy completion, and how batches are made around it.</summary>
internal sealed class AuditText
{
    private readonly AuditOptions _options;
    private readonly DecoderModel _model;
    private BatchPlan? _alone;

    public AuditText(DecoderModel model, AuditOptions options)
    {
        _model = model;
        _options = options;
        var random = new Random(options.Seed);
        Tokens = [.. options.Prompt ?? [.. Enumerable.Range(0, options.PromptTokens).Select(_ => Draw(random, null))]];
        PromptLength = Tokens.Length;
        if (PromptLength < 2 || options.NewTokens < 1)
        {
            throw new VerificationException($"A prompt of {PromptLength} tokens and {options.NewTokens} new ones leave nothing to compare: use 2 or more, and 1 or more.");
        }

        if (PromptLength + options.NewTokens > model.Shape.ContextLength)
        {
            throw new VerificationException(
                $"{model.Folder.DecoderFile}: a prompt of {PromptLength} tokens and {options.NewTokens} new ones exceed the context of {model.Shape.ContextLength} tokens: ask for fewer.");
        }

        if (Tokens.FirstOrDefault(options.HostileTokens.Contains, -1) is >= 0 and var hostile)
        {
            throw new VerificationException($"The prompt has the token {hostile}, whose embedding is NaN or infinite and which only neighbours may have: use another prompt.");
        }

        if (Tokens.FirstOrDefault(token => token < 0 || token >= model.Shape.VocabularySize, -1) is >= 0 and var token)
        {
            throw new VerificationException($"The prompt has the token {token}, and the model's vocabulary {model.Shape.VocabularySize}.");
        }
    }

    /// <summary>The prompt, and once <see cref="Complete"/> was called its completion.</summary>
    public int[] Tokens { get; private set; }

    public int PromptLength { get; }

    public int NewTokens => _options.NewTokens;

    public int Length => PromptLength + NewTokens;

    public AuditOptions Options => _options;

    public DecoderShape Shape => _model.Shape;

    public bool IsStock => _model.Options.Kernels == Hosting.KernelSet.Stock;

    public bool IsOnGpu => _model.Options.DeviceId is not null;

    /// <summary>The largest batch whose logits fit the memory that they may take.</summary>
    public int MaxRows => (int)Math.Clamp(_options.LogitsBytes / ((long)Shape.LogitsBytes * PromptLength), 1, _options.MaxRows);

    /// <summary>The text alone in its batch.</summary>
    public BatchPlan AlonePlan => _alone ??= AxisPlans.Alone(this);

    /// <summary>The token that follows in the text: the most likely one, but hostile ones are for neighbours only.</summary>
    public int Next(int mostLikely) => _options.HostileTokens.Contains(mostLikely) ? Tokens[0] : mostLikely;

    public void Complete(IReadOnlyList<int> completion) => Tokens = [.. Tokens.Take(PromptLength), .. completion];

    /// <summary>What each row of a batch is given in each run: the text, or a neighbour's tokens. Always the same for the same plan.</summary>
    public IEnumerable<int[][]> Runs(BatchPlan plan)
    {
        var random = new Random(_options.Seed ^ (plan.Seed * 7919));
        int position = 0;
        foreach (int count in plan.Runs)
        {
            bool isFirst = position == 0;
            yield return
            [
                .. Enumerable.Range(0, plan.Rows).Select(row => plan.HoldsText(row)
                    ? Tokens[position..(position + count)]
                    : Neighbour(isFirst ? plan.NeighbourPrompt?.Invoke(row) ?? count : count)),
            ];
            position += count;
        }

        int[] Neighbour(int length) => [.. Enumerable.Range(0, length).Select(_ => Draw(random, plan.NeighbourTokens))];
    }

    /// <summary>Tokens that the KV buffer of a batch must hold.</summary>
    public int Capacity(BatchPlan plan)
    {
        int longest = Enumerable.Range(0, plan.Rows).Max(row => plan.HoldsText(row) ? plan.Prompt : plan.NeighbourPrompt?.Invoke(row) ?? plan.Prompt);
        return Math.Max(plan.Capacity ?? 0, longest + plan.Steps.Sum());
    }

    private int Draw(Random random, IReadOnlyList<int>? from)
    {
        if (from is not null)
        {
            return from[random.Next(from.Count)];
        }

        int token;
        do
        {
            token = random.Next(_model.Shape.VocabularySize);
        }
        while (_options.HostileTokens.Contains(token) || token == _model.Folder.PadTokenId);
        return token;
    }
}
