//! Draw measured times over those of the formula.

use std::fmt::Write as _;

use crate::Case;
use crate::fit::Fit;

/// Axes reach from 10 to the power of the one to the other, in milliseconds.
const DECADES: std::ops::RangeInclusive<i32> = -3..=3;

/// Width and height of a panel's axes.
const SIDE: f64 = 420.0;

/// Room around the axes: left and below for labels, above for the title.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

/// Least distance of two labels.
const LINE: f64 = 12.0;

/// One model in a plot.
pub(crate) struct Point {
    name: &'static str,
    formula: f64,
    measured: f64,
}

/// The points of a panel, the fastest first.
pub(crate) fn points(cases: &[Case], fit: &Fit) -> Vec<Point> {
    let point = |case: &Case| Point {
        name: case.name,
        formula: fit.at(&case.terms()),
        measured: case.wall,
    };
    let mut points: Vec<Point> = cases.iter().map(point).collect();
    points.sort_by(|a, b| a.measured.total_cmp(&b.measured));
    points
}

/// Panels side by side. The background follows the reader's preference as the lines do, so that either is readable on any page.
pub(crate) fn svg(panels: &[(String, Vec<Point>)]) -> String {
    let (width, height) = (panels.len() as f64 * (SIDE + LEFT) + 24.0, TOP + SIDE + BOTTOM);
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="Time to prove against the formula">
<style>
text {{ font: 11px system-ui, sans-serif; fill: #222; }} .title {{ font-size: 14px; }}
.end {{ text-anchor: end; }} .mid {{ text-anchor: middle; }}
.ground {{ fill: #fff; }} .band {{ fill: #e9f1fb; }} .dot {{ fill: #1f6fc4; }} line {{ stroke: #ddd; }} .same {{ stroke: #222; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #ddd; }} .ground {{ fill: #14171b; }} .band {{ fill: #1c2938; }} .dot {{ fill: #6cb2ff; }} line {{ stroke: #39414a; }} .same {{ stroke: #ddd; }}
}}
</style>
<rect class="ground" width="{width}" height="{height}" rx="6"/>
"#
    );
    for (index, (title, points)) in panels.iter().enumerate() {
        let _ = writeln!(
            out,
            r#"<g transform="translate({} {TOP})">"#,
            LEFT + index as f64 * (SIDE + LEFT)
        );
        panel(&mut out, title, points);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, title: &str, points: &[Point]) {
    let decade = SIDE / f64::from(DECADES.end() - DECADES.start());
    let along = |ms: f64| (ms.log10() - f64::from(*DECADES.start())) * decade;
    let up = |ms: f64| SIDE - along(ms);
    let two = decade * 2_f64.log10();
    let far = SIDE - two;
    let _ = writeln!(
        out,
        r#"<polygon class="band" points="0,{SIDE} 0,{far:.1} {far:.1},0 {SIDE},0 {SIDE},{two:.1} {two:.1},{SIDE}"/>"#
    );
    for power in DECADES {
        let (label, x) = (10_f64.powi(power), along(10_f64.powi(power)));
        let y = SIDE - x;
        let _ = writeln!(
            out,
            r#"<line x1="{x:.1}" x2="{x:.1}" y2="{SIDE}"/><line x2="{SIDE}" y1="{y:.1}" y2="{y:.1}"/>"#
        );
        let _ = writeln!(
            out,
            r#"<text class="mid" x="{x:.1}" y="{}">{label}</text><text class="end" x="-6" y="{:.1}">{label}</text>"#,
            SIDE + 16.0,
            y + 4.0
        );
    }
    let middle = SIDE / 2.0;
    let _ = writeln!(out, r#"<line class="same" y1="{SIDE}" x2="{SIDE}"/>"#);
    let _ = writeln!(out, r#"<text class="mid title" x="{middle}" y="-14">{title}</text>"#);
    let _ = writeln!(
        out,
        r#"<text class="mid" x="{middle}" y="{}">formula, ms (band: within a factor of 2)</text>"#,
        SIDE + 38.0
    );
    let _ = writeln!(
        out,
        r#"<text class="mid" transform="translate(-48 {middle}) rotate(-90)">measured, ms</text>"#
    );
    for point in points {
        let (x, y) = (along(point.formula), up(point.measured));
        let _ = writeln!(out, r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="4"/>"#);
    }
    // Beside the line, away from it: left of the upper points, right of the lower ones. A label that would touch the one
    // before moves further away.
    let (upper, lower): (Vec<_>, Vec<_>) =
        points.iter().partition(|point| along(point.formula) > middle);
    let mut last = f64::INFINITY;
    for point in upper {
        last = up(point.measured).min(last - LINE);
        label(out, "end", along(point.formula) - 9.0, last, point.name);
    }
    let mut last = 0.0;
    for point in lower.into_iter().rev() {
        last = up(point.measured).max(last + LINE);
        label(out, "start", along(point.formula) + 9.0, last, point.name);
    }
}

fn label(out: &mut String, class: &str, x: f64, y: f64, name: &str) {
    let _ = writeln!(out, r#"<text class="{class}" x="{x:.1}" y="{:.1}">{name}</text>"#, y + 4.0);
}
