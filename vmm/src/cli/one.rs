//! One schedule on a kernel that has come up.

use std::time::Duration;

use super::boot::Booted;
use super::failure::{Ending, Failure};
use super::linux::sweep::header;
use super::out::Out;
use super::output::Outputs;
use crate::debug::KernelRun;
use crate::inject::{Event, Gear};
use crate::kernels::{CaseRow, Document, KernelInfo, Lab, Row};
use crate::report::{LinuxCase, Repeats, Story, of_kernel};

/// What is said of an option that one schedule has no use for.
pub const NOT_FOR_ONE: &str = "{} is for sweeps and campaigns, and not for one schedule";

/// A schedule, and how it is carried out.
pub struct One<'a> {
    /// The schedule.
    pub text: &'a str,
    /// How NMIs are raised.
    pub gear: Gear,
    /// CPU time that it may take, in milliseconds.
    pub case_limit: u64,
    /// Whether it is run so many times, and what comes of it compared.
    pub repeat: Option<u32>,
    /// The command line that carries out a schedule again.
    pub replay: &'a dyn Fn(&str) -> String,
}

/// What happens, told by a run of its own.
fn story(
    lab: &mut Lab,
    events: &[Event],
    kernel: &KernelInfo,
    replay: &dyn Fn(&str) -> String,
) -> Result<Story, Failure> {
    let schedule = lab.show_schedule(events);
    let mut run = KernelRun::new(lab, events.to_vec(), replay)?;
    Ok(of_kernel(&mut run, kernel, schedule)?)
}

impl One<'_> {
    /// Carries it out on a kernel that stands where it begins, and says what came of it.
    pub fn run(&self, booted: Booted, outputs: &Outputs, out: &mut Out) -> Result<Ending, Failure> {
        let Booted { mut lab, info, .. } = booted;
        lab.set_limit(Duration::from_millis(self.case_limit));
        let schedule = lab.schedule(self.text)?;
        let row = Row::of(&mut lab, &schedule.0, self.gear)?;
        let number = lab.number()?;
        let mut repeats = self.repeat.map(|of| Repeats { of, differing: 0 });
        for _ in 1..self.repeat.unwrap_or(1) {
            let outcome = lab.case(&schedule.0, self.gear)?;
            let same = outcome == row.outcome && lab.number()? == number;
            repeats.iter_mut().for_each(|r| r.differing += u32::from(!same));
        }
        let document = Document::new(info, &lab);
        let story = outputs.wants("html").then(|| story(&mut lab, &schedule.0, &document.kernel, self.replay));
        let mut case = CaseRow { because: "".into(), ..CaseRow::of(&row, &lab) };
        case.replay = (!row.outcome.verdict.is_pass()).then(|| (self.replay)(&case.schedule));
        let case = LinuxCase {
            host: &document.host,
            kernel: &document.kernel,
            assists: document.assists,
            unchecked: &document.unchecked,
            gear: self.gear.name(),
            case,
            verdict: row.outcome.verdict.to_string(),
            expected: row.expected.to_string(),
            repeats,
            story: story.transpose()?,
            header: header(&document),
        };
        outputs.write(&case, out)?;
        if repeats.is_some_and(|r| r.differing > 0) {
            return Ok(Ending::Defect);
        }
        Ok(if row.is_defect() || row.is_silent() { Ending::Unexpected } else { Ending::Expected })
    }
}
