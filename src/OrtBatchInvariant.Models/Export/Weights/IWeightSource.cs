namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>The weights of a decoder under their Hugging Face names.</summary>
internal interface IWeightSource
{
    /// <summary>A matrix [<paramref name="rows"/>, <paramref name="columns"/>].</summary>
    MatrixSource Matrix(string name, int rows, int columns);

    /// <summary>A vector: a norm's weight or a bias.</summary>
    float[] Vector(string name, int length);

    /// <summary>Called when every weight of the graph has been asked for.</summary>
    void CheckAllUsed();
}
