//! Charts as SVG, to be put into a page (plotters).

use std::ops::Range;

use plotters::prelude::*;

/// Width and height, in pixels; a page may scale them.
const SIZE: (u32, u32) = (900, 340);
/// One colour a side.
const COLOURS: [RGBColor; 2] = [RGBColor(0x0b, 0x6e, 0x99), RGBColor(0xd9, 0x73, 0x0d)];

/// Points from left to right.
pub(crate) type Line = Vec<(f64, f64)>;

/// Lines of one side.
pub(crate) struct Lines<'a> {
    /// What the side is called.
    pub name: &'a str,
    /// A line a run.
    pub lines: Vec<Line>,
}

/// What a chart shows.
pub(crate) struct Axes<'a> {
    /// What the x axis counts, and how a place on it is told.
    pub x: (&'a str, fn(&f64) -> String),
    /// What the y axis counts.
    pub y: &'a str,
    /// Whether equal steps on the y axis are equal factors.
    pub logarithmic: bool,
}

/// Lines over each other, a colour for each side; `None` if there is nothing to show.
pub(crate) fn lines(axes: &Axes<'_>, sides: &[Lines<'_>]) -> Option<String> {
    let points = || sides.iter().flat_map(|side| side.lines.iter().flatten().copied());
    let most = |of: fn((f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let (right, top) = (most(|(x, _)| x), most(|(_, y)| y));
    if right <= 0.0 || top <= 0.0 {
        return None;
    }
    let least = points().map(|(_, y)| y).filter(|y| *y > 0.0).fold(top, f64::min);
    let mut svg = String::new();
    let drawn = if axes.logarithmic {
        draw(&mut svg, axes, sides, right, (least / 1.5..top * 1.5).log_scale())
    } else {
        draw(&mut svg, axes, sides, right, 0.0..top * 1.1)
    };
    drawn.ok().map(|()| svg)
}

type Failed = Box<dyn std::error::Error>;

fn draw<Y>(
    svg: &mut String,
    axes: &Axes<'_>,
    sides: &[Lines<'_>],
    right: f64,
    y: Y,
) -> Result<(), Failed>
where
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(Range { start: 0.0, end: right }, y)
        .map_err(|error| error.to_string())?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.x.0).x_label_formatter(&axes.x.1).y_desc(axes.y).light_line_style(WHITE);
    mesh.draw().map_err(|error| error.to_string())?;
    for (side, colour) in sides.iter().zip(COLOURS) {
        for (at, line) in side.lines.iter().enumerate() {
            let points = line.iter().copied().filter(|(_, y)| *y > 0.0);
            let series = LineSeries::new(points, colour.stroke_width(2));
            let drawn = chart.draw_series(series).map_err(|error| error.to_string())?;
            if at == 0 {
                let key =
                    move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3));
                drawn.label(side.name).legend(key);
            }
        }
    }
    let mut names = chart.configure_series_labels();
    names.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
    names.draw().map_err(|error| error.to_string())?;
    root.present().map_err(|error| error.to_string())?;
    Ok(())
}
