//! Functions as they are: each task is an export of its own name, with the types of its parameters and its
//! result.
#![forbid(unsafe_code)]

use wpool_guest::ComponentType;

/// Multiplies a number.
#[wpool_guest::task]
fn scale(x: f64, factor: f64) -> f64 {
    x * factor
}

/// The power of a number. The C library has a function of this name, too.
#[wpool_guest::task]
fn pow(x: f64, exponent: f64) -> f64 {
    x.powf(exponent)
}

/// Divides whole numbers.
#[wpool_guest::task]
fn divide(dividend: i64, divisor: i64) -> Result<i64, String> {
    dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / {divisor} has no result"))
}

/// Reads a number: the error is that of the standard library.
#[wpool_guest::task]
fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
    text.trim().parse()
}

#[wpool_guest::task]
fn shout(text: &str) -> String {
    text.to_uppercase()
}

#[wpool_guest::task]
fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[wpool_guest::task]
fn words(text: String, longest: Option<u32>) -> Vec<String> {
    let fits = |word: &&str| longest.is_none_or(|longest| word.len() <= longest as usize);
    text.split_whitespace().filter(fits).map(str::to_owned).collect()
}

#[wpool_guest::task]
fn mean_and_spread(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (!values.is_empty()).then(|| (mean, square.sqrt()))
}

/// A point of the plane.
#[derive(Debug, Clone, Copy, ComponentType)]
struct Point {
    x: f64,
    y: f64,
}

/// A figure of the plane.
#[derive(Debug, ComponentType)]
enum Shape {
    Empty,
    Circle(Point, f64),
    Polygon(Vec<Point>),
}

/// Why a figure has no area.
#[derive(Debug, ComponentType)]
enum NoArea {
    TooFewCorners(u32),
    NegativeRadius,
}

#[derive(Debug, Clone, Copy, PartialEq, ComponentType)]
enum Axis {
    Horizontal,
    Vertical,
}

#[derive(Debug, ComponentType)]
#[component(flags)]
struct Sides {
    left: bool,
    right: bool,
    both_at_once: bool,
}

#[wpool_guest::task]
fn area(shape: Shape) -> Result<f64, NoArea> {
    match shape {
        Shape::Empty => Ok(0.0),
        Shape::Circle(_, radius) if radius < 0.0 => Err(NoArea::NegativeRadius),
        Shape::Circle(_, radius) => Ok(std::f64::consts::PI * radius.powi(2)),
        Shape::Polygon(corners) if corners.len() < 3 => Err(NoArea::TooFewCorners(corners.len() as u32)),
        Shape::Polygon(corners) => {
            let next = corners.iter().cycle().skip(1);
            let doubled: f64 = corners.iter().zip(next).map(|(a, b)| a.x * b.y - b.x * a.y).sum();
            Ok(doubled.abs() / 2.0)
        }
    }
}

/// The mirror image of a point.
#[wpool_guest::task]
fn mirror(point: Point, axis: Axis) -> Point {
    match axis {
        Axis::Horizontal => Point { y: -point.y, ..point },
        Axis::Vertical => Point { x: -point.x, ..point },
    }
}

#[wpool_guest::task]
fn sides(of: i8) -> Sides {
    Sides { left: of < 0, right: of > 0, both_at_once: of == 0 }
}
