using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.GenAI;                                          // added

using var handle = new OgaHandle();
using var config = new Config(args[0]);
config.UseBatchInvariant();                                             // added
using var model = new Model(config);
using var tokenizer = new Tokenizer(model);
using var stream = tokenizer.CreateStream();

using var parameters = new GeneratorParams(model);
parameters.SetSearchOption("max_length", 64);
parameters.SetSearchOption("do_sample", false);
using var generator = new Generator(model, parameters);
using var prompt = tokenizer.Encode(args[1]);
generator.AppendTokenSequences(prompt);

while (!generator.IsDone())
{
    generator.GenerateNextToken();
    Console.Write(stream.Decode(generator.GetNextTokens()[0]));
}
