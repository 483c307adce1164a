using System.CommandLine;
using System.CommandLine.Parsing;

namespace OrtBatchInvariant.Cli;

/// <summary>What is wrong with a command line, in the user's words.</summary>
internal static class UsageErrors
{
    public static string Message(ParseResult parsed, ParseError error) =>
        parsed.UnmatchedTokens is [var token, ..] ? $"'{token}' is not a command, option or argument here"
        : WrongType(error) ?? error.Message.TrimEnd('.');

    // System.CommandLine names the .NET type that it could not make of the text.
    private static string? WrongType(ParseError error)
    {
        if ((error.SymbolResult as OptionResult ?? error.SymbolResult?.Parent as OptionResult) is not { Tokens: [var token, ..] } option)
        {
            return null;
        }

        return error.Message.StartsWith("Cannot parse argument", StringComparison.Ordinal)
            ? $"{option.Option.Name} is '{token.Value}': use {Expected(Nullable.GetUnderlyingType(option.Option.ValueType) ?? option.Option.ValueType)}"
            : null;
    }

    private static string Expected(Type type) => type.IsEnum
        ? string.Join(" or ", Enum.GetNames(type).Select(name => name.ToLowerInvariant()))
        : $"a whole number up to {int.MaxValue}";
}
