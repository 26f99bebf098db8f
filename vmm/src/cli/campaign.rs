//! stub
use super::{Ending, Failure, args, out::Out};
pub fn campaign(_: &args::Campaign, _: &std::sync::Arc<crate::machine::Guest>, _: &mut Out) -> Result<Ending, Failure> {
    todo!()
}
pub fn merge(_: &args::Merge, _: &mut Out) -> Result<Ending, Failure> {
    todo!()
}
