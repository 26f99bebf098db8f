//! Instructions in the form that the model executes: an operation and operands, with all that
//! an encoding says taken apart once.

mod cache;
mod lift;
mod op;

pub(super) use cache::{Cache, Code, decode};
pub use op::Condition;
pub(super) use op::{Address, Alu, Base, Bit, Decoded, Op, Operand, Rep, Shift, Str, TableOp};
