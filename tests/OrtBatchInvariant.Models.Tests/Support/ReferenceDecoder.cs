namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>
/// A decoder's forward pass in float64, written from the models' definitions and from nothing of the exporter: rows are
/// tokens, weights are [out, in] under their Hugging Face names.
/// </summary>
internal sealed class ReferenceDecoder(TinyModel model, Func<string, double[]> weight)
{
    /// <summary>Logits [tokens, vocabulary] of one sequence.</summary>
    public double[][] Logits(IReadOnlyList<int> tokens)
    {
        var embedding = weight("model.embed_tokens.weight");
        var hidden = tokens.Select(token => embedding.AsSpan(token * model.Hidden, model.Hidden).ToArray()).ToArray();
        for (var layer = 0; layer < model.Layers; layer++)
        {
            var prefix = $"model.layers.{layer}.";
            var normed = hidden.Select(row => Norm(row, weight($"{prefix}input_layernorm.weight"))).ToArray();
            Accumulate(hidden, Attention(prefix, normed));
            normed = hidden.Select(row => Norm(row, weight($"{prefix}post_attention_layernorm.weight"))).ToArray();
            Accumulate(hidden, normed.Select(row => Mlp(prefix, row)).ToArray());
        }

        var head = model.Tied ? embedding : weight("lm_head.weight");
        return [.. hidden.Select(row => Product(head, Norm(row, weight("model.norm.weight"))))];
    }

    private double[][] Attention(string prefix, double[][] rows)
    {
        var size = model.HeadSize;
        var query = rows.Select(row => Linear($"{prefix}self_attn.q_proj", row, model.QkvBias)).ToArray();
        var key = rows.Select(row => Linear($"{prefix}self_attn.k_proj", row, model.QkvBias)).ToArray();
        var value = rows.Select(row => Linear($"{prefix}self_attn.v_proj", row, model.QkvBias)).ToArray();
        for (var t = 0; t < rows.Length; t++)
        {
            Position(query[t], t, model.QkNorm ? weight($"{prefix}self_attn.q_norm.weight") : null);
            Position(key[t], t, model.QkNorm ? weight($"{prefix}self_attn.k_norm.weight") : null);
        }

        var result = new double[rows.Length][];
        for (var t = 0; t < rows.Length; t++)
        {
            var mixed = new double[model.Heads * size];
            var first = model.Window is { } window ? Math.Max(0, t - window + 1) : 0;
            for (var head = 0; head < model.Heads; head++)
            {
                var shared = head / (model.Heads / model.KeyValueHeads);
                var scores = Enumerable.Range(first, t - first + 1)
                    .Select(s => Dot(query[t].AsSpan(head * size, size), key[s].AsSpan(shared * size, size)) / Math.Sqrt(size))
                    .ToArray();
                var max = scores.Max();
                var weights = scores.Select(score => Math.Exp(score - max)).ToArray();
                var sum = weights.Sum();
                for (var s = 0; s < weights.Length; s++)
                {
                    for (var i = 0; i < size; i++)
                    {
                        mixed[(head * size) + i] += weights[s] / sum * value[first + s][(shared * size) + i];
                    }
                }
            }

            result[t] = Linear($"{prefix}self_attn.o_proj", mixed, model.OutputBias);
        }

        return result;
    }

    /// <summary>Norm of each head where the model has one, then rotation by position: pairs are (i, i + size / 2).</summary>
    private void Position(double[] row, int position, double[]? norm)
    {
        var size = model.HeadSize;
        for (var start = 0; start < row.Length; start += size)
        {
            var head = row.AsSpan(start, size).ToArray();
            head = norm is null ? head : Norm(head, norm);
            for (var i = 0; i < size / 2; i++)
            {
                var (sin, cos) = Math.SinCos(position * Frequency(i));
                row[start + i] = (head[i] * cos) - (head[i + (size / 2)] * sin);
                row[start + i + (size / 2)] = (head[i + (size / 2)] * cos) + (head[i] * sin);
            }
        }
    }

    private double Frequency(int i)
    {
        var frequency = Math.Pow(model.Theta, -2.0 * i / model.HeadSize);
        if (model.Llama3Rope is not { } rope)
        {
            return frequency;
        }

        var turns = rope.Original * frequency / (2 * Math.PI);
        if (turns > rope.High)
        {
            return frequency;
        }

        if (turns < rope.Low)
        {
            return frequency / rope.Factor;
        }

        var keep = (turns - rope.Low) / (rope.High - rope.Low);
        return (keep * frequency) + ((1 - keep) * frequency / rope.Factor);
    }

    private double[] Mlp(string prefix, double[] row)
    {
        var gate = Linear($"{prefix}mlp.gate_proj", row, model.MlpBias);
        var up = Linear($"{prefix}mlp.up_proj", row, model.MlpBias);
        var inner = gate.Zip(up, (g, u) => g / (1 + Math.Exp(-g)) * u).ToArray();
        return Linear($"{prefix}mlp.down_proj", inner, model.MlpBias);
    }

    private double[] Linear(string name, double[] row, bool hasBias)
    {
        var result = Product(weight($"{name}.weight"), row);
        return hasBias ? [.. result.Zip(weight($"{name}.bias"), (a, b) => a + b)] : result;
    }

    private static double[] Product(double[] matrix, double[] row)
    {
        var result = new double[matrix.Length / row.Length];
        for (var n = 0; n < result.Length; n++)
        {
            result[n] = Dot(matrix.AsSpan(n * row.Length, row.Length), row);
        }

        return result;
    }

    private double[] Norm(double[] row, double[] gain)
    {
        var scale = 1 / Math.Sqrt((row.Sum(x => x * x) / row.Length) + model.Epsilon);
        return [.. row.Zip(gain, (x, g) => x * scale * g)];
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        var sum = 0.0;
        for (var i = 0; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    private static void Accumulate(double[][] rows, double[][] addends)
    {
        for (var t = 0; t < rows.Length; t++)
        {
            for (var i = 0; i < rows[t].Length; i++)
            {
                rows[t][i] += addends[t][i];
            }
        }
    }
}
