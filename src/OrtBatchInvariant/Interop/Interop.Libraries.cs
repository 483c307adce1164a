internal static partial class Interop
{
    internal static class Libraries
    {
        /// <summary>Resolved by <see cref="OrtBatchInvariant.Internal.NativeLibraryFile"/>.</summary>
        internal const string BatchInvariant = "ort_batch_invariant";
    }
}
