//! What the page of a campaign shows besides its table, and takes the image and further runs:
//! stories of failures, and heat maps of entry code.

use std::sync::Arc;

use super::failure::Failure;
use super::run::story_of;
use crate::campaign::Results;
use crate::image::target::Target;
use crate::image::{Guest, Names};
use crate::inject::{Replay, Schedule, Session};
use crate::kvm::Host;
use crate::oracle::{VerdictKind, Word};
use crate::report::{Cases, Failing, Heat, Pictures, Story};

/// Steps that a story shows before and after each event.
const AROUND: usize = 4;
/// Most steps of one story.
const MOST_OF_ONE: usize = 600;
/// Most steps in all stories of a page together: what keeps it small.
const MOST_STEPS: usize = 3_000;

/// The heat maps, which need no host.
pub fn heat(results: &Results, guest: &Guest) -> Vec<Heat> {
    let declared = &guest.image.declared;
    let rows = results.rows();
    let mut out = Vec::new();
    for scheme in &declared.schemes {
        let mut cases = Cases::default();
        for row in rows.iter().filter(|r| r.cell.scheme == scheme.name) {
            cases.coverage.merge(&row.tally.coverage);
            cases.ended.merge(&row.tally.ended);
            if row.tally.closed && row.verdict == Some(VerdictKind::PASS) {
                cases.proved.push(row.cell.scenario.clone());
            }
            let told = row.tally.failures.iter().filter(|f| f.kind.verdict != Word::HostLimit);
            cases.failing.extend(told.map(|f| Failing {
                verdict: f.kind.to_string(),
                scenario: row.cell.scenario.clone(),
                schedule: f.schedule.clone(),
            }));
        }
        out.extend(Heat::new(guest, scheme, &cases).filter(|_| !cases.coverage.is_empty()));
    }
    out
}

/// Everything: each row's failure with the best witness is run once more, and told.
pub fn pictures(results: &Results, guest: &Arc<Guest>, host: &Host) -> Pictures {
    let mut out = Pictures { heat: heat(results, guest), ..Pictures::default() };
    let mut steps = 0;
    for (number, row) in results.rows().iter().enumerate() {
        let Some(worst) = row.tally.worst().filter(|f| f.kind.verdict != Word::HostLimit) else { continue };
        let line = Replay {
            scheme: row.cell.scheme.clone(),
            scenario: row.cell.scenario.clone(),
            mode: row.cell.mode,
            image: results.header.image.clone(),
            knobs: results.header.knobs(),
            schedule: worst.schedule.clone(),
        };
        // The verdict stands without its story.
        let story = match told(&line, guest, host) {
            Ok(story) => story.near_events(AROUND, MOST_OF_ONE),
            Err(why) => {
                log::warn!("{line}: its story cannot be told: {why}");
                continue;
            }
        };
        steps += story.steps.len();
        if steps > MOST_STEPS {
            break;
        }
        out.stories.insert(number, story);
    }
    out
}

fn told(line: &Replay, guest: &Arc<Guest>, host: &Host) -> Result<Story, Failure> {
    let target = Target::find(&guest.image.declared, &line.scheme, &line.scenario, Some(line.mode))?;
    let schedule = Schedule::parse(&line.schedule, Names::new(guest, &target.scheme.prefix))?;
    let mut session = Session::new(host, guest, &target.scheme, &target.scenario, line.knobs)?;
    story_of(&mut session, &schedule, line)
}
