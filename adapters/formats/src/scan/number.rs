//! Numbers, and the values they have.

/// A number as it was written, with what was learnt on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'a> {
    pub(crate) raw: &'a str,
    /// Without fraction and exponent.
    pub(crate) integer: bool,
    /// The digits, if they are few enough to fit.
    pub(super) mantissa: Option<u64>,
    pub(super) fraction_digits: usize,
    pub(super) negative: bool,
}

impl Number<'_> {
    /// The integer, if it is one and fits.
    #[inline]
    pub(crate) fn to_int(self) -> Option<i64> {
        if !self.integer {
            return None;
        }
        match self.mantissa.map(i64::try_from) {
            Some(Ok(value)) if self.negative => Some(-value),
            Some(Ok(value)) => Some(value),
            _ => self.raw.parse().ok(),
        }
    }

    /// The nearest float64; infinite where the number is too large for one.
    #[inline]
    pub(crate) fn to_float(self) -> f64 {
        /// Powers of ten that a float64 holds exactly.
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
            1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        match (self.mantissa, POWERS.get(self.fraction_digits)) {
            // Both are exact, so their quotient is rounded once, as it should be (Clinger 1990).
            (Some(mantissa), Some(power)) if mantissa <= 1 << 53 => {
                let value = mantissa as f64 / power;
                if self.negative { -value } else { value }
            }
            _ => self.raw.parse().unwrap_or(f64::NAN),
        }
    }
}
