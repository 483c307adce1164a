using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Tests;

[Collection(NativeCollection.Name)]
public sealed class BatchInvariantProviderTests
{
    private static IEnumerable<OrtEpDevice> Devices => OrtEnv.Instance().GetEpDevices().Where(device => device.EpName == BatchInvariantProvider.Name);

    [Fact]
    public void NamesAreTheOnesThatConfigurationsUse()
    {
        Assert.Equal("BatchInvariantExecutionProvider", BatchInvariantProvider.GetEpName());
        Assert.Equal(["BatchInvariantExecutionProvider"], BatchInvariantProvider.GetEpNames());
    }

    [Fact]
    public void LibraryTellsVersionAndInstructionSet()
    {
        Assert.Matches(@"^\d+\.\d+\.\d+", BatchInvariantProvider.Version);
        Assert.True(Enum.IsDefined(BatchInvariantProvider.InstructionSet));
    }

    [Fact]
    public void RegisteringTwiceIsRegisteringOnce()
    {
        BatchInvariantProvider.Register();
        int devices = Devices.Count();
        BatchInvariantProvider.Register();
        BatchInvariantProvider.Register(OrtEnv.Instance());
        Assert.NotEqual(0, devices);
        Assert.Equal(devices, Devices.Count());
    }

    [Fact]
    public async Task ManyThreadsRegisterOnce()
    {
        BatchInvariantProvider.Unregister();
        await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(() => BatchInvariantProvider.Register())));
        Assert.Single(Devices, device => device.HardwareDevice.Type == OrtHardwareDeviceType.CPU);
    }

    [Fact]
    public void UnregisteringTakesTheDevicesAway()
    {
        BatchInvariantProvider.Register();
        BatchInvariantProvider.Unregister();
        Assert.Empty(Devices);
        BatchInvariantProvider.Unregister();
        BatchInvariantProvider.Register();
        Assert.NotEmpty(Devices);
    }

    [Fact]
    public void RegistrationBySomeoneElseIsUsed()
    {
        BatchInvariantProvider.Unregister();
        OrtEnv.Instance().RegisterExecutionProviderLibrary("theirs", BatchInvariantProvider.GetLibraryPath());
        try
        {
            BatchInvariantProvider.Register();
            Assert.Single(Devices, device => device.HardwareDevice.Type == OrtHardwareDeviceType.CPU);
            BatchInvariantProvider.Unregister();
            Assert.NotEmpty(Devices);
        }
        finally
        {
            OrtEnv.Instance().UnregisterExecutionProviderLibrary("theirs");
        }
    }

    [Fact]
    public void SecondFileIsRefused()
    {
        BatchInvariantProvider.Register();
        var exception = Assert.Throws<BatchInvariantException>(() => BatchInvariantProvider.Register(libraryPath: "/no/such/lib.so"));
        Assert.Equal(
            $"The batch-invariant provider is registered from '{BatchInvariantProvider.GetLibraryPath()}', so '/no/such/lib.so' cannot be registered as well: unregister the first.",
            exception.Message);
    }
}
