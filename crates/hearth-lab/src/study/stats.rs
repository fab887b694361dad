//! Statistics over several runs.

use serde::Serialize;

/// Mean, median and standard deviation of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The number of values; a run may lack one.
    pub runs: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// The middle value; of an even number, the mean of the two middle ones.
    pub median: f64,
    /// Standard deviation of the sample (divided by `runs - 1`); 0 for one value.
    pub deviation: f64,
}

impl Summary {
    /// `None` if there are no values.
    #[expect(clippy::cast_precision_loss, reason = "runs are few")]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let runs = values.len();
        let (&low, &high) = (
            values.get(runs.saturating_sub(1) / 2)?,
            values.get(runs / 2)?,
        );
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            runs,
            mean,
            median: f64::midpoint(low, high),
            deviation: (squares / (runs.max(2) - 1) as f64).sqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_and_of_many() {
        assert_eq!(Summary::of([]), None);
        let one = Summary::of([3.0]).unwrap();
        assert_eq!((one.mean, one.median, one.deviation), (3.0, 3.0, 0.0));
        let even = Summary::of([4.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!((even.runs, even.mean, even.median), (4, 4.0, 3.0));
        // The sum of the squares 0, 9, 4, 25, divided by three.
        assert!((even.deviation - (38.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let odd = Summary::of([5.0, 1.0, 100.0]).map(|s| s.median);
        assert_eq!(odd, Some(5.0));
    }
}
