using System.Text;

namespace OrtBatchInvariant.Internal;

/// <summary>Text that the native library copies into a buffer, saying how long it really is.</summary>
internal static class NativeText
{
    /// <summary>The text, or null if <paramref name="copy"/> returns a negative length.</summary>
    internal static string? Read(Func<byte[], int, int> copy)
    {
        byte[] buffer = [];
        while (true)
        {
            int length = copy(buffer, buffer.Length);
            if (length < 0)
            {
                return null;
            }

            if (length < buffer.Length)
            {
                return Encoding.UTF8.GetString(buffer, 0, length);
            }

            buffer = new byte[length + 1];
        }
    }
}
