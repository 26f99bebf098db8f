//! How long restores and cases take.

use std::time::{Duration, Instant};

use super::case::Which;
use super::lab::{Lab, LabError};
use crate::inject::{Event, Kind};

const ROUNDS: usize = 400;

/// What was measured: its name, the median, its unit.
pub type Measured = (String, f64, &'static str);

/// Measures a booted lab.
pub fn bench(lab: &mut Lab) -> Result<Vec<Measured>, LabError> {
    let one = vec![Event { kind: Kind::Nmi, at: lab.start() }];
    let path = lab.walk(&one)?;
    let in_c = path.visits.iter().find(|v| v.frame_read_at.is_none()).map_or(lab.start(), |v| v.at);
    let latched = [one.clone(), vec![Event { kind: Kind::Nmi, at: in_c }]].concat();
    let nested =
        [one.clone(), vec![Event { kind: Kind::Unmask, at: in_c }, Event { kind: Kind::Nmi, at: in_c }]].concat();
    let mut out = vec![("boundaries of one NMI's path".to_owned(), path.visits.len() as f64, "")];
    let mut pages = 0;
    let restore = median(|| {
        lab.case(&one, Which::Jump)?;
        let start = Instant::now();
        pages = lab.restore()?;
        Ok(start.elapsed())
    })?;
    out.push((format!("restore after a case ({pages} pages)"), restore, "us"));
    for (name, events) in [("one NMI", &one), ("two NMIs, #2 latched", &latched), ("two NMIs, #2 nested", &nested)] {
        let mut each = |which| {
            median(|| {
                let start = Instant::now();
                lab.case(events, which)?;
                Ok(start.elapsed())
            })
        };
        out.push((format!("case with {name}, by events"), each(Which::Jump)?, "us"));
        out.push((format!("case with {name}, by KVM_NMI"), each(Which::Arm)?, "us"));
    }
    Ok(out)
}

fn median(mut each: impl FnMut() -> Result<Duration, LabError>) -> Result<f64, LabError> {
    let mut all = (0..ROUNDS).map(|_| each()).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    Ok(all[ROUNDS / 2].as_secs_f64() * 1e6)
}
