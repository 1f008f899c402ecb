//! Median and worst of a few figures.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    pub count: usize,
    pub median_ms: f64,
    pub worst_ms: f64,
}

impl Times {
    /// `None` where nothing was measured.
    pub fn of_us(samples_us: &[u64]) -> Option<Times> {
        let samples: Vec<f64> = samples_us.iter().map(|&us| us as f64 / 1000.0).collect();
        let worst_ms = samples.iter().copied().fold(0.0, f64::max);
        Some(Times { count: samples.len(), median_ms: median(samples)?, worst_ms })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median {:.1} ms, worst {:.1} ms of {}", self.median_ms, self.worst_ms, self.count)
    }
}

/// The mean of the middle two if the count is even; `None` of nothing.
pub fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    let upper = *samples.get(middle)?;
    Some(if samples.len() % 2 == 1 { upper } else { (samples[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn times_are_in_milliseconds_and_name_the_worst() {
        let times = Times::of_us(&[1_500, 40_000, 2_500]).unwrap();
        assert_eq!(times, Times { count: 3, median_ms: 2.5, worst_ms: 40.0 });
        assert_eq!(times.to_string(), "median 2.5 ms, worst 40.0 ms of 3");
        assert_eq!(Times::of_us(&[]), None);
    }
}
