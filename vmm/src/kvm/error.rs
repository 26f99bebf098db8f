//! What can be wrong with a host, in words that a user can act on.

/// Why a host's KVM cannot be used, or failed us.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/dev/kvm` does not exist.
    #[error(
        "no /dev/kvm: this machine's kernel offers no KVM. On hardware, switch on virtualisation in \
         the firmware and load kvm_intel or kvm_amd; in a virtual machine, ask for nested virtualisation; \
         without either, scripts/hosts/svm runs the same command line on an emulated machine"
    )]
    NoDevice,
    /// `/dev/kvm` may not be opened.
    #[error(
        "no permission for /dev/kvm: add yourself to its group (usually `sudo usermod -aG kvm $USER`, \
         then log in again), or run as root"
    )]
    NoPermission,
    /// The kernel speaks another KVM API.
    #[error("this kernel's KVM API is version {0}; version 12 (every kernel since 2.6.22) is needed")]
    ApiVersion(i32),
    /// A capability that the lab cannot do without is missing.
    #[error("this KVM lacks {0}, which the lab cannot do without")]
    MissingCapability(&'static str),
    /// Guest RAM could not be had.
    #[error("could not map {bytes} bytes of guest RAM: {why}")]
    Ram {
        /// Bytes asked for.
        bytes: u64,
        /// What mmap said.
        why: String,
    },
    /// The watchdog over runs of guests could not be started.
    #[error("no watchdog, without which no guest is run: {0}")]
    Watchdog(String),
    /// An ioctl failed.
    #[error("{call}: {errno}")]
    Ioctl {
        /// The ioctl's name.
        call: &'static str,
        /// What it failed with.
        errno: std::io::Error,
    },
}

impl Error {
    /// Wraps the failure of the ioctl `call`.
    pub(super) fn ioctl(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
        move |e| Error::Ioctl { call, errno: std::io::Error::from_raw_os_error(e.errno()) }
    }
}
