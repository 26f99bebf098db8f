//! What an NMI costs a kernel, in instructions: of each stretch between two changes of privilege, with
//! how many of them NMIs are blocked.

use serde::Serialize;

use super::error::LabError;
use super::lab::Lab;
use super::pc::Assists;
use super::row::KernelInfo;
use crate::host_id::HostId;
use crate::inject::{Event, Kind};

/// The instructions of one NMI's path, from its delivery until the interrupted code goes on.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Where it was measured.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// Where the NMI arrives.
    pub site: String,
    /// The stretches, in order.
    pub stretches: Vec<Stretch>,
    /// All of them together.
    pub instructions: usize,
    /// Of these, how many begin with NMIs blocked.
    pub blocked: usize,
}

/// Instructions at one privilege level.
#[derive(Clone, Debug, Serialize)]
pub struct Stretch {
    /// The first one's place.
    pub from: String,
    /// The last one's place.
    pub to: String,
    /// Whether they are of CPL 3.
    pub user: bool,
    /// How many there are.
    pub instructions: usize,
    /// Of these, how many begin with NMIs blocked.
    pub blocked: usize,
}

/// Counts what one NMI at the lab's site costs.
pub fn costs(lab: &mut Lab, kernel: KernelInfo) -> Result<Costs, LabError> {
    let path = lab.walk(&[Event { kind: Kind::Nmi, at: lab.start() }])?;
    let visits = path.visits.chunk_by(|a, b| a.user == b.user);
    let stretches: Vec<Stretch> = visits
        .map(|visits| Stretch {
            from: lab.show(visits[0].at.addr),
            to: lab.show(visits[visits.len() - 1].at.addr),
            user: visits[0].user,
            instructions: visits.len(),
            blocked: visits.iter().filter(|v| v.blocked).count(),
        })
        .collect();
    Ok(Costs {
        host: lab.host().clone(),
        kernel,
        assists: lab.pc().assists(),
        site: lab.show(lab.start().addr),
        instructions: path.visits.len(),
        blocked: path.visits.iter().filter(|v| v.blocked).count(),
        stretches,
    })
}

impl Costs {
    /// A row for each stretch, and one for all.
    pub fn rows(&self) -> Vec<[String; 5]> {
        let row = |s: &Stretch| {
            let level = if s.user { "3" } else { "0" };
            [s.from.clone(), s.to.clone(), level.into(), s.instructions.to_string(), s.blocked.to_string()]
        };
        let all = ["all".into(), String::new(), String::new(), self.instructions.to_string(), self.blocked.to_string()];
        self.stretches.iter().map(row).chain([all]).collect()
    }
}
