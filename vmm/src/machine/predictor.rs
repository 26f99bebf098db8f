//! The model of the CPU as a machine holds it, with an account of what it has seen.

use std::ops::Range;

use crate::cpu::{self, Access, LazyId, Model, NotUnderstood, Traced};

/// Who executes instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// KVM executes them.
    #[default]
    Kvm,
    /// The model of the CPU.
    Model,
}

/// What was accessed since it was last asked for.
#[derive(Debug, Default)]
pub struct Accesses {
    /// Every access, in the order they were made.
    pub list: Vec<Access>,
    /// Where something was read that is not in the list: everything may have been.
    pub all: bool,
}

impl Accesses {
    /// Forgets them.
    pub fn clear(&mut self) {
        self.list.clear();
        self.all = false;
    }
}

/// An instruction that the model does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its address.
    pub at: u64,
    /// What the model does not know about it.
    pub why: NotUnderstood,
}

/// The model, and what it has seen.
#[derive(Debug, Default)]
pub(super) struct Predictor {
    pub engine: Engine,
    pub model: Model,
    pub read_only: Vec<Range<u64>>,
    pub accesses: Accesses,
    /// Instructions that were not understood, each once, in the order they were met.
    pub unknown: Vec<Unknown>,
    /// The lowest address of a handler that was entered with RFLAGS.AC cleared, as this host does.
    pub cleared_ac: Option<u64>,
    /// Instructions that the model executed.
    pub steps: u64,
    /// Where values come from, while that is followed.
    pub trace: Option<Box<Traced>>,
    /// The lazy state that was looked up last.
    pub lazy: (LazyId, std::sync::Arc<cpu::Lazy>),
}

impl Predictor {
    /// For a machine of `ram` bytes of which only `writable` can be written.
    pub fn new(knobs: cpu::Knobs, ram: u64, writable: &[Range<u64>]) -> Self {
        let starts = std::iter::once(0).chain(writable.iter().map(|r| r.end));
        let ends = writable.iter().map(|r| r.start).chain([ram]);
        let read_only = starts.zip(ends).map(|(start, end)| start..end).filter(|r| !r.is_empty()).collect();
        Self { model: Model::new(knobs), read_only, ..Self::default() }
    }
}
