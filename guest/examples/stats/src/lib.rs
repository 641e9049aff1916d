//! The mean and the spread of each list of numbers: `{"values": [1, 2, 3]}` gives `{"count":3,"min":1.0,…}`.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Sample {
    #[serde(default)]
    name: Option<String>,
    values: Vec<f64>,
}

#[derive(Serialize)]
struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    count: usize,
    min: f64,
    max: f64,
    mean: f64,
    /// The standard deviation of the population, not of a sample.
    deviation: f64,
}

#[wpool_guest::task(json)]
fn run(Sample { name, values }: Sample) -> Result<Stats, &'static str> {
    if values.is_empty() {
        return Err("there are no values");
    }
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count as f64;
    Ok(Stats {
        name,
        count,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        mean,
        deviation: variance.sqrt(),
    })
}
