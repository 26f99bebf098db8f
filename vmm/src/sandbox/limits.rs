//! Limits of resources.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::Error;

/// No core dumps, which would hold a guest's memory, and no raising of the number of descriptors.
pub(super) fn lower() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Error::Limit)?;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::Limit)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, soft).map_err(Error::Limit)
}
