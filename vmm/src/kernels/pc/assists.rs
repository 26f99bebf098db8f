//! What help a host needed, and whether it needs it.

/// Whether, and how often, the host needed help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Assists {
    /// int3 executed for it.
    pub int3: u64,
    /// fwait skipped for it.
    pub fwait: u64,
    /// rdssp skipped for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rdssp: u64,
    /// INT n executed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub int_n: u64,
    /// LSL executed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lsl: u64,
    /// SYSCALL's switch to CPL 0 completed for it.
    pub syscall: u64,
    /// RDGSBASE, WRGSBASE, RDFSBASE and WRFSBASE executed for it.
    pub fsgsbase: u64,
    /// OUT of the user program executed for it.
    pub user_out: u64,
    /// Whether the kernel was given words for this host on its command line.
    pub command_line: bool,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl std::fmt::Display for Assists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::default() {
            return f.write_str("none");
        }
        let words = if self.command_line { "words on the command line, " } else { "" };
        let Self { int3, fwait, syscall, fsgsbase, user_out, .. } = self;
        write!(f, "{words}int3 executed {int3}, fwait skipped {fwait}, SYSCALL completed {syscall}, ")?;
        write!(f, "FSGSBASE executed {fsgsbase}, OUT at CPL 3 executed {user_out} times")?;
        if self.rdssp > 0 {
            write!(f, ", rdssp skipped {}", self.rdssp)?;
        }
        if self.int_n > 0 {
            write!(f, ", int n executed {}", self.int_n)?;
        }
        if self.lsl > 0 {
            write!(f, ", lsl executed {}", self.lsl)?;
        }
        Ok(())
    }
}

/// Whether the CPU does a thing from ring 3 by itself here: SYSCALL arrives at CPL 0, OUT
/// reaches the VMM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Native {
    /// None was seen yet.
    #[default]
    Unknown,
    /// It does so by itself.
    Complete,
    /// It does not, and is completed here.
    Assisted,
}
