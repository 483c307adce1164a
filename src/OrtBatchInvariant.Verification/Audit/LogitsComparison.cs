using System.Globalization;
using System.Security.Cryptography;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>Counts what differs from the reference along one axis.</summary>
internal sealed class LogitsComparison(LogitsReference reference)
{
    private readonly LogitsReference _reference = reference;
    private readonly Difference _difference = new();
    private readonly Difference _own = new();
    private readonly int[] _flips = new int[reference.Length];
    private readonly Dictionary<int, BatchSizeTally> _sizes = [];
    private long _positions;
    private int? _parting;

    /// <summary>The text alone.</summary>
    public LogitsReference Reference => _reference;

    /// <summary>How logits differ from those of the text alone.</summary>
    public Difference Difference => _difference;

    /// <summary>How they differ from those of the baseline of their batch.</summary>
    public Difference Own => _own;

    public long Positions => _positions;

    /// <summary>How often the most likely token was another one, position by position of the text.</summary>
    public IReadOnlyList<int> Flips => _flips;

    /// <summary>The first token of the completion, counted from 0, that greedy decoding would choose otherwise; null if there is none.</summary>
    public int? Parting => _parting;

    public IReadOnlyList<BatchSizeCount> Sizes =>
        [.. _sizes.OrderBy(size => size.Key).Select(size => new BatchSizeCount(size.Key, size.Value.Completions, size.Value.Logits.Count, size.Value.Texts.Count))];

    /// <summary>Starts a row of a batch that holds the text.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="baseline">What it is compared with as well; null for nothing.</param>
    public RowComparison Row(int rows, LogitsReference? baseline) => new(this, rows, baseline);

    public void Add(LogitsComparison other)
    {
        _difference.Add(other._difference);
        _own.Add(other._own);
        _positions += other._positions;
        _parting = Earlier(_parting, other._parting);
        for (int i = 0; i < _flips.Length; i++)
        {
            _flips[i] += other._flips[i];
        }

        foreach ((int rows, BatchSizeTally tally) in other._sizes)
        {
            BatchSizeTally mine = Tally(rows);
            mine.Completions += tally.Completions;
            mine.Logits.UnionWith(tally.Logits);
            mine.Texts.UnionWith(tally.Texts);
        }
    }

    private static int? Earlier(int? left, int? right) => left is null ? right : right is null ? left : Math.Min(left.Value, right.Value);

    private BatchSizeTally Tally(int rows)
    {
        if (!_sizes.TryGetValue(rows, out BatchSizeTally? tally))
        {
            _sizes[rows] = tally = new BatchSizeTally();
        }

        return tally;
    }

    private sealed class BatchSizeTally
    {
        public int Completions { get; set; }

        public HashSet<string> Logits { get; } = [];

        public HashSet<string> Texts { get; } = [];
    }

    /// <summary>One row that holds the text. What it comes to is an answer among others once all positions were compared.</summary>
    internal sealed class RowComparison(LogitsComparison owner, int rows, LogitsReference? baseline)
    {
        private readonly List<string> _logits = [];
        private readonly List<string> _texts = [];

        /// <summary>The first position whose logits differ; null if none does.</summary>
        public int? FirstDifferent { get; private set; }

        /// <summary>Whether logits differ from those of the baseline.</summary>
        public bool DiffersFromBaseline { get; private set; }

        public void Compare(int position, ReadOnlySpan<byte> logits)
        {
            DecoderShape shape = owner._reference.Shape;
            Difference difference = FloatBits.Compare(shape.LogitsType, owner._reference.Bytes(position), logits);
            owner._difference.Add(difference);
            if (baseline is not null)
            {
                Difference own = baseline == owner._reference ? difference : FloatBits.Compare(shape.LogitsType, baseline.Bytes(position), logits);
                owner._own.Add(own);
                DiffersFromBaseline |= own.Different > 0;
            }

            owner._positions++;
            if (difference.Different == 0)
            {
                return;
            }

            FirstDifferent ??= position;
            string at = position.ToString(CultureInfo.InvariantCulture);
            _logits.Add($"{at}:{Convert.ToHexStringLower(SHA256.HashData(logits)[..8])}");

            // Logits that are not numbers have no most likely token: that is a difference like any other, and its axis is to be told.
            int? mostLikely = BatchLogits.MostLikelyOrNone(shape, logits);
            if (mostLikely == owner._reference.MostLikely(position))
            {
                return;
            }

            owner._flips[position]++;
            if (position >= owner._reference.PromptLength - 1)
            {
                // What follows is compared along the reference's completion, so only the first is what greedy decoding would do.
                _texts.Add(_texts.Count == 0 ? $"{at}:{mostLikely?.ToString(CultureInfo.InvariantCulture) ?? "none"}" : "");
                owner._parting = Earlier(owner._parting, position - (owner._reference.PromptLength - 1));
            }
        }

        public void Finish()
        {
            BatchSizeTally tally = owner.Tally(rows);
            tally.Completions++;
            tally.Logits.Add(string.Join(' ', _logits));
            tally.Texts.Add(_texts.FirstOrDefault(""));
        }
    }
}
