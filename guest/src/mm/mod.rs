//! Memory: a direct map and the image, which every root has from its birth, and
//! a vmalloc area whose top-level entries a root may lack.

pub mod early;
pub mod fault;
pub mod layout;
pub mod process;
pub mod reference;
pub mod split;
pub mod table;
pub mod vmalloc;
