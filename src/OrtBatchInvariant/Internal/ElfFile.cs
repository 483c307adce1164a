using System.Buffers.Binary;

namespace OrtBatchInvariant.Internal;

/// <summary>Linux's loader maps a cut-off library without looking at its length and dies of it, so the length is checked first.</summary>
internal static class ElfFile
{
    private const int HeaderLength = 64;

    /// <summary>Whether a file starts like a 64-bit little-endian ELF file and ends before its own table of sections, which linkers put last.</summary>
    internal static bool IsCutOff(string path)
    {
        using FileStream file = File.OpenRead(path);
        Span<byte> header = stackalloc byte[HeaderLength];
        int read = file.ReadAtLeast(header, HeaderLength, throwOnEndOfStream: false);
        if (!header[..read].StartsWith("\u007fELF\u0002\u0001"u8))
        {
            return false;
        }

        if (read < HeaderLength)
        {
            return true;
        }

        ulong tableOffset = BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
        ulong tableLength = (ulong)BinaryPrimitives.ReadUInt16LittleEndian(header[58..]) * BinaryPrimitives.ReadUInt16LittleEndian(header[60..]);
        ulong length = (ulong)file.Length;
        return tableOffset > length || tableLength > length - tableOffset;
    }
}
