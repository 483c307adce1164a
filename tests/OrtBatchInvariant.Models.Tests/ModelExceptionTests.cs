using Xunit;

namespace OrtBatchInvariant.Models.Tests;

public class ModelExceptionTests
{
    [Fact]
    public void ControlCharactersOfNamesAreShown()
    {
        var exception = new ModelException("model.onnx: node 'a\n\u0006b' has no output.");
        Assert.Equal(@"model.onnx: node 'a\u000a\u0006b' has no output.", exception.Message);
    }
}
