//! This host's KVM held to the model of the CPU, which does as the SDM says: forms of
//! instructions, each in random machines, run on both.

mod deviations;
mod machine;

use super::facts::DELIVERY_AC;
pub use deviations::{Deviation, explain};
pub use machine::Machine;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cpu::conform::{Form, Random, Scene, Verdict, compare, forms};
use crate::cpu::{Knobs, Model};
use crate::host_id::HostId;
use crate::kvm::{self, Host};

/// Version of the document's form (docs/guide/json.md).
const SCHEMA: u32 = 1;

/// What a host does with the forms of instructions.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this document's form.
    pub schema: u32,
    /// The host.
    pub host: HostId,
    /// Machines that each form was run in, at each CPL.
    pub cases: u64,
    /// By form and CPL, in the model's order.
    pub forms: Vec<FormRow>,
    /// What the host is known to do otherwise, and was seen to.
    pub deviations: Vec<Seen>,
}

/// One form at one CPL: how many of its cases came to what.
#[derive(Clone, Debug, Serialize)]
pub struct FormRow {
    /// The form, by its mnemonic.
    pub form: &'static str,
    /// The CPL that it was executed at.
    pub cpl: u8,
    /// The same state on both.
    pub same: u64,
    /// The model does not say.
    pub not_understood: u64,
    /// This KVM could not run it.
    pub not_run: u64,
    /// Another state, as one of the known deviations has it.
    pub deviates: u64,
    /// Another state, and nothing explains it.
    pub differs: u64,
    /// Why the first one could not be run.
    pub why: Option<String>,
    /// The first one that differs.
    pub example: Option<Example>,
}

/// A known deviation that this host shows.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Its short name.
    pub id: &'static str,
    /// What the host does.
    pub what: &'static str,
    /// Cases that it explains.
    pub cases: u64,
    /// Forms and places that differ in any of them.
    pub places: BTreeSet<String>,
    /// The first of them: its probe. `vmm probe --model --only FORM` runs it again.
    pub example: Example,
}

/// One case that came to another state.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The form.
    pub form: &'static str,
    /// The CPL.
    pub cpl: u8,
    /// The number of the machine that it was run in.
    pub case: u64,
    /// The instruction's bytes.
    pub code: String,
    /// Each place that differs: what it holds by the model, and on the host.
    pub places: Vec<String>,
}

/// Runs `cases` machines of each form at each CPL, of those that `chosen` holds for.
pub fn measure(host: &Host, cases: u64, chosen: impl Fn(&str) -> bool) -> Result<Report, kvm::Error> {
    let mut machine = Machine::new(host)?;
    let mut model = Model::default();
    let mut like_host = Model::new(knobs(host));
    let mut report = Report { schema: SCHEMA, host: host.id().clone(), cases, forms: vec![], deviations: vec![] };
    for (number, form) in (0u64..).zip(forms()).filter(|(_, form)| chosen(form.name)) {
        for cpl in form.cpls() {
            let mut row = FormRow::new(form.name, cpl);
            for case in 0..cases {
                let scene = scene(&form, number, cpl, case);
                let verdict = compare(&mut model, &scene, |scene| machine.run(scene));
                let why = match &verdict {
                    Verdict::Differs(places) => match compare(&mut like_host, &scene, |scene| machine.run(scene)) {
                        Verdict::Same => Some((DELIVERY_AC, "each delivery clears AC in its handler")),
                        Verdict::Differs(others) => explain(form.name, cpl, &others).map(|d| (d.id, d.what)),
                        Verdict::NotUnderstood(_) | Verdict::Failed(_) => {
                            explain(form.name, cpl, places).map(|d| (d.id, d.what))
                        }
                    },
                    _ => None,
                };
                report.count(&mut row, verdict, why, case, &scene);
            }
            report.forms.push(row);
        }
    }
    Ok(report)
}

/// What the model is made to predict of this host, by what probes answer.
pub fn knobs(host: &Host) -> Knobs {
    let answer = super::probe(DELIVERY_AC).and_then(|probe| (probe.measure)(host).ok());
    Knobs { delivery_clears_ac: answer.is_some_and(|a| a.text == super::flags::CLEARED), ..Knobs::default() }
}

/// The machine of this number. `form` is the one of number `number` among all forms.
pub fn scene(form: &Form, number: u64, cpl: u8, case: u64) -> Scene {
    Scene::new(form, cpl, &mut Random::new(number << 32 | u64::from(cpl) << 24 | case))
}

/// A known deviation: its name, and what the host does.
type Known = (&'static str, &'static str);

impl FormRow {
    fn new(form: &'static str, cpl: u8) -> Self {
        let (why, example) = (None, None);
        Self { form, cpl, same: 0, not_understood: 0, not_run: 0, deviates: 0, differs: 0, why, example }
    }
}

impl Report {
    /// `why` is the known deviation that explains all differences: its name, and what the host does.
    fn count(&mut self, row: &mut FormRow, verdict: Verdict, why: Option<Known>, case: u64, scene: &Scene) {
        let (form, cpl) = (row.form, row.cpl);
        let example = |places| {
            let code = scene.code.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
            Example { form, cpl, case, code, places }
        };
        match verdict {
            Verdict::Same => row.same += 1,
            Verdict::NotUnderstood(_) => row.not_understood += 1,
            Verdict::Failed(why) => {
                row.not_run += 1;
                row.why.get_or_insert(why);
            }
            Verdict::Differs(places) => match why {
                Some((id, what)) => {
                    row.deviates += 1;
                    let name =
                        |line: &String| format!("{form}: {}", line.split([':', '(']).next().unwrap_or("").trim());
                    let names: Vec<String> = places.iter().map(name).collect();
                    let at = self.deviations.iter().position(|seen| seen.id == id).unwrap_or_else(|| {
                        let example = example(places);
                        self.deviations.push(Seen { id, what, cases: 0, places: BTreeSet::new(), example });
                        self.deviations.len() - 1
                    });
                    self.deviations[at].cases += 1;
                    self.deviations[at].places.extend(names);
                }
                None => {
                    row.differs += 1;
                    row.example.get_or_insert_with(|| example(places));
                }
            },
        }
    }

    /// The sum of a count over all forms.
    pub fn sum(&self, of: impl Fn(&FormRow) -> u64) -> u64 {
        self.forms.iter().map(of).sum()
    }

    /// Whether any case differs and nothing explains it.
    pub fn is_explained(&self) -> bool {
        self.sum(|row| row.differs) == 0
    }
}
