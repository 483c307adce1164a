using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Completions;

/// <summary>Text for which only its length matters.</summary>
internal static class RandomTokens
{
    /// <summary>Tokens of the model's vocabulary, without those that pad or end a sequence.</summary>
    public static int[] Draw(ModelFolder folder, int length, Random random)
    {
        int[] tokens = new int[length];
        for (int i = 0; i < length; i++)
        {
            do
            {
                tokens[i] = random.Next(folder.VocabularySize);
            }
            while (tokens[i] == folder.PadTokenId || folder.EosTokenIds.Contains(tokens[i]));
        }

        return tokens;
    }
}
