//! One schedule, judged.

use std::io::{self, Write};

use super::document::{Document, Row, Summary};
use super::fold::{Fold, Level};
use super::format::{Look, Report, Suite};
use super::html::{Mood, Page, story};
use super::paint::{Ink, paint};
use super::plain::plain;
use super::story::{Story, sentence};
use super::trace::{Step, header};
use crate::campaign::Disagreement;
use crate::host_id::HostId;
use crate::inject::Replay;
use crate::oracle::Verdict;

/// What `vmm run` and `vmm replay` found.
pub struct Run {
    /// Where it was run.
    pub host: HostId,
    /// What was run.
    pub line: Replay,
    /// What came of it, in the first gear.
    pub verdict: Verdict,
    /// In how many gears it was run.
    pub gears: usize,
    /// What came of it in all of them, where they do not agree.
    pub disagreement: Option<Disagreement>,
    /// What of the run is shown step by step, where that was asked for.
    pub trace: Option<(Level, Vec<Step>)>,
    /// What happened, told step by step, where that was asked for.
    pub story: Option<Story>,
    /// The image has source lines.
    pub source: bool,
}

impl Run {
    fn document(&self) -> Document {
        let disagreements = self.disagreement.iter().cloned().collect();
        let rows = vec![Row::of_run(&self.line, &self.verdict, self.gears, disagreements)];
        Document {
            host: self.host.clone(),
            image: self.line.image.clone(),
            campaign: None,
            complete: true,
            units: None,
            part: None,
            summary: Summary::of(&rows),
            rows,
            timings: None,
            trace: self.trace.as_ref().map(|(level, steps)| level.filtered(steps)),
            pictures: Default::default(),
        }
    }
}

/// The result in words, without the trace.
pub fn judgement(run: &Run, look: &Look) -> String {
    let line = &run.line;
    let schedule = if line.schedule.is_empty() { "(none: the golden run)" } else { &line.schedule };
    let mut text = format!("{} / {} / {}\n", plain(&line.scheme), plain(&line.scenario), line.mode);
    let verdict = paint(look, Ink::of(&run.verdict), &plain(&run.verdict.to_string()));
    text += &format!("schedule  {}\nverdict   {verdict}\n", plain(schedule));
    if !run.verdict.is_pass() {
        text += &format!("          {}\n", plain(&sentence(&run.verdict)));
        text += &format!("replay    vmm replay '{}'\n", plain(&line.to_string()));
    }
    if let Some(d) = &run.disagreement {
        text += "the gears disagree, which is a defect of vmm:\n";
        for (gear, verdict) in &d.verdicts {
            text += &format!("  {gear:5} {}\n", plain(verdict));
        }
    }
    text
}

impl Report for Run {
    fn text(&self, look: &Look) -> String {
        let Some((level, steps)) = &self.trace else { return judgement(self, look) };
        let mut fold = Fold::new(*level, *look);
        let mut lines: Vec<String> = vec![header(self.source)];
        steps.iter().for_each(|step| lines.extend(fold.lines(step)));
        lines.extend(fold.rest());
        lines.join("\n") + "\n\n" + &judgement(self, look)
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        self.document().json(to)
    }

    fn suite(&self) -> Option<Suite> {
        self.document().suite()
    }

    fn page(&self) -> Option<Page> {
        let line = &self.line;
        let parts = self.story.iter().map(|s| story(0, s)).collect();
        Some(Page {
            title: format!("{} / {} / {}", line.scheme, line.scenario, line.mode),
            lead: format!("verdict: {}", self.verdict),
            mood: if self.verdict.is_pass() { Mood::Good } else { Mood::Bad },
            facts: vec![
                ("schedule", line.schedule.clone()),
                ("host", self.host.to_string()),
                ("image", line.image.clone()),
            ],
            parts,
        })
    }
}
