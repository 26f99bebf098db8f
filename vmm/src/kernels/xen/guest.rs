//! The lab's paravirtual guest (guest/xen-pv): the file, its checksum, and the bodies that its NMI
//! callback can have.

use super::dom0::Dom0;
use crate::kernels::kernel::Alive;
use crate::kernels::pc::{Error, KernelSymbols, Module, Program};

/// The guest's ELF file.
pub static ELF: &[u8] = include_bytes!(env!("XEN_PV_ELF"));

/// What the guest's NMI callback does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// Nothing but count.
    #[default]
    Nothing,
    /// It takes a #UD, whose handler returns by HYPERVISOR_iret.
    Ud,
    /// The same; the handler returns with the flag of `scripts/xen/iret-flag.patch`, which says that NMIs
    /// stay masked, and which an unpatched Xen does not look at.
    UdFlag,
    /// It takes a page fault, whose handler returns by HYPERVISOR_iret.
    PageFault,
    /// It makes hypercalls.
    Hypercalls,
}

impl Body {
    /// All, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("nothing", Self::Nothing),
        ("ud", Self::Ud),
        ("ud-flag", Self::UdFlag),
        ("page-fault", Self::PageFault),
        ("hypercalls", Self::Hypercalls),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, body)| *body == self).map_or("", |(name, _)| name)
    }

    /// What `pv_variant` holds for it.
    fn number(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Ud | Self::UdFlag => 1,
            Self::PageFault => 2,
            Self::Hypercalls => 3,
        }
    }

    /// What `pv_flags` holds for it: the flags of returns from the body's fault.
    fn flags(self) -> u64 {
        const NMI_MASKED: u64 = 1 << 9; // VGCF_nmi_masked
        if self == Self::UdFlag { NMI_MASKED } else { 0 }
    }
}

impl Dom0 {
    /// The lab's own guest, whose NMI callback does this.
    pub fn own(body: Body) -> Result<Self, Error> {
        let nameless = || Error::Symbols("the lab's own guest has none: this program was built without them".into());
        let symbols = KernelSymbols::of_table(ELF).ok_or_else(nameless)?;
        let at = |name| symbols.get(name).ok_or_else(nameless);
        Ok(Self {
            words: "noapic",
            modules: vec![Module { bytes: ELF.to_vec(), words: "dom0".into() }],
            code: std::iter::once(at("pv_start")?..at("pv_hypercall_page")?).collect(),
            program: Program::own(checksum()),
            alive: Alive::Heartbeat,
            panics: Vec::new(),
            counter: Some(at("pv_nmi_count")?),
            nested: Some(at("pv_nested")?),
            depth: Some(at("pv_depth")?),
            site: None,
            settle: None,
            complaint: None,
            choices: vec![
                ("the guest's choice of a body", at("pv_variant")?, body.number().to_le_bytes().to_vec()),
                ("the flags of its returns", at("pv_flags")?, body.flags().to_le_bytes().to_vec()),
            ],
            symbols,
        })
    }
}

/// What the guest writes to its heartbeat's port, each time.
fn checksum() -> u32 {
    let mut a = 0u64;
    for _ in 0..64 {
        a = (a.wrapping_add(0x1111) ^ 0x2222).rotate_left(3);
        a = (a.wrapping_add(0x3333) ^ 0x4444).wrapping_add(0x5555) ^ 0x6666;
        a = (a.wrapping_add(0x7777) ^ 0x8888).rotate_left(5);
        a = (a.wrapping_add(0x9999) ^ 0xaaaa).wrapping_add(0xbbbb);
    }
    a = (a ^ 0x6666).rotate_left(7); // in its user code
    (a >> 32) as u32 ^ a as u32
}
