using System.Reflection;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.GenAI;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Verification;
using PublicApiGenerator;

namespace OrtBatchInvariant.Cli.Tests;

/// <summary>
/// The public members of each package, as they were approved: whoever changes one changes <c>approved/api</c> with it, and says so in
/// CHANGELOG.md.
/// </summary>
public sealed class PublicApiTests
{
    private static readonly ApiGeneratorOptions s_options = new()
    {
        ExcludeAttributes =
        [
            "System.Reflection.AssemblyMetadataAttribute", "System.Runtime.CompilerServices.InternalsVisibleToAttribute",
            "System.Runtime.Versioning.TargetFrameworkAttribute",
        ],
    };

    public static TheoryData<Type> Packages =>
        [typeof(BatchInvariantProvider), typeof(ConfigExtensions), typeof(BatchInvariance), typeof(ModelConverter), typeof(ModelException)];

    [Theory]
    [MemberData(nameof(Packages))]
    public void PublicMembersAreAsApproved(Type oneOfThem)
    {
        Assembly assembly = oneOfThem.Assembly;
        Type[] types = [.. assembly.GetExportedTypes().Where(type => !IsOfOnnxSchema(type))];
        Assert.NotEmpty(types);
        string api = types.GeneratePublicApi(s_options).ReplaceLineEndings("\n");
        Approved.AssertIs($"api/{assembly.GetName().Name}.txt", api + "\n");
    }

    // What protoc makes of onnx.proto.
    private static bool IsOfOnnxSchema(Type type) =>
        typeof(IMessage).IsAssignableFrom(type) || type.GetProperty("Descriptor")?.PropertyType == typeof(FileDescriptor)
        || (type.DeclaringType is { } outer && IsOfOnnxSchema(outer)) || (type.IsEnum && type.GetFields().Any(field => field.IsDefined(typeof(OriginalNameAttribute))));
}
