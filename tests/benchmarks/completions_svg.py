"""Draws a record of `ortbi verify --completions` of stock and batch-invariant kernels: a square for each
completion at temperature 0, of one colour for one set of logits, and the texts that were chosen from them.

completions_svg.py RECORD.json OUT.svg [--prompt TEXT]
"""
import argparse
import collections
import html
import json
import os

COLUMNS = 40
PITCH = 10
SIDE = 8
PANEL = COLUMNS * PITCH
LEFT = 16
GAP = 44
WIDTH = 2 * (LEFT + PANEL) + GAP
TOP = 96
LINE = 18
TEXT_LEFT = 104
TEXT_CHARACTERS = 112
TEXTS = 3

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .grey { fill: #59636e }
  .count { font-weight: 600; text-anchor: end }
  .other { fill: #bc4c00 }
  .usual { fill: #1a9c8c }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .grey { fill: #9198a1 }
    .other { fill: #f0883e }
    .usual { fill: #2fb8a6 }
  }
"""


def ranked(values):
    """The different values, the most frequent first, each with how often it is there."""
    return sorted(collections.Counter(values).items(), key=lambda item: (-item[1], item[0]))


def grid(decoding, x):
    """A path for each set of logits. The most frequent ones are green; none of the others is."""
    order = decoding["answers"]["logitsOfCompletions"]
    for rank, (logits, _) in enumerate(ranked(order)):
        squares = (f"M{x + i % COLUMNS * PITCH} {TOP + i // COLUMNS * PITCH}h{SIDE}v{SIDE}h-{SIDE}z" for i, each in enumerate(order) if each == logits)
        hue = 220 + rank * 137.508 % 220
        fill = 'class="usual"' if rank == 0 else f'fill="hsl({hue % 360:.0f} 85% {(52, 64, 44)[rank % 3]}%)"'
        yield f'<path {fill} d="{"".join(squares)}"/>'


def panel(decoding, title, x):
    counts = (decoding["distinctLogits"], "set"), (decoding["distinctTexts"], "text")
    (sets, one), (texts, text) = ((count, what + ("" if count == 1 else "s")) for count, what in counts)
    answer = f"{sets} {one} of logits, {texts} {text}"
    yield f'<text x="{x}" y="{TOP - 14}"><tspan class="title">{html.escape(title)}</tspan><tspan class="grey" dx="10">{answer}</tspan></text>'
    yield from grid(decoding, x)


def shortened(text):
    return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS].rsplit(" ", 1)[0] + " …"


def lines(decoding):
    """(count, text up to where it parts from the most frequent one, the rest)."""
    answers = decoding["answers"]
    written = [(count, answers["texts"][text].strip().replace("\n", " ")) for text, count in ranked(answers["textOfLogits"][logits] for logits in answers["logitsOfCompletions"])]
    usual = written[0][1]
    for count, text in written[:TEXTS]:
        same = len(text) if text == usual else text.rfind(" ", 0, len(os.path.commonprefix([usual, text]))) + 1
        shown = shortened(text)
        yield f"{count:,}", shown[:same], shown[same:]
    if len(written) > TEXTS:
        yield f"{sum(count for count, _ in written[TEXTS:]):,}", "", f"{len(written) - TEXTS} other texts"


def text_table(stock, ours, y):
    for greedy, other in zip(stock["decodings"], ours["decodings"]):
        y += LINE + 8
        yield y, f'<text class="grey" x="{LEFT}" y="{y}">{html.escape(greedy["decoding"][0].upper() + greedy["decoding"][1:])}</text>'
        for name, decoding in ("stock", greedy), ("ours", other):
            for i, (count, same, rest) in enumerate(lines(decoding)):
                y += LINE
                if i == 0:
                    yield y, f'<text x="{LEFT}" y="{y}">{name}</text>'
                yield y, (f'<text class="count" x="{TEXT_LEFT - 10}" y="{y}">{count}</text>'
                          f'<text x="{TEXT_LEFT}" y="{y}" xml:space="preserve">{html.escape(same)}<tspan class="other">{html.escape(rest)}</tspan></text>')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("record")
    parser.add_argument("out")
    parser.add_argument("--prompt", help="the text that was completed")
    options = parser.parse_args()
    with open(options.record) as file:
        record = json.load(file)
    stock, ours = record["completions"]
    if (stock["subject"]["provider"], ours["subject"]["provider"]) != ("cpu", "batch-invariant"):
        raise SystemExit(f"{options.record}: holds other providers than cpu and batch-invariant, in this order")
    greedy, other = stock["decodings"][0], ours["decodings"][0]
    prompt = f"“{options.prompt}”" if options.prompt else "One prompt"
    lead = f"{prompt}, completed {greedy['completions']:,} times at temperature 0,"
    what = "among other requests that come and go. A square is a completion; one colour is one set of logits, to the byte."
    rows = -(-greedy["completions"] // COLUMNS)
    table = list(text_table(stock, ours, TOP + rows * PITCH))
    with open(options.out, "w") as file:
        file.write("\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {table[-1][0] + 12}" role="img">',
            f"<title>{html.escape(lead)} {what} Stock: {greedy['distinctLogits']} colours. Batch-invariant: {other['distinctLogits']}.</title>",
            f"<style>{STYLE}</style>",
            f'<text x="{LEFT}" y="22">{html.escape(lead)}</text>',
            f'<text x="{LEFT}" y="42">{html.escape(what)}</text>',
            *panel(greedy, "Stock ONNX Runtime", LEFT), *panel(other, "OrtBatchInvariant", LEFT + PANEL + GAP),
            *(part for _, part in table), "</svg>", ""]))


if __name__ == "__main__":
    main()
