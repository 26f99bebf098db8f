//! A small slab: eight objects of 64 bytes, the free ones linked through their
//! first word.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words in an object.
pub const WORDS: usize = 8;
const OBJECTS: usize = 8;

/// A piece of the slab. While it is allocated, all of it is the owner's.
#[repr(C, align(64))]
pub struct Object([AtomicU64; WORDS]);

impl Object {
    /// Address of its first word.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// Reads word `index`.
    pub fn get(&self, index: usize) -> u64 {
        self.0[index].load(Relaxed)
    }

    /// Writes word `index`.
    pub fn set(&self, index: usize, value: u64) {
        self.0[index].store(value, Relaxed);
    }
}

static SLAB: [Object; OBJECTS] = [const { Object([const { AtomicU64::new(0) }; WORDS]) }; OBJECTS];
/// Number of the first free object; `OBJECTS` where there is none. A free
/// object's first word is the number of the next.
static FREE: AtomicU64 = AtomicU64::new(0);

/// Links all objects.
pub fn init() {
    for (i, object) in SLAB.iter().enumerate() {
        object.set(0, i as u64 + 1);
    }
}

/// Takes an object, whose words hold anything.
pub fn allocate() -> &'static Object {
    let first = FREE.load(Relaxed);
    let Some(object) = SLAB.get(first as usize) else { panic!("the slab is exhausted") };
    FREE.store(object.get(0), Relaxed);
    object
}

/// Gives an object back.
pub fn free(object: &'static Object) {
    let number = (object.address() - SLAB[0].address()) / size_of::<Object>() as u64;
    object.set(0, FREE.load(Relaxed));
    FREE.store(number, Relaxed);
}
