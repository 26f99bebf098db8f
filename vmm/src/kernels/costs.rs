//! What an NMI costs a kernel, in instructions: of each stretch between two changes of privilege, with
//! how many of them NMIs are blocked.

use serde::Serialize;

use super::error::LabError;
use super::lab::Lab;
use super::path::Visit;
use super::pc::Assists;
use super::row::KernelInfo;
use crate::host_id::HostId;
use crate::image::Flow;
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
    /// Whether a SYSCALL led here: of a hypervisor, a hypercall.
    pub called: bool,
    /// How many there are.
    pub instructions: usize,
    /// Of these, how many begin with NMIs blocked.
    pub blocked: usize,
}

/// Counts what one NMI at the lab's site costs.
pub fn costs(lab: &mut Lab, kernel: KernelInfo) -> Result<Costs, LabError> {
    let path = lab.walk(&[Event { kind: Kind::Nmi, at: lab.start() }])?;
    let mut called = false;
    let stretch = |visits: &[Visit]| {
        let (first, last) = (&visits[0], &visits[visits.len() - 1]);
        let calls = lab.pc().instruction(last.at.addr).is_some_and(|d| d.flow == Flow::Syscall);
        Stretch {
            from: lab.show(first.at.addr),
            to: lab.show(last.at.addr),
            user: first.user,
            called: std::mem::replace(&mut called, calls && first.user),
            instructions: visits.len(),
            blocked: visits.iter().filter(|v| v.blocked).count(),
        }
    };
    let stretches: Vec<Stretch> = path.visits.chunk_by(|a, b| a.user == b.user).map(stretch).collect();
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
    /// Instructions of the kernel's own, at CPL 0.
    pub fn in_kernel(&self) -> usize {
        self.stretches.iter().filter(|s| !s.user).map(|s| s.instructions).sum()
    }

    /// How often the kernel is entered: by the NMI, by faults and by SYSCALLs.
    pub fn entries(&self) -> usize {
        self.stretches.iter().filter(|s| !s.user).count()
    }

    /// The instructions of the last call, by which an NMI's handler at CPL 3 leaves.
    pub fn last_call(&self) -> Option<usize> {
        self.stretches.iter().rev().find(|s| s.called).map(|s| s.instructions)
    }

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
