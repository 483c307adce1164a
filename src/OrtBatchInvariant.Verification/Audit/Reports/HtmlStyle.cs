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
        footer { margin-top: 2rem; border-top: 1px solid var(--line); }
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
        details { margin: 0.5rem 0; border-left: 3px solid var(--line); padding-left: 0.75rem; }
        summary { cursor: pointer; overflow-wrap: anywhere; }
        figure { margin: 1rem 0; max-width: 32rem; }
        figcaption { font-size: 0.9rem; margin-bottom: 0.25rem; }
        svg { width: 100%; height: auto; display: block; }
        svg .logits { fill: var(--logits); }
        svg .texts { fill: var(--texts); }
        svg .grid { stroke: var(--line); stroke-width: 1; }
        svg .mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
        svg .label { fill: var(--soft); font: 11px system-ui, sans-serif; }
        @media (max-width: 40rem) {
          .stack thead { display: none; }
          .stack, .stack tbody, .stack tr, .stack th, .stack td { display: block; text-align: left; border: 0; padding: 0.1rem 0; }
          .stack tr { border-bottom: 1px solid var(--line); padding: 0.6rem 0; }
          .stack td[data-label] { display: flex; justify-content: space-between; gap: 1rem; }
          .stack td[data-label]::before { content: attr(data-label); color: var(--soft); }
          .stack td:empty, .axes .good td:not([data-is=compared]):not([data-is=different]) { display: none; }
        }

        """;
}
