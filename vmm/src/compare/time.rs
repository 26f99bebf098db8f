//! What an NMI costs in time on this host, all schemes in turn, so that what else the
//! host does meanwhile meets each of them.

use crate::inject::{Saved, Session};
use crate::machine::Error;

/// One scheme, standing where its NMIs are timed.
pub struct Timed<'a> {
    /// Its session.
    pub session: &'a mut Session,
    /// The state at the boundary.
    pub at: Saved,
    /// Nanoseconds, one for each NMI that came back.
    pub took: Vec<u64>,
}

/// Rounds before the first that counts.
const WARM_UP: usize = 20;

/// Times `rounds` NMIs of each.
pub fn time(list: &mut [Timed], rounds: usize) -> Result<(), Error> {
    for round in 0..WARM_UP + rounds {
        for timed in list.iter_mut() {
            timed.session.restore(&timed.at);
            let took = timed.session.time_nmi()?;
            if let Some(took) = took.filter(|_| round >= WARM_UP) {
                timed.took.push(took.as_nanos() as u64);
            }
        }
    }
    Ok(())
}

/// The value that a share of `permille` thousandths of the values does not exceed.
pub fn quantile(values: &[u64], permille: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * permille).div_ceil(1000)).copied()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&values, 500), Some(51));
        assert_eq!(quantile(&values, 990), Some(100));
        assert_eq!(quantile(&values, 0), Some(1));
        assert_eq!(quantile(&[], 500), None);
    }
}
