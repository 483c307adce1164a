using OrtBatchInvariant.Cli;

return await CommandLine.RunAsync(args);
