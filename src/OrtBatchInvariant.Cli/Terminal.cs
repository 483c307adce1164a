using System.Diagnostics;
using Spectre.Console;

namespace OrtBatchInvariant.Cli;

/// <summary>Results go to stdout, progress to stderr, so that either can be piped away.</summary>
internal static class Terminal
{
    /// <summary>The widest table that has sentences in its cells.</summary>
    public const int ProseWidth = 160;

    // Redirected lines are for programs and files, which find no name that is broken over two.
    private const int RedirectedWidth = 4096;

    public static IAnsiConsole Out { get; } = Create(Console.Out, Console.IsOutputRedirected);

    public static IAnsiConsole Error { get; } = Create(Console.Error, Console.IsErrorRedirected);

    /// <summary>Shows progress bars while the work runs; where stderr is not a terminal, a line every ten seconds.</summary>
    public static T WithProgress<T>(Func<Func<string, IProgressBar>, T> work)
    {
        if (!Error.Profile.Capabilities.Interactive)
        {
            return work(static name => new LineBar(name));
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

    private sealed class LineBar(string name) : IProgressBar
    {
        private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(10);

        private string _text = name;
        private long _last = Stopwatch.GetTimestamp();

        public void Set(long done, long total, string? text)
        {
            _text = text ?? _text;
            if (Stopwatch.GetElapsedTime(_last) >= s_interval)
            {
                _last = Stopwatch.GetTimestamp();
                Console.Error.WriteLine($"{_text}: {100 * done / Math.Max(total, 1)} %");
            }
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
