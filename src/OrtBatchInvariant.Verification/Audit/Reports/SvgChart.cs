using System.Globalization;
using System.Net;
using System.Text;

namespace OrtBatchInvariant.Verification.Audit.Reports;

/// <summary>One set of bars.</summary>
/// <param name="Name">What it counts.</param>
/// <param name="Style">Its class in the style sheet.</param>
/// <param name="Values">A value for each place on the horizontal axis.</param>
internal sealed record ChartSeries(string Name, string Style, IReadOnlyList<double> Values);

/// <summary>A bar chart as inline SVG, legible at the width of a phone.</summary>
internal sealed class SvgChart
{
    private const int Width = 360;
    private const int Height = 200;
    private const int Left = 46;
    private const int Right = 8;
    private const int Top = 24;
    private const int Bottom = 38;
    private const int Labels = 8;

    private readonly string _id;
    private readonly string _horizontal;
    private readonly IReadOnlyList<string> _places;
    private readonly IReadOnlyList<ChartSeries> _series;
    private readonly bool _isLogarithmic;
    private readonly StringBuilder _svg = new();

    private SvgChart(string id, string horizontal, IReadOnlyList<string> places, IReadOnlyList<ChartSeries> series, bool isLogarithmic)
    {
        _id = id;
        _horizontal = horizontal;
        _places = places;
        _series = series;
        _isLogarithmic = isLogarithmic;
    }

    /// <summary>Draws bars.</summary>
    /// <param name="id">The element's id.</param>
    /// <param name="title">What is shown, in a sentence for those who cannot see it.</param>
    /// <param name="horizontal">What the horizontal axis counts.</param>
    /// <param name="places">Its labels.</param>
    /// <param name="series">The bars.</param>
    /// <param name="isLogarithmic">Whether the vertical axis is in powers of ten.</param>
    /// <param name="mark">A place before which a line is drawn, or null.</param>
    public static string Bars(
        string id, string title, string horizontal, IReadOnlyList<string> places, IReadOnlyList<ChartSeries> series, bool isLogarithmic = false, int? mark = null) =>
        new SvgChart(id, horizontal, places, series, isLogarithmic).Draw(title, mark);

    private double InnerWidth => Width - Left - Right;

    private double InnerHeight => Height - Top - Bottom;

    private string Draw(string title, int? mark)
    {
        double[] values = [.. _series.SelectMany(series => series.Values).Where(value => value > 0)];
        (double low, double high) = _isLogarithmic
            ? (Math.Floor(Math.Log10(values.DefaultIfEmpty(0.1).Min())) - 0.5, Math.Ceiling(Math.Log10(values.DefaultIfEmpty(1).Max())))
            : (0, Ceiling(values.DefaultIfEmpty(1).Max()));
        _svg.Append(Invariant($"<svg id=\"{_id}\" viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{WebUtility.HtmlEncode(title)}\">"));
        Grid(low, high);
        double slot = InnerWidth / Math.Max(1, _places.Count);
        double bar = slot * (_places.Count > 40 ? 1 : 0.8) / _series.Count;
        for (int place = 0; place < _places.Count; place++)
        {
            for (int i = 0; i < _series.Count; i++)
            {
                double value = _series[i].Values[place];
                double share = value <= 0 ? 0 : ((_isLogarithmic ? Math.Log10(value) : value) - low) / (high - low);
                double height = Math.Clamp(share, 0, 1) * InnerHeight;
                if (height > 0)
                {
                    double x = Left + (place * slot) + ((slot - (bar * _series.Count)) / 2) + (i * bar);
                    _svg.Append(Invariant(
                        $"<rect class=\"{_series[i].Style}\" x=\"{x:0.##}\" y=\"{Top + InnerHeight - height:0.##}\" width=\"{Math.Max(bar - 0.5, 0.6):0.##}\" height=\"{height:0.##}\"><title>{_horizontal} {WebUtility.HtmlEncode(_places[place])}: {Number(value)} {_series[i].Name}</title></rect>"));
                }
            }
        }

        if (mark is { } at)
        {
            double x = Left + (at * slot);
            _svg.Append(Invariant($"<line class=\"mark\" x1=\"{x:0.##}\" y1=\"{Top}\" x2=\"{x:0.##}\" y2=\"{Top + InnerHeight}\"/>"));
        }

        Legend();
        return _svg.Append("</svg>").ToString();
    }

    private void Grid(double low, double high)
    {
        int lines = _isLogarithmic ? Math.Min(6, (int)(high - Math.Ceiling(low))) : 4;
        for (int i = 0; i <= lines; i++)
        {
            double value = _isLogarithmic ? high - Math.Round(i * (high - Math.Ceiling(low)) / Math.Max(1, lines)) : high * i / lines;
            double y = Top + InnerHeight - ((value - low) / (high - low) * InnerHeight);
            string label = _isLogarithmic ? Invariant($"1e{value:0}") : Number(value);
            _svg.Append(Invariant($"<line class=\"grid\" x1=\"{Left}\" y1=\"{y:0.##}\" x2=\"{Width - Right}\" y2=\"{y:0.##}\"/><text class=\"label\" x=\"{Left - 5}\" y=\"{y + 3.5:0.##}\" text-anchor=\"end\">{label}</text>"));
        }

        double slot = InnerWidth / Math.Max(1, _places.Count);
        int every = Math.Max(1, (int)Math.Ceiling(_places.Count / (double)Labels));
        for (int place = 0; place < _places.Count; place += every)
        {
            _svg.Append(Invariant($"<text class=\"label\" x=\"{Left + ((place + 0.5) * slot):0.##}\" y=\"{Top + InnerHeight + 14}\" text-anchor=\"middle\">{WebUtility.HtmlEncode(_places[place])}</text>"));
        }

        _svg.Append(Invariant($"<text class=\"label\" x=\"{Left + (InnerWidth / 2):0.##}\" y=\"{Height - 6}\" text-anchor=\"middle\">{WebUtility.HtmlEncode(_horizontal)}</text>"));
    }

    private void Legend()
    {
        double x = Left;
        foreach (ChartSeries series in _series)
        {
            _svg.Append(Invariant($"<rect class=\"{series.Style} key\" x=\"{x:0.##}\" y=\"6\" width=\"10\" height=\"10\"/><text class=\"label\" x=\"{x + 14:0.##}\" y=\"15\">{WebUtility.HtmlEncode(series.Name)}</text>"));
            x += 24 + (series.Name.Length * 6.2);
        }
    }

    // A round number that four lines divide.
    private static double Ceiling(double value)
    {
        double step = Math.Pow(10, Math.Floor(Math.Log10(Math.Max(value, 4) / 4)));
        double[] factors = [1, 2, 2.5, 5, 10];
        return 4 * step * factors.First(factor => 4 * step * factor >= value);
    }

    private static string Number(double value) =>
        value != 0 && Math.Abs(value) < 0.01 ? value.ToString("0.0E+0", CultureInfo.InvariantCulture) : value.ToString("#,0.##", CultureInfo.InvariantCulture);

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
