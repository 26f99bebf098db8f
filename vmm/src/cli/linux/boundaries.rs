//! `vmm list boundaries --kernel`: the NMI entry path as it is live in memory.

use std::collections::HashMap;

use super::header;
use super::kernel::KernelArgs;
use crate::cli::boot::Plan;
use crate::cli::failure::Failure;
use crate::cli::interrupt::on_interrupt;
use crate::cli::opened::Opened;
use crate::cli::out::Out;
use crate::cli::output::Outputs;
use crate::inject::{Event, Kind};
use crate::kernels::{Document, Lab, Visit};
use crate::report::{Look, Report, columns, plain, write_json};

/// Lists the entry code's boundaries, with the visits of one NMI's path; or those of a
/// schedule's path, whatever code they are in.
pub fn boundaries(
    kernel: &KernelArgs,
    path: Option<&str>,
    outputs: &Outputs,
    opened: Opened,
    out: &mut Out,
) -> Result<(), Failure> {
    let stop = on_interrupt();
    let plan = Plan { schedule: path.map(str::to_owned), mutations: vec![kernel.mutate.clone()], ..Plan::default() };
    let booted = kernel.boot(&plan, opened, &stop)?;
    let mut lab = booted.lab;
    let events = match path {
        Some(text) => lab.schedule(text)?.0,
        None => vec![Event { kind: Kind::Nmi, at: lab.start() }],
    };
    let walked = lab.walk(&events)?;
    let mut visits = HashMap::<u64, Vec<&Visit>>::new();
    walked.visits.iter().for_each(|v| visits.entry(v.at.addr).or_default().push(v));
    let all: Vec<u64> = match path {
        None => lab.path().boundaries.iter().map(|b| b.addr).collect(),
        Some(_) => {
            let mut seen = std::collections::HashSet::new();
            walked.visits.iter().map(|v| v.at.addr).filter(|a| seen.insert(*a)).collect()
        }
    };
    let rows: Vec<Row> = all.iter().map(|addr| Row::of(*addr, visits.get(addr), &lab)).collect();
    let schedule = lab.show_schedule(&events);
    let document = Document::new(booted.info, &lab);
    outputs.write(&Boundaries { document, path: schedule, rows }, out)
}

/// The boundaries of a kernel's path.
struct Boundaries {
    document: Document,
    path: String,
    rows: Vec<Row>,
}

impl Report for Boundaries {
    fn text(&self, _: &Look) -> String {
        let lines = self.rows.iter().map(|r| {
            let visits = match r.visits {
                0 => String::new(),
                1 => "#1".into(),
                n => format!("#1..#{n}"),
            };
            let place = plain(&r.place).into_owned();
            [r.address.clone(), place, visits, r.masked.to_owned(), r.frame.to_owned(), r.instruction.clone()]
        });
        format!(
            "{}\n\n{}\nVISITS, NMIS and FRAME are those of {}: see vmm list boundaries --help\n",
            header(&self.document),
            columns(["ADDRESS", "BOUNDARY", "VISITS", "NMIS", "FRAME", "INSTRUCTION"], lines),
            plain(&self.path)
        )
    }

    fn json(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        let d = &self.document;
        let value = serde_json::json!({
            "host": d.host, "kernel": d.kernel, "assists": d.assists, "path": self.path, "boundaries": self.rows,
        });
        write_json(&value, to)
    }
}

#[derive(serde::Serialize)]
struct Row {
    address: String,
    place: String,
    visits: usize,
    masked: &'static str,
    frame: &'static str,
    instruction: String,
}

impl Row {
    fn of(addr: u64, visits: Option<&Vec<&Visit>>, lab: &Lab) -> Self {
        let visits = visits.map_or(&[][..], Vec::as_slice);
        let blocked = visits.iter().filter(|v| v.blocked).count();
        let masked = match blocked {
            _ if visits.is_empty() => "",
            0 => "open",
            n if n == visits.len() => "masked",
            _ => "both",
        };
        let frame = match () {
            () if visits.iter().any(|v| v.frame_read_at.is_some()) => "needed",
            () if visits.iter().any(|v| v.save_read_at.is_some()) => "save",
            () => "",
        };
        let instruction = lab.pc().instruction(addr).map_or(String::new(), |d| d.text().replace('\t', " "));
        Self { address: format!("{addr:#x}"), place: lab.show(addr), visits: visits.len(), masked, frame, instruction }
    }
}
