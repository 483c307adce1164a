namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>The form of an error: one line that names the file and ends with a full stop.</summary>
internal static class OneSentence
{
    public static void Check(ModelException error, string mentions)
    {
        Assert.Contains(mentions, error.Message, StringComparison.Ordinal);
        Assert.EndsWith(".", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("\n", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("..", error.Message.Replace(mentions, string.Empty, StringComparison.Ordinal), StringComparison.Ordinal);
    }
}
