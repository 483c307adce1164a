using System.CommandLine;
using System.CommandLine.Parsing;

namespace OrtBatchInvariant.Cli;

/// <summary>What is wrong with a command line, in the user's words.</summary>
internal static class UsageErrors
{
    /// <returns>The first thing; null if there is none.</returns>
    public static string? Find(ParseResult parsed) =>
        MistypedOption(parsed) is { } option ? NotHere(option)
        : parsed.Errors is not [var error, ..] ? null
        : parsed.UnmatchedTokens is [var token, ..] ? NotHere(token)
        : WrongValue(error) ?? error.Message.TrimEnd('.');

    private static string NotHere(string token) => $"'{token}' is not a command, option or argument here";

    // An option that there is not would else be taken for the name of a model.
    private static string? MistypedOption(ParseResult parsed) => parsed.CommandResult.Children.OfType<ArgumentResult>()
        .SelectMany(argument => argument.Tokens).Select(token => token.Value).FirstOrDefault(token => token.StartsWith("--", StringComparison.Ordinal));

    // System.CommandLine names the .NET type that it could not make of the text, and not the option.
    private static string? WrongValue(ParseError error)
    {
        if ((error.SymbolResult as OptionResult ?? error.SymbolResult?.Parent as OptionResult) is not { Tokens: [var token, ..] } option)
        {
            return null;
        }

        if (error.Message.StartsWith("Cannot parse argument", StringComparison.Ordinal))
        {
            return $"{option.Option.Name} is '{token.Value}': use {Expected(Nullable.GetUnderlyingType(option.Option.ValueType) ?? option.Option.ValueType)}";
        }

        // It names them in quotes, a line each.
        const string OneOf = "Must be one of:";
        return error.Message.IndexOf(OneOf, StringComparison.Ordinal) is >= 0 and var start
            ? $"{option.Option.Name} is '{token.Value}': use {string.Join(" or ", error.Message[(start + OneOf.Length)..].Split('\'').Where((_, i) => i % 2 == 1))}"
            : null;
    }

    private static string Expected(Type type) => type.IsEnum
        ? string.Join(" or ", Enum.GetNames(type).Select(name => name.ToLowerInvariant()))
        : $"a whole number up to {int.MaxValue}";
}
