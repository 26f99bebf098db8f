//! A run, explained: its story in about ten lines.

use std::io::{self, Write};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Mood, Page, story};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::story::{Kind, Story};
use crate::host_id::HostId;

/// What `vmm explain` says.
pub struct Explained {
    /// Where it was run.
    pub host: HostId,
    /// The guest image's hash.
    pub image: String,
    /// The run.
    pub story: Story,
}

impl Report for Explained {
    fn text(&self, look: &Look) -> String {
        let ink = match self.story.verdict {
            "pass" => Ink::Good,
            "host-limit" => Ink::Warn,
            _ => Ink::Bad,
        };
        let text = self.story.text();
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        format!("{}\n{rest}", paint(look, ink, head))
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        let story = &self.story;
        let event = |(step, note): (&super::story::Step, &super::story::Note)| serde_json::json!({ "number": step.n, "at": step.at, "kind": note.kind, "what": note.text });
        let events: Vec<_> = story.notes().filter(|(_, note)| note.kind != Kind::End).map(event).collect();
        let value = serde_json::json!({
            "host": self.host, "image": self.image, "scheme": story.scheme, "scenario": story.scenario,
            "mode": story.mode, "verdict": story.verdict, "invariant": story.rule, "replay": story.replay,
            "events": events, "ending": story.ending,
        });
        pretty(&value, to)
    }

    fn suite(&self) -> Option<Suite> {
        let story = &self.story;
        let outcome = match story.verdict {
            "pass" => Outcome::Passed,
            "host-limit" => Outcome::Skipped(story.ending.clone()),
            verdict => Outcome::Failed {
                message: format!("{verdict} instead of pass"),
                lines: vec![story.ending.clone(), story.command()],
            },
        };
        Some(Suite {
            name: "vmm explain".into(),
            properties: vec![("host", self.host.to_string()), ("image", self.image.clone())],
            tests: vec![Test {
                class: story.scheme.clone(),
                name: format!("{} ({})", story.scenario, story.mode),
                outcome,
            }],
        })
    }

    fn page(&self) -> Option<Page> {
        let told = &self.story;
        Some(Page {
            title: format!("{} / {} / {}", told.scheme, told.scenario, told.mode),
            lead: format!("verdict: {}", told.verdict),
            mood: if told.verdict == "pass" { Mood::Good } else { Mood::Bad },
            facts: vec![("host", self.host.to_string()), ("image", self.image.clone())],
            parts: vec![story(0, told)],
        })
    }
}
