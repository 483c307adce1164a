using System.Diagnostics;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>What this machine can do at most, measured: the ground that a kernel's time is compared with.</summary>
/// <param name="FlopsPerSecond">fp32 operations in a second, a fused multiply-add counting as two.</param>
/// <param name="BytesPerSecond">Bytes read from memory in a second.</param>
public sealed record MachinePeaks(double FlopsPerSecond, double BytesPerSecond)
{
    private const int Rounds = 5;
    private const int FmaIterations = 2_000_000;
    private const int FmaChains = 8;
    private const int BytesPerThread = 64 << 20;

    /// <summary>Measures both, in about a second.</summary>
    /// <param name="threads">The number of threads to use.</param>
    public static MachinePeaks Measure(int threads)
    {
        float[][] data = [.. Enumerable.Range(0, threads).Select(_ => new float[BytesPerThread / sizeof(float)])];
        foreach (float[] part in data)
        {
            Array.Fill(part, 1f);
        }

        double flops = 0;
        double bytes = 0;
        for (int round = 0; round < Rounds; round++)
        {
            int lanes = Vector512.IsHardwareAccelerated ? Vector512<float>.Count
                : Vector256.IsHardwareAccelerated ? Vector256<float>.Count : Vector128<float>.Count;
            double seconds = OnThreads(threads, thread => data[thread][0] = MultiplyAdd(lanes));
            flops = Math.Max(flops, 2.0 * FmaChains * lanes * FmaIterations * threads / seconds);
            seconds = OnThreads(threads, thread => data[thread][0] = SumOfStreams(data[thread]) > 0 ? 1f : 0f);
            bytes = Math.Max(bytes, (double)BytesPerThread * threads / seconds);
        }

        return new MachinePeaks(flops, bytes);
    }

    /// <summary>The least time that work can take here, in microseconds.</summary>
    /// <param name="flops">Its fp32 operations.</param>
    /// <param name="bytes">The bytes that it must read and write.</param>
    public double FloorMicroseconds(double flops, double bytes) => 1e6 * Math.Max(flops / FlopsPerSecond, bytes / BytesPerSecond);

    private static double OnThreads(int threads, Action<int> work)
    {
        using var start = new Barrier(threads + 1);
        Thread[] workers =
        [
            .. Enumerable.Range(0, threads).Select(thread => new Thread(() =>
            {
                start.SignalAndWait();
                work(thread);
            })),
        ];
        foreach (Thread worker in workers)
        {
            worker.Start();
        }

        start.SignalAndWait();
        long begin = Stopwatch.GetTimestamp();
        foreach (Thread worker in workers)
        {
            worker.Join();
        }

        return Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    // Several streams at once: what the processor fetches ahead of one of them alone is less than memory can give.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float SumOfStreams(ReadOnlySpan<float> data)
    {
        ReadOnlySpan<Vector<float>> all = MemoryMarshal.Cast<float, Vector<float>>(data);
        int length = all.Length / 4;
        ReadOnlySpan<Vector<float>> one = all[..length], two = all.Slice(length, length), three = all.Slice(2 * length, length), four = all.Slice(3 * length, length);
        Vector<float> a = default, b = default, c = default, d = default;
        for (int i = 0; i < one.Length; i++)
        {
            a += one[i];
            b += two[i];
            c += three[i];
            d += four[i];
        }

        return Vector.Sum(a + b + c + d);
    }

    private static float MultiplyAdd(int lanes) =>
        lanes == Vector512<float>.Count ? MultiplyAdd512()
        : lanes == Vector256<float>.Count ? MultiplyAdd256()
        : MultiplyAdd128();

    // Eight chains hide the latency of one multiply-add behind the others.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float MultiplyAdd512()
    {
        Vector512<float> x = Vector512.Create(0.999f), y = Vector512.Create(0.001f);
        Vector512<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y;
        for (int i = 0; i < FmaIterations; i++)
        {
            a = Vector512.FusedMultiplyAdd(a, x, y);
            b = Vector512.FusedMultiplyAdd(b, x, y);
            c = Vector512.FusedMultiplyAdd(c, x, y);
            d = Vector512.FusedMultiplyAdd(d, x, y);
            e = Vector512.FusedMultiplyAdd(e, x, y);
            f = Vector512.FusedMultiplyAdd(f, x, y);
            g = Vector512.FusedMultiplyAdd(g, x, y);
            h = Vector512.FusedMultiplyAdd(h, x, y);
        }

        return Vector512.Sum(a + b + c + d + e + f + g + h);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float MultiplyAdd256()
    {
        Vector256<float> x = Vector256.Create(0.999f), y = Vector256.Create(0.001f);
        Vector256<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y;
        for (int i = 0; i < FmaIterations; i++)
        {
            a = Vector256.FusedMultiplyAdd(a, x, y);
            b = Vector256.FusedMultiplyAdd(b, x, y);
            c = Vector256.FusedMultiplyAdd(c, x, y);
            d = Vector256.FusedMultiplyAdd(d, x, y);
            e = Vector256.FusedMultiplyAdd(e, x, y);
            f = Vector256.FusedMultiplyAdd(f, x, y);
            g = Vector256.FusedMultiplyAdd(g, x, y);
            h = Vector256.FusedMultiplyAdd(h, x, y);
        }

        return Vector256.Sum(a + b + c + d + e + f + g + h);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float MultiplyAdd128()
    {
        Vector128<float> x = Vector128.Create(0.999f), y = Vector128.Create(0.001f);
        Vector128<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y;
        for (int i = 0; i < FmaIterations; i++)
        {
            a = Vector128.FusedMultiplyAdd(a, x, y);
            b = Vector128.FusedMultiplyAdd(b, x, y);
            c = Vector128.FusedMultiplyAdd(c, x, y);
            d = Vector128.FusedMultiplyAdd(d, x, y);
            e = Vector128.FusedMultiplyAdd(e, x, y);
            f = Vector128.FusedMultiplyAdd(f, x, y);
            g = Vector128.FusedMultiplyAdd(g, x, y);
            h = Vector128.FusedMultiplyAdd(h, x, y);
        }

        return Vector128.Sum(a + b + c + d + e + f + g + h);
    }
}
