//! stub
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{why}")]
    Machine { why: crate::machine::Error },
    #[error("{why}")]
    Write { why: std::io::Error },
}
#[derive(Debug, Clone)]
pub struct Shard;
impl std::str::FromStr for Shard {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Shard)
    }
}
