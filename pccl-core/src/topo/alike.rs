//! What measurements tell apart, and what they do not.

use super::Figures;

/// Figures of paths that are equal lay as far apart as 0.8 to 1.2 of their median over an emulated network (docs/TOPOLOGY.md).
/// A plan made of such figures as they are gives the most to those that chance made the fastest, and waits for them.
const INDISTINCT: f64 = 1.25;

impl Figures {
    /// Each bandwidth becomes the median of all that cannot be told from it. So equal paths are equal again, paths that differ
    /// clearly stay as they are, and no figure moves by more than a factor of 1.25.
    pub fn alike(mut self) -> Figures {
        let mut sorted: Vec<f64> = self.bandwidths().map(|figure| *figure).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        for figure in self.bandwidths() {
            let from = sorted.partition_point(|other| *other < *figure / INDISTINCT);
            let to = sorted.partition_point(|other| *other <= *figure * INDISTINCT);
            // At least the figure itself is within.
            *figure = (sorted[from + (to - from - 1) / 2] + sorted[from + (to - from) / 2]) / 2.0;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// Bandwidths of pairs that send from 0 to 1, 2 ...
    fn alike(bandwidths: &[f64]) -> Vec<f64> {
        let mut figures = Figures::new(bandwidths.len() + 2);
        for (to, bandwidth) in bandwidths.iter().enumerate() {
            figures.set_bandwidth(0, to + 1, *bandwidth);
        }
        let figures = figures.alike();
        let last = bandwidths.len() + 1;
        assert_eq!(figures.bandwidth(0, last), None, "what nobody measured");
        (1..=bandwidths.len()).map(|to| figures.bandwidth(0, to).unwrap()).collect()
    }

    #[test]
    fn equal_paths_are_equal_whatever_chance_measured() {
        assert_eq!(alike(&[95.0, 105.0, 100.0, 98.0, 109.0]), [100.0; 5]);
        assert_eq!(alike(&[90.0, 110.0]), [100.0; 2]);
    }

    #[test]
    fn what_differs_clearly_stays() {
        let sites = [36.0, 380.0, 38.0, 400.0, 34.0, 390.0];
        assert_eq!(alike(&sites), [36.0, 390.0, 36.0, 390.0, 36.0, 390.0]);
        let apart = [10.0, 20.0, 40.0, 80.0];
        assert_eq!(alike(&apart), apart);
        assert_eq!(alike(&[]), []);
        assert_eq!(alike(&[7.0]), [7.0]);
    }

    #[test]
    fn no_figure_moves_far_and_their_order_stays() {
        let mut random = Random::new(1);
        for count in 1..60 {
            let mut before: Vec<f64> = (0..count).map(|_| 10.0 + random.below(500) as f64).collect();
            before.sort_unstable_by(f64::total_cmp);
            let after = alike(&before);
            assert!(after.is_sorted());
            for (before, after) in before.iter().zip(after) {
                assert!((0.8..=1.25).contains(&(after / before)), "{before} became {after}");
            }
        }
    }
}
