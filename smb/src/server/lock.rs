//! LOCK (MS-SMB2 3.3.5.14) and byte-range locks (MS-FSA 2.1.4.10, 2.1.5.7, 2.1.5.8).

use super::access::Operation;
use super::dispatch::{Handled, Outcome, Request};
use super::state::{Handle, OpenFile, State, connection_id};
use super::waiting::WaitKind;
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::lock::{self as wire, EXCLUSIVE, Element, FAIL_IMMEDIATELY, SHARED, UNLOCK};
use crate::wire::negotiate::{Dialect, capability};
use alloc::vec;

/// A locked range of a file; the ranges of one file are in a list.
pub(crate) struct LockRange<N> {
    pub handle: Id<Handle<N>>,
    pub offset: u64,
    pub length: u64,
    pub exclusive: bool,
    pub next: Option<Id<LockRange<N>>>,
}

/// Whether two ranges overlap. An empty range lies between bytes: it overlaps what has bytes on both sides of it.
fn overlap(first: (u64, u64), second: (u64, u64)) -> bool {
    // The last byte, since the end may be 2^64.
    let last = |(offset, length): (u64, u64)| offset.saturating_add(length.saturating_sub(1));
    match (first.1, second.1) {
        (0, 0) => false,
        (0, _) => first.0 > second.0 && first.0 <= last(second),
        (_, 0) => second.0 > first.0 && second.0 <= last(first),
        _ => first.0 <= last(second) && second.0 <= last(first),
    }
}

impl<V: Volume> State<V> {
    fn ranges(&self, file: Id<OpenFile<V::Node>>) -> impl Iterator<Item = &LockRange<V::Node>> {
        let mut at = self.files.get(file).and_then(|file| file.locks);
        core::iter::from_fn(move || {
            let range = self.locks.get(at?)?;
            at = range.next;
            Some(range)
        })
    }

    /// Whether `handle` may read the bytes: nobody else has locked them exclusively.
    pub fn may_read(
        &self,
        file: Id<OpenFile<V::Node>>,
        handle: Id<Handle<V::Node>>,
        offset: u64,
        length: u64,
    ) -> bool {
        length == 0
            || self.ranges(file).all(|range| {
                !range.exclusive
                    || range.handle == handle
                    || !overlap((range.offset, range.length), (offset, length))
            })
    }

    /// Whether `handle` may write the bytes: they are in nobody's shared range, its own included, and in no other's
    /// exclusive one.
    pub fn may_write(
        &self,
        file: Id<OpenFile<V::Node>>,
        handle: Id<Handle<V::Node>>,
        offset: u64,
        length: u64,
    ) -> bool {
        // Only its own exclusive range does not keep a handle from writing.
        let own = |range: &LockRange<V::Node>| range.exclusive && range.handle == handle;
        length == 0
            || self
                .ranges(file)
                .all(|range| own(range) || !overlap((range.offset, range.length), (offset, length)))
    }

    /// Adds one range, or says that it conflicts (false).
    fn add_lock(
        &mut self,
        file: Id<OpenFile<V::Node>>,
        handle: Id<Handle<V::Node>>,
        element: &Element,
    ) -> Result<bool, NtStatus> {
        let exclusive = element.flags & EXCLUSIVE != 0;
        let conflict = self.ranges(file).any(|range| {
            let both_shared = !range.exclusive && !exclusive;
            // A shared range may lie on its own handle's exclusive one.
            let stacked = range.exclusive && !exclusive && range.handle == handle;
            !both_shared
                && !stacked
                && overlap((range.offset, range.length), (element.offset, element.length))
        });
        if conflict {
            return Ok(false);
        }
        let next = self.files.get(file).ok_or(NtStatus::FILE_CLOSED)?.locks;
        let range = LockRange { handle, offset: element.offset, length: element.length, exclusive, next };
        let id = self.locks.insert(range).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        if let Some(file) = self.files.get_mut(file) {
            file.locks = Some(id);
        }
        Ok(true)
    }

    /// Removes the first range for which `matches` holds; false when there is none.
    fn remove_lock(
        &mut self,
        file: Id<OpenFile<V::Node>>,
        matches: impl Fn(&LockRange<V::Node>) -> bool,
    ) -> bool {
        let mut before: Option<Id<LockRange<V::Node>>> = None;
        let mut at = self.files.get(file).and_then(|file| file.locks);
        while let Some(id) = at {
            let Some(range) = self.locks.get(id) else { return false };
            let next = range.next;
            if matches(range) {
                match before.and_then(|before| self.locks.get_mut(before)) {
                    Some(before) => before.next = next,
                    None => {
                        if let Some(file) = self.files.get_mut(file) {
                            file.locks = next;
                        }
                    }
                }
                self.locks.remove(id);
                return true;
            }
            before = at;
            at = next;
        }
        false
    }

    /// Removes a handle's range with exactly these bounds, an exclusive one before a shared one.
    fn unlock(
        &mut self,
        file: Id<OpenFile<V::Node>>,
        handle: Id<Handle<V::Node>>,
        element: &Element,
    ) -> bool {
        let same = |range: &LockRange<V::Node>| {
            range.handle == handle && range.offset == element.offset && range.length == element.length
        };
        self.remove_lock(file, |range| same(range) && range.exclusive) || self.remove_lock(file, same)
    }

    /// Removes all ranges of a handle.
    pub fn release_locks(&mut self, file: Id<OpenFile<V::Node>>, handle: Id<Handle<V::Node>>) {
        while self.remove_lock(file, |range| range.handle == handle) {}
    }

    /// Gives waiting requests the ranges that became free, in the order of their coming.
    pub fn retry_locks(&mut self, file: Id<OpenFile<V::Node>>) {
        let mut waiting = self.waiting_where(|waiting| matches!(waiting.kind, WaitKind::Lock(..)));
        waiting.sort_by_key(|id| self.waiting.get(*id).map(|waiting| waiting.number));
        for id in waiting {
            let Some(entry) = self.waiting.get(id) else { continue };
            let Some(handle) = entry.handle else { continue };
            if self.handles.get(handle).is_none_or(|handle| handle.file != file) {
                continue;
            }
            let WaitKind::Lock(element, sequence) = entry.kind else { continue };
            match self.add_lock(file, handle, &element) {
                Ok(false) => {}
                Ok(true) => {
                    self.note_lock_sequence(handle, sequence);
                    self.complete(id, NtStatus::SUCCESS, Some(&|writer| wire::emit(writer)));
                }
                Err(status) => {
                    self.complete(id, status, None);
                }
            }
        }
    }
}

/// LockSequenceIndex and LockSequenceNumber of a request that may be a replay.
#[derive(Clone, Copy)]
pub(crate) struct LockSequence {
    /// From 0 to 63.
    index: u8,
    number: u8,
}

impl LockSequence {
    /// Index 0 and those over 64 are not tracked (2.2.26).
    fn of(field: u32) -> Option<LockSequence> {
        let index = u8::try_from(field >> 4).ok().filter(|index| (1..=64).contains(index))?;
        Some(LockSequence { index: index - 1, number: (field & 0xF) as u8 })
    }
}

impl<V: Volume> State<V> {
    /// The request was carried out: the same number at the same index would be its replay.
    fn note_lock_sequence(&mut self, handle: Id<Handle<V::Node>>, sequence: Option<LockSequence>) {
        let Some(sequence) = sequence else { return };
        let Some(extra) = self.handles.get(handle).and_then(|handle| handle.extra) else { return };
        let Some(extra) = self.extras.get_mut(extra) else { return };
        if let Some(place) = extra.lock_sequences.get_mut(usize::from(sequence.index)) {
            *place = sequence.number;
        }
    }
}

impl<E: Environment> Server<E> {
    /// Whether the request repeats one that was answered (3.3.5.14); tracked for durable handles, and for clients with
    /// several channels.
    fn is_lock_replay(
        &self,
        request: &Request<'_>,
        handle: Id<Handle<NodeOf<E>>>,
        sequence: LockSequence,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let multichannel = request.dialect >= Some(Dialect::Smb300)
            && connection_id::<PayloadOf<E>>(request.connection)
                .and_then(|id| state.connections.get(id))
                .is_some_and(|entry| entry.client_capabilities & capability::MULTI_CHANNEL != 0);
        let durable = request.dialect > Some(Dialect::Smb202)
            && state.durable_of(handle).is_some_and(|durable| durable.granted);
        if !multichannel && !durable {
            return false;
        }
        let Some(extra) = state.extra_of(handle) else { return false };
        if extra.lock_sequences.is_empty() {
            extra.lock_sequences = vec![0xFF; 64];
        }
        match extra.lock_sequences.get_mut(usize::from(sequence.index)) {
            Some(place) if *place == sequence.number => true,
            Some(place) => {
                *place = 0xFF;
                false
            }
            None => false,
        }
    }

    pub(super) fn lock(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let parsed = wire::Request::parse(request.message)?;
        let open = self.open_file(request, parsed.file_id, Operation::Lock)?;
        if open.directory {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        let first = parsed.elements.first().ok_or(NtStatus::INVALID_PARAMETER)?;
        let sequence = LockSequence::of(parsed.sequence);
        if let Some(sequence) = sequence
            && self.is_lock_replay(request, open.handle, sequence)
        {
            wire::emit(writer);
            return Ok(Outcome::Done(NtStatus::SUCCESS));
        }
        let unlocking = first.flags & UNLOCK != 0;
        if !unlocking {
            // MS-FSA 2.1.5.7: what others have read may change under the lock.
            self.change_contends(open.file, open.handle);
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        if unlocking {
            for element in &parsed.elements {
                let failed = if element.flags != UNLOCK {
                    NtStatus::INVALID_PARAMETER
                } else if !state.unlock(open.file, open.handle, element) {
                    NtStatus::RANGE_NOT_LOCKED
                } else {
                    continue;
                };
                // 3.3.5.14.1: those before stay unlocked.
                state.retry_locks(open.file);
                return Err(failed);
            }
            state.retry_locks(open.file);
            state.note_lock_sequence(open.handle, sequence);
            wire::emit(writer);
            return Ok(Outcome::Done(NtStatus::SUCCESS));
        }
        let single = parsed.elements.len() == 1;
        for element in &parsed.elements {
            let kind = element.flags & !FAIL_IMMEDIATELY;
            let waits = element.flags & FAIL_IMMEDIATELY == 0;
            if (kind != SHARED && kind != EXCLUSIVE) || (waits && !single) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        for (index, element) in parsed.elements.iter().enumerate() {
            let granted = match element.length.checked_sub(1) {
                Some(beyond) if element.offset.checked_add(beyond).is_none() => {
                    Err(NtStatus::INVALID_LOCK_RANGE)
                }
                _ => state.add_lock(open.file, open.handle, element),
            };
            let failed = match granted {
                Ok(true) => continue,
                Ok(false) if element.flags & FAIL_IMMEDIATELY == 0 => {
                    state.park(request, Some(open.handle), WaitKind::Lock(*element, sequence))?;
                    return Ok(Outcome::Silent);
                }
                Ok(false) => NtStatus::LOCK_NOT_GRANTED,
                Err(status) => status,
            };
            for element in parsed.elements.iter().take(index) {
                state.unlock(open.file, open.handle, element);
            }
            state.retry_locks(open.file);
            return Err(failed);
        }
        state.note_lock_sequence(open.handle, sequence);
        wire::emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_at_the_edges() {
        assert!(overlap((0, 10), (9, 1)));
        assert!(!overlap((0, 10), (10, 1)));
        assert!(!overlap((u64::MAX, 1), (0, u64::MAX)));
        assert!(overlap((u64::MAX - 1, 2), (u64::MAX, 1)));
        assert!(overlap((5, 0), (0, 10)));
        assert!(!overlap((0, 0), (0, 10)));
        assert!(!overlap((10, 0), (0, 10)));
        assert!(!overlap((5, 0), (5, 0)));
    }
}
