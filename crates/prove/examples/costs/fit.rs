//! Fit times by a sum of terms, none of them negative.

/// A formula: `Σ coefficient · term`.
pub(crate) struct Fit(Vec<f64>);

impl Fit {
    /// The least squares of `formula / time - 1` over rows of terms and times, by descent along one coefficient after the
    /// other: the problem is convex, and it is small.
    pub(crate) fn of(rows: &[(Vec<f64>, f64)]) -> Self {
        let scaled: Vec<Vec<f64>> = rows
            .iter()
            .map(|(terms, time)| terms.iter().map(|term| term / time).collect())
            .collect();
        let mut coefficients = vec![0.0; scaled[0].len()];
        let mut missing = vec![1.0; rows.len()];
        for _ in 0..100_000 {
            for (index, coefficient) in coefficients.iter_mut().enumerate() {
                let column = || scaled.iter().map(|row| row[index]);
                let square: f64 = column().map(|x| x * x).sum();
                let slope: f64 = column().zip(&missing).map(|(x, rest)| x * rest).sum();
                let next = f64::max(0.0, *coefficient + slope / square);
                let step = next - *coefficient;
                column().zip(&mut missing).for_each(|(x, rest)| *rest -= x * step);
                *coefficient = next;
            }
        }
        Self(coefficients)
    }

    pub(crate) fn coefficients(&self) -> &[f64] {
        &self.0
    }

    pub(crate) fn at(&self, terms: &[f64]) -> f64 {
        self.0.iter().zip(terms).map(|(coefficient, term)| coefficient * term).sum()
    }

    /// The largest factor between formula and time, whichever is larger.
    pub(crate) fn worst(&self, rows: &[(Vec<f64>, f64)]) -> f64 {
        let ratio = rows.iter().map(|(terms, time)| self.at(terms) / time);
        ratio.map(|ratio| ratio.max(1.0 / ratio)).fold(1.0, f64::max)
    }
}
