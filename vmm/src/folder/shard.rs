//! `--shard I/N`: every N-th unit of work, beginning with number I.

use std::fmt;
use std::str::FromStr;

/// A part of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u64,
    of: u64,
}

impl Shard {
    /// The whole.
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };

    /// Its number, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many there are.
    pub fn of(&self) -> u64 {
        self.of
    }

    /// Whether a unit of work belongs to it.
    pub fn has(&self, unit: u64) -> bool {
        unit % self.of == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.parse::<u64>().ok();
        let (index, of) = text
            .split_once('/')
            .and_then(|(i, n)| Some((number(i)?, number(n)?)))
            .ok_or_else(|| "a shard is written I/N, as in 0/4".to_owned())?;
        if index >= of {
            return Err(format!("of {of} shards there are numbers 0 to {}", of.saturating_sub(1)));
        }
        Ok(Self { index, of })
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_one_shard() {
        let shards: Vec<Shard> = (0..3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        for unit in 0..30 {
            assert_eq!(shards.iter().filter(|s| s.has(unit)).count(), 1);
        }
        for text in ["", "1", "3/3", "0/0", "-1/3", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
