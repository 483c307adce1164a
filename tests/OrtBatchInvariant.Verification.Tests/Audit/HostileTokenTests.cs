using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Tests.Support;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Tests.Audit;

/// <summary>Tokens whose embeddings are NaN or infinite are for neighbours: the text of an audit has none, even where they are the most likely ones.</summary>
public sealed class HostileTokenTests : IDisposable
{
    private const int PromptTokens = 20;
    private const int NewTokens = 12;

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. FamilyModels.For(gpu: false).Concat(TestModel.For(gpu: false, quick: true)).Where(model => !model.IsTrained).Select(model => model.Name)];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Families))]
    public void TheTextHasNone(string name)
    {
        TestModel model = FamilyModels.For(gpu: false).Concat(TestModel.For(gpu: false, quick: true)).First(model => model.Name == name);
        ModelFolder folder = model.Make(_folder.Path);
        int[] hostile = [.. model.HostileTokens];
        for (int seed = 1; seed <= 4; seed++)
        {
            var options = new AuditOptions { PromptTokens = PromptTokens, NewTokens = NewTokens, Seed = seed, HostileTokens = hostile };
            LogitsDigests before = Record(folder, options);
            int[] prompt = [.. before.Text.Take(PromptTokens)];
            Assert.DoesNotContain(before.Text, hostile.Contains);

            // From now on what it said is hostile, and it still is what is most likely.
            int[] said = [.. before.Text.Skip(PromptTokens).Except(prompt).Take(2)];
            Assert.NotEmpty(said);
            HostileEmbeddings.Write(folder.DecoderFile, said);
            Assert.Contains(
                "not numbers, first at position",
                Assert.Throws<VerificationException>(() => Record(folder, options with { Prompt = prompt })).Message, StringComparison.Ordinal);

            hostile = [.. hostile, .. said];
            LogitsDigests after = Record(folder, options with { Prompt = prompt, HostileTokens = hostile });
            int parts = PromptTokens + before.Text.Skip(PromptTokens).TakeWhile(token => !said.Contains(token)).Count();
            Assert.Equal(before.Text.Take(parts).Append(prompt[0]), after.Text.Take(parts + 1));
            Assert.DoesNotContain(after.Text, hostile.Contains);
            Assert.Equal(before.Positions.Take(parts), after.Positions.Take(parts));
        }
    }

    [Fact]
    public void APromptWithOneIsRefused()
    {
        TestModel model = TestModel.For(gpu: false, quick: true).First(model => !model.IsTrained);
        using DecoderModel decoder = DecoderModel.Open(model.Make(_folder.Path));
        int hostile = model.HostileTokens[0];
        Assert.Contains(
            $"the token {hostile}", Assert.Throws<VerificationException>(() => LogitsDigests.Record(decoder, new AuditOptions { Prompt = [1, hostile], HostileTokens = model.HostileTokens })).Message,
            StringComparison.Ordinal);
    }

    /// <summary>Logits that turn into NaN in a batch are counted for its axis; they do not end the audit.</summary>
    [Fact]
    public void NotANumberIsADifference()
    {
        TestModel model = TestModel.For(gpu: false, quick: true).First(model => !model.IsTrained);
        using DecoderModel decoder = DecoderModel.Open(model.Make(_folder.Path));
        var text = new AuditText(decoder, new AuditOptions { PromptTokens = 4, NewTokens = 2, HostileTokens = model.HostileTokens });
        LogitsReference reference = LogitsReference.Record(decoder, text);
        var comparison = new LogitsComparison(reference);
        LogitsComparison.RowComparison row = comparison.Row(3, null);
        for (int position = 0; position < reference.Length; position++)
        {
            byte[] logits = reference.Bytes(position).ToArray();
            if (position == 4)
            {
                BitConverter.GetBytes(float.NaN).CopyTo(logits, 8);
            }

            row.Compare(position, logits);
        }

        row.Finish();
        Assert.Equal((6L, 1L, 4, 1), (comparison.Positions, comparison.Difference.Different, row.FirstDifferent, comparison.Parting));
        Assert.Equal([0, 0, 0, 0, 1, 0], comparison.Flips);
    }

    private static LogitsDigests Record(ModelFolder folder, AuditOptions options)
    {
        using DecoderModel decoder = DecoderModel.Open(folder);
        return LogitsDigests.Record(decoder, options);
    }
}
