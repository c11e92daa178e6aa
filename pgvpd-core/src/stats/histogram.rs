//! How long things took, in classes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the classes of time that a [`Timing`] counts, in seconds.
pub const TIME_BOUNDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

/// How often something took how long, since the start.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// How often.
    pub count: u64,
    /// The sum of all times, in seconds.
    pub sum: f64,
    /// How often up to each bound of [`TIME_BOUNDS`] and above the one before, and last above all of them.
    pub classes: [u64; TIME_BOUNDS.len() + 1],
}

/// Counts times. Observing is two atomic additions.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    classes: [AtomicU64; TIME_BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let class = TIME_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(TIME_BOUNDS.len());
        if let Some(count) = self.classes.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn timing(&self) -> Timing {
        let classes = self.classes.each_ref().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Timing { count: classes.iter().sum(), sum, classes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_class_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for milliseconds in [0, 1, 1, 2, 60_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let timing = histogram.timing();
        assert_eq!((timing.count, timing.sum), (5, 60.004));
        let filled: Vec<_> = timing.classes.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &1), (3, &2), (4, &1), (TIME_BOUNDS.len(), &1)]);
    }
}
