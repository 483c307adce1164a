namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>
/// A decoder's forward pass in float64, written from the models' definitions and from nothing of the exporter: rows are
/// tokens, weights are [out, in] under their Hugging Face names. Cosines and sines can be rounded, for graphs that hold them in
/// a narrow type.
/// </summary>
internal sealed class ReferenceDecoder(TinyModel model, Func<string, double[]> weight, Func<double, double>? roundRotary = null)
{
    /// <summary>Logits [tokens, vocabulary] of one sequence.</summary>
    public double[][] Logits(IReadOnlyList<int> tokens)
    {
        var embedding = weight("model.embed_tokens.weight");
        var scale = model.ScaledEmbedding ? Math.Sqrt(model.Hidden) : 1;
        var hidden = tokens.Select(token => Row(embedding, token).Select(x => x * scale).ToArray()).ToArray();
        for (var layer = 0; layer < model.Layers; layer++)
        {
            AddBlock(hidden, layer, "input", "post_attention", Attention);
            AddBlock(
                hidden,
                layer,
                model.Norms == TinyNorms.Before ? "post_attention" : "pre_feedforward",
                "post_feedforward",
                (at, rows) => [.. rows.Select(row => Mlp($"model.layers.{at}.", row))]);
        }

        var head = model.Tied ? embedding : weight("lm_head.weight");
        return [.. hidden.Select(row => Product(head, Norm(row, Gain("model.norm"))).Select(x => Cap(x, model.LogitCap)).ToArray())];
    }

    /// <summary>rows += after(block(before(rows))), where the model has those norms.</summary>
    private void AddBlock(double[][] rows, int layer, string before, string after, Func<int, double[][], double[][]> block)
    {
        var inputs = model.Norms == TinyNorms.After
            ? rows.Select(row => row.ToArray()).ToArray()
            : [.. rows.Select(row => Norm(row, Gain($"model.layers.{layer}.{before}_layernorm")))];
        var outputs = block(layer, inputs);
        Accumulate(
            rows,
            model.Norms == TinyNorms.Before
                ? outputs
                : [.. outputs.Select(row => Norm(row, Gain($"model.layers.{layer}.{after}_layernorm")))]);
    }

    private double[] Gain(string norm) => [.. weight($"{norm}.weight").Select(x => x + model.NormOffset)];

    private static double Cap(double x, double? cap) => cap is { } c ? c * Math.Tanh(x / c) : x;

    private double[] Row(double[] matrix, int row) => matrix[(row * model.Hidden)..((row + 1) * model.Hidden)];

    private double[][] Attention(int layer, double[][] rows)
    {
        var size = model.HeadSize;
        var prefix = $"model.layers.{layer}.";
        var isWindowed = model.Window is not null && (model.Windowed?[layer] ?? true);
        var (query, key, value) = QueriesKeysValues(prefix, rows);
        if (model.Rotary?[layer] ?? true)
        {
            for (var t = 0; t < rows.Length; t++)
            {
                Rotate(query[t], t, isWindowed);
                Rotate(key[t], t, isWindowed);
            }
        }

        var result = new double[rows.Length][];
        for (var t = 0; t < rows.Length; t++)
        {
            var mixed = new double[model.Heads * size];
            var first = isWindowed ? Math.Max(0, t - model.Window!.Value + 1) : 0;
            for (var head = 0; head < model.Heads; head++)
            {
                var shared = head / (model.Heads / model.KeyValueHeads);
                var scores = Enumerable.Range(first, t - first + 1)
                    .Select(s => Dot(query[t].AsSpan(head * size, size), key[s].AsSpan(shared * size, size)))
                    .Select(x => Cap(x / Math.Sqrt(model.AttentionScalar ?? size), model.AttentionCap))
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

    private (double[][] Query, double[][] Key, double[][] Value) QueriesKeysValues(string prefix, double[][] rows)
    {
        var (q, kv) = (model.Heads * model.HeadSize, model.KeyValueHeads * model.HeadSize);
        double[][] query, key, value;
        if (model.Fused)
        {
            var all = Project("qkv_proj");
            query = [.. all.Select(x => x[..q])];
            key = [.. all.Select(x => x[q..(q + kv)])];
            value = [.. all.Select(x => x[(q + kv)..])];
        }
        else
        {
            (query, key, value) = (Project("q_proj"), Project("k_proj"), Project("v_proj"));
        }

        double[][] Project(string name) => [.. rows.Select(row => Linear($"{prefix}self_attn.{name}", row, model.QkvBias))];
        if (model.QkNorm || model.WholeQkNorm)
        {
            NormHeads(query, Gain($"{prefix}self_attn.q_norm"));
            NormHeads(key, Gain($"{prefix}self_attn.k_norm"));
        }

        return (query, key, value);
    }

    /// <summary>A norm over as many elements at a time as it has weights: one head, or all of them.</summary>
    private void NormHeads(double[][] rows, double[] gain)
    {
        for (var t = 0; t < rows.Length; t++)
        {
            rows[t] = [.. rows[t].Chunk(gain.Length).SelectMany(head => Norm(head, gain))];
        }
    }

    /// <summary>Rotation by position: pairs are (i, i + width / 2) of the part of each head that is rotated.</summary>
    private void Rotate(double[] row, int position, bool isWindowed)
    {
        var half = (int)(model.HeadSize * model.RotaryFactor) / 2;
        var isLocal = isWindowed && model.LocalTheta is not null;
        for (var start = 0; start < row.Length; start += model.HeadSize)
        {
            for (var i = 0; i < half; i++)
            {
                var (sin, cos) = Math.SinCos(position * (isLocal ? Base(model.LocalTheta!.Value, i) : Frequency(i)));
                (sin, cos) = (RoundRotary(sin * Magnitude), RoundRotary(cos * Magnitude));
                var (a, b) = (row[start + i], row[start + i + half]);
                row[start + i] = (a * cos) - (b * sin);
                row[start + i + half] = (b * cos) + (a * sin);
            }
        }
    }

    private double RoundRotary(double x) => roundRotary?.Invoke(x) ?? x;

    private double Magnitude => model.LongRope is { } rope && model.Context > rope.Original
        ? Math.Sqrt(1 + (Math.Log((double)model.Context / rope.Original) / Math.Log(rope.Original)))
        : 1;

    private double Base(double theta, int i) => Math.Pow(theta, -2.0 * i / (int)(model.HeadSize * model.RotaryFactor));

    private double Frequency(int i)
    {
        var frequency = Base(model.Theta, i) / (model.LinearRope ?? 1);
        if (model.LongRope is { } factors)
        {
            return frequency / ((model.ExportContext ?? model.Context) > factors.Original ? factors.Long : factors.Short)[i];
        }

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
        double[] gate, up;
        if (model.Fused)
        {
            var both = Linear($"{prefix}mlp.gate_up_proj", row, hasBias: false);
            (gate, up) = (both[..model.Intermediate], both[model.Intermediate..]);
        }
        else
        {
            gate = Linear($"{prefix}mlp.gate_proj", row, model.MlpBias);
            up = Linear($"{prefix}mlp.up_proj", row, model.MlpBias);
        }

        var inner = gate.Zip(up, (g, u) => Activate(g) * u).ToArray();
        return Linear($"{prefix}mlp.down_proj", inner, model.MlpBias);
    }

    private double Activate(double x) => model.Activation switch
    {
        "silu" => x / (1 + Math.Exp(-x)),
        "gelu" => x * (1 + Erf(x / Math.Sqrt(2))) / 2,
        _ => x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x)))) / 2,
    };

    /// <summary>2 / sqrt(pi) exp(-x^2) times the sum of 2^n x^(2n + 1) / (1 * 3 * .. * (2n + 1)).</summary>
    private static double Erf(double x)
    {
        var (term, sum) = (x, x);
        for (var n = 1; Math.Abs(term) > 1e-17 * Math.Abs(sum); n++)
        {
            term *= 2 * x * x / ((2 * n) + 1);
            sum += term;
        }

        return 2 / Math.Sqrt(Math.PI) * Math.Exp(-x * x) * sum;
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
