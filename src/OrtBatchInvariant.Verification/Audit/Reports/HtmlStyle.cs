namespace OrtBatchInvariant.Verification.Audit.Reports;

/// <summary>The style sheet of <see cref="HtmlReport"/>.</summary>
internal static class HtmlStyle
{
    public const string Sheet = """
        :root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #59636e; --line: #d8dee4; --good: #1a7f37; --bad: #c1121f; --warn: #9a6700; --logits: #4269d0; --texts: #e07a1f; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9da7b3; --line: #30363d; --good: #3fb950; --bad: #ff7b72; --warn: #d29922; --logits: #6ea8fe; --texts: #f0a35e; } }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
        main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
        h1 { margin: 0; font-size: 1.6rem; overflow-wrap: anywhere; }
        h2 { margin: 2rem 0 0.25rem; font-size: 1.25rem; }
        h3 { margin: 1.5rem 0 0.25rem; font-size: 1.05rem; }
        p { margin: 0.4rem 0; overflow-wrap: anywhere; }
        code { font-size: 0.85em; overflow-wrap: anywhere; }
        .small { color: var(--soft); font-size: 0.85rem; font-weight: normal; }
        .note { color: var(--warn); }
        .invariant, .good td[data-is=different], .one { color: var(--good); }
        .varies, .bad td[data-is=different], .many { color: var(--bad); }
        .stopped { color: var(--warn); }
        .wide { overflow-x: auto; }
        table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
        th, td { padding: 0.35rem 0.5rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
        th:first-child { text-align: left; }
        thead th { color: var(--soft); font-weight: normal; vertical-align: bottom; }
        tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 9rem; }
        td[data-is] { white-space: nowrap; }
        .notrun td { text-align: left; color: var(--soft); }
        figure { margin: 1rem 0; max-width: 36rem; }
        figcaption { font-size: 0.9rem; margin-bottom: 0.25rem; }
        svg { width: 100%; height: auto; display: block; }
        svg .logits { fill: var(--logits); }
        svg .texts { fill: var(--texts); }
        svg .grid { stroke: var(--line); stroke-width: 1; }
        svg .mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
        svg .label { fill: var(--soft); font: 11px system-ui, sans-serif; }
        @media (max-width: 40rem) {
          #completions tbody th { min-width: 0; }
          #completions :is(th, td):nth-child(6), #completions :is(th, td):nth-child(7) { display: none; }
          .axes thead { display: none; }
          .axes, .axes tbody, .axes tr, .axes th, .axes td { display: block; text-align: left; border: 0; padding: 0.1rem 0; }
          .axes tr { border-bottom: 1px solid var(--line); padding: 0.6rem 0; }
          .axes td { display: flex; justify-content: space-between; gap: 1rem; }
          .axes td[data-is=compared]::before { content: "logits compared"; color: var(--soft); }
          .axes td[data-is=different]::before { content: "different"; color: var(--soft); }
          .axes td[data-is=ulp]::before { content: "max ulp"; color: var(--soft); }
          .axes td[data-is=difference]::before { content: "max difference"; color: var(--soft); }
          .axes td[data-is=flips]::before { content: "argmax flips"; color: var(--soft); }
          .axes td[data-is=parting]:not(:empty)::before { content: "text parts at"; color: var(--soft); }
          .axes .good td:not([data-is=compared]):not([data-is=different]) { display: none; }
        }

        """;
}
