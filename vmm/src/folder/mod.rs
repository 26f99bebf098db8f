//! Result folders, and the threads that fill them: what campaigns of every sort share.
//!
//! Work is divided into units, numbered densely and without regard to the machine. They are shared
//! out to threads, and by `--shard` to machines; their results can be put together in any order.

mod disk;
mod error;
mod fill;
mod pool;
mod records;
mod shard;
mod store;

pub use disk::{Disk, Output, Real};
pub use error::Error;
pub use fill::{Filled, Options, Step, Watcher, fill};
pub use pool::{Ended, Queue};
pub use shard::Shard;
pub use store::{Merged, kind, merge, write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Stands for the program's hash where its file cannot be read: such results are like no others.
const UNREADABLE: &str = "unreadable";

/// What a folder's results are about: the header of its files.
pub trait Subject: Clone + Serialize + DeserializeOwned {
    /// A word for results of this sort, which the header has as `kind`.
    const KIND: &'static str;
    /// Version of the format.
    const FORMAT: u32;

    /// The part of the units that is run.
    fn shard(&self) -> Shard;

    /// The same, to change it.
    fn shard_mut(&mut self) -> &mut Shard;

    /// How many units all shards have together.
    fn units(&self) -> u64;

    /// The header's last field: the checksum of all the others.
    fn checksum_mut(&mut self) -> &mut String;

    /// Whether it can be what the program wrote, as far as sums over its units cannot overflow.
    fn is_plausible(&self) -> bool;

    /// What of it is not as in `other`, in words; `None` where results of both can be put
    /// together, and a run of one be resumed as the other. The shard may differ.
    fn difference(&self, other: &Self) -> Option<String>;

    /// Whether the same is expected of the results.
    fn expects_as(&self, other: &Self) -> bool;
}

/// What came of one unit.
pub trait Record: Clone + PartialEq + Serialize + DeserializeOwned {
    /// Whether it can have been counted, and sums of such cannot overflow.
    fn is_plausible(&self) -> bool;
}

/// The version, and a hash of the program's file: what was judged by another oracle is
/// not mixed with what is judged by this one.
pub fn program() -> String {
    let hash = std::env::current_exe().and_then(std::fs::read).map(|bytes| xxhash_rust::xxh3::xxh3_64(&bytes));
    let hash = hash.map_or_else(|_| UNREADABLE.to_owned(), |hash| format!("{hash:016x}"));
    format!("{} {hash}", env!("CARGO_PKG_VERSION"))
}

/// What of two such programs differs, in words.
pub fn other_program(one: &str, other: &str) -> Option<String> {
    match one == other {
        false => Some(format!("program {one}, and not of {other}")),
        true => one.ends_with(UNREADABLE).then(|| "a program whose file could not be read".into()),
    }
}

#[cfg(test)]
mod example {
    use serde::{Deserialize, Serialize};

    use super::{Record, Shard, Subject};

    /// A small header.
    #[derive(Clone, Serialize, Deserialize)]
    pub struct Header {
        kind: String,
        format: u32,
        about: String,
        shard: Shard,
        checksum: String,
    }

    impl Header {
        pub fn new() -> Self {
            let about = "\"checksum\": \"0000000000000000\" is what a name may hold".into();
            Self { kind: Self::KIND.into(), format: Self::FORMAT, about, shard: Shard::WHOLE, checksum: String::new() }
        }
    }

    impl Subject for Header {
        const KIND: &'static str = "example";
        const FORMAT: u32 = 3;

        fn shard(&self) -> Shard {
            self.shard
        }

        fn shard_mut(&mut self) -> &mut Shard {
            &mut self.shard
        }

        fn units(&self) -> u64 {
            6
        }

        fn checksum_mut(&mut self) -> &mut String {
            &mut self.checksum
        }

        fn is_plausible(&self) -> bool {
            true
        }

        fn difference(&self, other: &Self) -> Option<String> {
            (self.about != other.about).then(|| "another example".into())
        }

        fn expects_as(&self, _: &Self) -> bool {
            true
        }
    }

    /// A small record.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    pub struct Cases {
        pub cases: u64,
    }

    impl Record for Cases {
        fn is_plausible(&self) -> bool {
            self.cases < 1000
        }
    }
}
