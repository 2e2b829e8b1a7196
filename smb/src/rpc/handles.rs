//! Context handles (C706 6.1.6): what a client has opened through its pipe.

use alloc::vec::Vec;

use super::Fault;
use super::ndr::RawHandle;
use super::principals::Domain;

/// Objects that a pipe can have open.
const MAXIMUM: usize = 32;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// The policy of the local security authority.
    Policy,
    /// The account database.
    Accounts,
    /// One of its domains.
    Domain(Domain),
    /// The account with this relative identifier.
    User(u32),
}

/// The open handles of one pipe; those of another are unknown here.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: Vec<(u32, Object)>,
    /// The number of the handle that was opened last: none is used twice.
    last: u32,
}

impl Handles {
    /// A new handle; `None` when there are too many.
    pub fn open(&mut self, object: Object) -> Option<RawHandle> {
        if self.open.len() >= MAXIMUM {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        self.open.push((self.last, object));
        let mut handle = [0; 20];
        if let Some(number) = handle.last_chunk_mut() {
            *number = self.last.to_be_bytes();
        }
        Some(handle)
    }

    fn position(&self, handle: &RawHandle) -> Result<usize, Fault> {
        let (front, number) = handle.split_last_chunk().ok_or(Fault::CONTEXT)?;
        let number = u32::from_be_bytes(*number);
        let found = self.open.iter().position(|(own, _)| *own == number);
        found.filter(|_| front.iter().all(|byte| *byte == 0)).ok_or(Fault::CONTEXT)
    }

    /// What `handle` stands for.
    pub fn find(&self, handle: &RawHandle) -> Result<Object, Fault> {
        let at = self.position(handle)?;
        self.open.get(at).map(|(_, object)| *object).ok_or(Fault::CONTEXT)
    }

    /// Forgets `handle`.
    pub fn close(&mut self, handle: &RawHandle) -> Result<(), Fault> {
        let at = self.position(handle)?;
        self.open.remove(at);
        Ok(())
    }
}
