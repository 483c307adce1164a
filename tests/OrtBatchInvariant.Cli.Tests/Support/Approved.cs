namespace OrtBatchInvariant.Cli.Tests.Support;

/// <summary>
/// Texts that were looked at and approved, in the folder <c>approved</c>. If ORTBI_APPROVE names a folder, the tests write there what is made
/// now, to be looked at.
/// </summary>
internal static class Approved
{
    public static string Read(string name) => File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "approved", name));

    public static void AssertIs(string name, string text)
    {
        if (Environment.GetEnvironmentVariable("ORTBI_APPROVE") is { Length: > 0 } folder)
        {
            File.WriteAllText(Path.Combine(folder, name), text);
        }

        Assert.Equal(Read(name), text);
    }
}
