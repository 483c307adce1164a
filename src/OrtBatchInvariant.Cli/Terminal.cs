using Spectre.Console;

namespace OrtBatchInvariant.Cli;

/// <summary>Results go to stdout, progress to stderr, so that either can be piped away.</summary>
internal static class Terminal
{
    /// <summary>A redirected table is not wrapped at 80 columns.</summary>
    private const int RedirectedWidth = 160;

    public static IAnsiConsole Out { get; } = Create(Console.Out, Console.IsOutputRedirected);

    public static IAnsiConsole Error { get; } = Create(Console.Error, Console.IsErrorRedirected);

    /// <summary>Shows progress bars while the work runs; nothing where stderr is not a terminal.</summary>
    public static T WithProgress<T>(Func<Func<string, IProgressBar>, T> work)
    {
        if (!Error.Profile.Capabilities.Interactive)
        {
            return work(static _ => SilentBar.Instance);
        }

        return Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .Start(context => work(name => new Bar(context.AddTask(Markup.Escape(name), autoStart: true))));
    }

    private static IAnsiConsole Create(TextWriter writer, bool isRedirected)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(writer),
            Interactive = isRedirected ? InteractionSupport.No : InteractionSupport.Detect,
        });
        if (isRedirected)
        {
            console.Profile.Width = RedirectedWidth;
        }

        return console;
    }

    private sealed class Bar(ProgressTask task) : IProgressBar
    {
        public void Set(long done, long total, string? text)
        {
            task.MaxValue = Math.Max(total, 1);
            task.Value = done;
            if (text is not null)
            {
                task.Description = Markup.Escape(text);
            }
        }
    }

    private sealed class SilentBar : IProgressBar
    {
        public static readonly SilentBar Instance = new();

        public void Set(long done, long total, string? text)
        {
        }
    }
}

/// <summary>One bar of <see cref="Terminal.WithProgress"/>.</summary>
internal interface IProgressBar
{
    /// <param name="done">How much is done.</param>
    /// <param name="total">How much there is.</param>
    /// <param name="text">What is being done; null leaves the text as it is.</param>
    void Set(long done, long total, string? text = null);
}
