//! Pictures of numbers, readable on light and on dark ground.

use std::fmt::Write;

use crate::comparison::{Comparison, Line};
use crate::report::Slope;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 250.0;
const BAR: f64 = 14.0;
/// Where lines and bars end, so that there is room for numbers.
const RIGHT: f64 = WIDTH - 90.0;
const COLORS: [(&str, &str); 5] =
    [("isthmus", "#2f81f7"), ("envoy", "#d9822b"), ("nginx", "#3fa35b"), ("haproxy", "#b25fc4"), ("direct", "#8b949e")];
const STYLE: &str = "<style>text{font:12px sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.axis{stroke:#8b949e}\
    .ground{fill:#ffffff}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}}</style>";

/// A bar for each program's processor time; the part spent in the kernel is paler.
pub(crate) fn cpu(comparisons: &[Comparison]) -> String {
    let groups = comparisons.iter().map(|comparison| {
        let lines = comparison.lines.iter().filter(|line| line.program != "direct");
        let most = lines.clone().map(|line| line.median("cpu")).fold(f64::MIN_POSITIVE, f64::max);
        let bars = lines.map(|line| {
            let (user, system) = (line.median("user") / most, line.median("system") / most);
            (line.program, vec![user, system], format!("{:.3} s", line.median("cpu")))
        });
        (format!("{} ({})", comparison.what, comparison.per), bars.collect())
    });
    bars("Processor time (full: in the program, pale: in the kernel)", groups.collect())
}

/// A bar for each program's latencies: the median, and paler what 99 % and 99.9 % do not exceed, by their logarithms.
pub(crate) fn latency(comparisons: &[Comparison]) -> String {
    let logarithm = |line: &Line, name: &str| line.median(name).max(10.0).log10() - 1.0;
    let groups = comparisons.iter().map(|comparison| {
        let most = comparison.lines.iter().map(|line| logarithm(line, "p99.9")).fold(f64::MIN_POSITIVE, f64::max);
        let bars = comparison.lines.iter().map(|line| {
            let [p50, p99, p999] = ["p50", "p99", "p99.9"].map(|name| logarithm(line, name) / most);
            let [a, b, c] = ["p50", "p99", "p99.9"].map(|name| line.median(name));
            (line.program, vec![p50, p99 - p50, p999 - p99], format!("{a:.0} {b:.0} {c:.0}"))
        });
        (format!("{}, {:.0}/s", comparison.what, comparison.rate), bars.collect())
    });
    bars("Latency at a fixed rate: p50, p99, p99.9 in µs (logarithmic)", groups.collect())
}

/// A bar for each program's resident memory without load, and paler with it.
pub(crate) fn memory(comparisons: &[Comparison]) -> String {
    let groups = comparisons.iter().map(|comparison| {
        let lines = comparison.lines.iter().filter(|line| line.program != "direct");
        let most = lines.clone().map(|line| line.median("loaded")).fold(f64::MIN_POSITIVE, f64::max);
        let bars = lines.map(|line| {
            let (idle, loaded) = (line.median("idle"), line.median("loaded"));
            (line.program, vec![idle / most, (loaded - idle).max(0.0) / most], format!("{idle:.1} {loaded:.1}"))
        });
        (comparison.what.to_owned(), bars.collect())
    });
    bars("Resident memory in MB: idle, loaded", groups.collect())
}

/// A program's bar: its parts, of a whole of one, and what is written after it.
type Bar = (&'static str, Vec<f64>, String);

fn bars(title: &str, groups: Vec<(String, Vec<Bar>)>) -> String {
    let mut body = legend(title);
    let mut y = 64.0;
    for (label, bars) in groups {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        text(&mut body, 8.0, middle, "", &label);
        for (program, parts, number) in bars {
            let mut x = LABEL;
            for (n, part) in parts.into_iter().enumerate() {
                let width = (part * (RIGHT - LABEL)).max(0.0);
                let (color, opacity, height) = (color(program), 1.0 / (1.0 + n as f64), BAR - 2.0);
                push(
                    &mut body,
                    format_args!(
                        "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height}' fill='{color}' fill-opacity='{opacity:.2}'/>"
                    ),
                );
                x += width;
            }
            text(&mut body, x + 5.0, y + BAR - 4.0, "", &number);
            y += BAR;
        }
        y += 12.0;
    }
    picture(y, &body)
}

/// A line for each slope, over the logarithm of what it grows with.
pub(crate) fn slopes(slopes: &[Slope]) -> String {
    let mut body = String::new();
    text(&mut body, 8.0, 22.0, "title", "What grows with what");
    let mut top = 40.0;
    for slope in slopes {
        let (height, foot) = (90.0, top + 116.0);
        text(&mut body, 8.0, top + 14.0, "", &format!("{}, {} by {}", slope.what, slope.unit, slope.with));
        let most = slope.points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
        let [low, high] = [f64::min as fn(f64, f64) -> f64, f64::max]
            .map(|choose| slope.points.iter().map(|point| point.0.max(1.0).log10()).reduce(choose).unwrap_or_default());
        let place = |(x, y): (f64, f64)| {
            let along = (x.max(1.0).log10() - low) / (high - low).max(f64::MIN_POSITIVE);
            (LABEL + along.min(1.0) * (RIGHT - LABEL), foot - y / most * height)
        };
        let line: Vec<String> =
            slope.points.iter().map(|point| place(*point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        push(&mut body, format_args!("<path class='axis' d='M{LABEL} {foot}H{RIGHT}'/>"));
        push(
            &mut body,
            format_args!(
                "<polyline points='{}' fill='none' stroke='{}' stroke-width='2'/>",
                line.join(" "),
                color("isthmus")
            ),
        );
        for point in &slope.points {
            let (x, y) = place(*point);
            text(&mut body, x - 4.0, y - 6.0, "", &format!("{:.1}", point.1));
            text(&mut body, x - 4.0, foot + 14.0, "", &format!("{}", point.0));
        }
        top = foot + 30.0;
    }
    picture(top, &body)
}

fn legend(title: &str) -> String {
    let mut body = String::new();
    text(&mut body, 8.0, 22.0, "title", title);
    for (n, (program, color)) in COLORS.iter().enumerate() {
        let x = LABEL + n as f64 * 90.0;
        push(&mut body, format_args!("<rect x='{x}' y='34' width='10' height='10' fill='{color}'/>"));
        text(&mut body, x + 15.0, 43.0, "", program);
    }
    body
}

fn picture(height: f64, body: &str) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' width='{WIDTH}' height='{height:.0}'>{STYLE}\
         <rect class='ground' width='100%' height='100%'/>\n{body}</svg>\n"
    )
}

fn text(body: &mut String, x: f64, y: f64, class: &str, said: &str) {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    push(body, format_args!("<text x='{x:.1}' y='{y:.1}' class='{class}'>{said}</text>"));
}

fn push(body: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(body, "{element}").expect("a string takes all");
}

fn color(program: &str) -> &'static str {
    COLORS.iter().find(|(name, _)| *name == program).map_or("#8b949e", |(_, color)| color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_has_a_line_through_its_points() {
        let points = vec![(100.0, 1.0), (1000.0, 2.0), (10000.0, 4.0)];
        let slope = Slope { what: "edit <of one>".to_owned(), unit: "ms", with: "services", points };
        let drawn = slopes(&[slope]);
        assert!(drawn.contains(&format!("points='{LABEL}.0,133.5 510.0,111.0 {RIGHT}.0,66.0'")), "{drawn}");
        assert!(drawn.contains("edit &lt;of one>") && drawn.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_bar_is_as_long_as_its_parts_are_of_the_whole() {
        let drawn = bars("t", vec![("g".to_owned(), vec![("envoy", vec![0.25, 0.5], "n".to_owned())])]);
        assert!(
            drawn.contains("<rect x='250.0' y='64.0' width='130.0' height='12' fill='#d9822b' fill-opacity='1.00'/>")
        );
        assert!(
            drawn.contains("<rect x='380.0' y='64.0' width='260.0' height='12' fill='#d9822b' fill-opacity='0.50'/>")
        );
    }
}
