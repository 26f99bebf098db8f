//! The machine put into a state of the search, and a state taken from it.

use std::rc::Rc;

use super::bytes::PAGE;
use super::counters::Counters;
use super::nmi_stack::{Dead, NmiStack};
use super::state::{Deep, Faults, Ghost, Page, State};
use crate::kernels::error::LabError;
use crate::kernels::fault_by::Away;
use crate::kernels::pc::{Pc, Snapshot};

/// What the machine's memory holds now, as far as it is not what the snapshot has.
pub struct Store {
    pages: Vec<(u64, Rc<Page>)>,
    deep: Rc<Deep>,
    dirty: Vec<u64>,
    counters: Counters,
    stack: NmiStack,
}

impl Store {
    /// Of a machine that was just put back to the snapshot.
    pub fn new(pc: &Pc, counters: Counters, stack: NmiStack) -> Result<Self, LabError> {
        Ok(Self { pages: Vec::new(), deep: Rc::new(deep(pc)?), dirty: Vec::new(), counters, stack })
    }

    /// Puts the machine into a state.
    pub fn load(&mut self, pc: &mut Pc, snapshot: &Snapshot, state: &State) -> Result<(), LabError> {
        self.dirty.clear();
        pc.take_dirty_pages(&mut self.dirty)?;
        for at in self.dirty.iter().chain(self.pages.iter().map(|(at, _)| at)) {
            if find(&state.pages, *at).is_none() {
                pc.set_page(*at, snapshot.page(*at));
            }
        }
        for (at, page) in &state.pages {
            let same = find(&self.pages, *at).is_some_and(|now| Rc::ptr_eq(now, page));
            if !same || self.dirty.contains(at) {
                pc.set_page(*at, &page.bytes[..]);
            }
        }
        self.pages.clone_from(&state.pages);
        if !Rc::ptr_eq(&self.deep, &state.deep) {
            pc.load_deep(&state.deep.state)?;
            self.deep = Rc::clone(&state.deep);
        }
        *pc.state_mut() = state.vcpu;
        pc.set_breakpoints(state.faults.breakpoints);
        Ok(())
    }

    /// The state that the machine is in, on these detours. `deep` says whether the last instruction may
    /// have changed more than registers and memory.
    pub fn capture(
        &mut self,
        pc: &mut Pc,
        snapshot: &Snapshot,
        ghost: Ghost,
        away: &[Away],
        deep_changed: bool,
    ) -> Result<State, LabError> {
        self.dirty.clear();
        pc.take_dirty_pages(&mut self.dirty)?;
        for at in &self.dirty {
            let now = pc.page(*at);
            let place = self.pages.binary_search_by_key(at, |(at, _)| *at);
            match place {
                _ if now == snapshot.page(*at) => {
                    if let Ok(i) = place {
                        self.pages.remove(i);
                    }
                }
                Ok(i) if self.pages[i].1.bytes[..] == *now => {}
                Ok(i) => self.pages[i].1 = Rc::new(page(*at, now, &self.counters, &self.stack)),
                Err(i) => self.pages.insert(i, (*at, Rc::new(page(*at, now, &self.counters, &self.stack)))),
            }
        }
        if deep_changed {
            let now = deep(pc)?;
            if now.values != self.deep.values {
                self.deep = Rc::new(now);
            }
        }
        let faults = Faults { away: away.to_vec(), breakpoints: pc.breakpoints() };
        Ok(State { vcpu: *pc.state(), deep: Rc::clone(&self.deep), pages: self.pages.clone(), ghost, faults })
    }

    /// Puts the machine back to the snapshot, devices and clocks included.
    pub fn go_home(&mut self, pc: &mut Pc, snapshot: &mut Snapshot) -> Result<(), LabError> {
        for (at, _) in std::mem::take(&mut self.pages) {
            pc.set_page(at, snapshot.page(at));
        }
        pc.restore(snapshot)?;
        self.deep = Rc::new(deep(pc)?);
        Ok(())
    }
}

fn find(pages: &[(u64, Rc<Page>)], at: u64) -> Option<&Rc<Page>> {
    pages.binary_search_by_key(&at, |(at, _)| *at).ok().map(|i| &pages[i].1)
}

fn page(at: u64, now: &[u8], counters: &Counters, stack: &NmiStack) -> Page {
    let mut bytes = Box::new([0; PAGE]);
    bytes.copy_from_slice(now);
    let mut left = *bytes;
    counters.in_page(at).for_each(|word| left[word].fill(0));
    let whole = xxhash_rust::xxh3::xxh3_128(&left);
    let hashes = [Dead::Nothing, Dead::Frame, Dead::Stack].map(|dead| {
        let mut kept = left;
        if stack.blank(dead, at, &mut kept) { xxhash_rust::xxh3::xxh3_128(&kept) } else { whole }
    });
    Page { hashes, bytes }
}

/// What the vCPU holds beyond registers and events, without the time-stamp counter, which is
/// the lab's.
fn deep(pc: &Pc) -> Result<Deep, LabError> {
    let (values, state) = pc.deep_without_clock()?;
    Ok(Deep { values, state })
}
