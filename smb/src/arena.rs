//! Tables of a fixed size whose entries are named by ids that go stale.
//!
//! An id is a slot number and the slot's generation. A slot's generation changes when its entry is removed, so an id kept
//! across a wait either names the same entry or nothing. All operations on one entry take constant time.

use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::num::NonZeroU32;

/// Names an entry of an [`Arena<T>`]. Four bytes, also as an `Option`.
///
/// The lower bits are the slot (as many as the arena's capacity needs), the upper bits the generation, which is never 0.
pub struct Id<T> {
    raw: NonZeroU32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The id as a number, never 0.
    pub const fn raw(self) -> u32 {
        self.raw.get()
    }

    /// The id that [`Id::raw`] gave; also safe for numbers from the wire, since lookups check the generation.
    pub const fn from_raw(raw: u32) -> Option<Id<T>> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Id { raw, kind: PhantomData }),
            None => None,
        }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        self.raw == other.raw
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Id<T>) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Id<T>) -> core::cmp::Ordering {
        self.raw.cmp(&other.raw)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Id({:#x})", self.raw)
    }
}

/// The arena has no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// No slot: the end of the list of free ones.
const NO_SLOT: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    /// Of the entry that is here, or of the next one that will be. Never 0.
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Used(T),
    Free { next: u32 },
}

/// A table of at most `capacity` entries. Its memory is taken once, when it is made.
#[derive(Debug)]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    capacity: u32,
    slot_bits: u32,
    length: u32,
    /// Freed slots are used again in the order in which they were freed: a stale id stays detectably stale for longest.
    first_free: u32,
    last_free: u32,
}

impl<T> Arena<T> {
    /// The most entries an arena can have: eight bits are kept for the generation.
    pub const MAXIMUM_CAPACITY: u32 = 1 << 24;

    /// Makes an empty arena for `capacity` entries (at most [`Arena::MAXIMUM_CAPACITY`]), memory included.
    pub fn new(capacity: u32) -> Arena<T> {
        let capacity = capacity.min(Self::MAXIMUM_CAPACITY);
        Arena {
            slots: Vec::with_capacity(usize::try_from(capacity).unwrap_or(0)),
            capacity,
            slot_bits: capacity.next_power_of_two().trailing_zeros(),
            length: 0,
            first_free: NO_SLOT,
            last_free: NO_SLOT,
        }
    }

    /// How many entries there are.
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether [`Arena::insert`] would answer [`Full`].
    pub const fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    /// How many entries there may be.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of memory that one entry takes.
    pub const fn entry_size() -> usize {
        size_of::<Slot<T>>()
    }

    /// Adds an entry.
    pub fn insert(&mut self, value: T) -> Result<Id<T>, Full> {
        self.insert_with(|_| value)
    }

    /// Adds an entry that knows its own id.
    pub fn insert_with(&mut self, make: impl FnOnce(Id<T>) -> T) -> Result<Id<T>, Full> {
        let number = if self.first_free == NO_SLOT {
            let number = u32::try_from(self.slots.len()).map_err(|_| Full)?;
            if number >= self.capacity {
                return Err(Full);
            }
            self.slots.push(Slot { generation: 1, content: Content::Free { next: NO_SLOT } });
            number
        } else {
            let number = self.first_free;
            let Some(Slot { content: Content::Free { next }, .. }) = self.slots.get(index(number)) else {
                return Err(Full);
            };
            self.first_free = *next;
            if self.first_free == NO_SLOT {
                self.last_free = NO_SLOT;
            }
            number
        };
        let slot_bits = self.slot_bits;
        let slot = self.slots.get_mut(index(number)).ok_or(Full)?;
        let id = Id::from_raw(slot.generation << slot_bits | number).ok_or(Full)?;
        slot.content = Content::Used(make(id));
        self.length += 1;
        Ok(id)
    }

    /// The entry, unless the id is stale.
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let (number, generation) = self.split(id);
        match self.slots.get(index(number)) {
            Some(Slot { generation: found, content: Content::Used(value) }) if *found == generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The entry to change, unless the id is stale.
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let (number, generation) = self.split(id);
        match self.slots.get_mut(index(number)) {
            Some(Slot { generation: found, content: Content::Used(value) }) if *found == generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Whether the id names an entry.
    pub fn contains(&self, id: Id<T>) -> bool {
        self.get(id).is_some()
    }

    /// Takes the entry out; from now on its id is stale.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        self.get(id)?;
        let (number, generation) = self.split(id);
        let generation_mask = u32::MAX >> self.slot_bits;
        let slot = self.slots.get_mut(index(number))?;
        slot.generation = match generation.wrapping_add(1) & generation_mask {
            0 => 1,
            next => next,
        };
        let content = core::mem::replace(&mut slot.content, Content::Free { next: NO_SLOT });
        match self.slots.get_mut(index(self.last_free)) {
            Some(Slot { content: Content::Free { next }, .. }) => *next = number,
            _ => self.first_free = number,
        }
        self.last_free = number;
        self.length -= 1;
        match content {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// All entries with their ids, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let slot_bits = self.slot_bits;
        self.slots.iter().zip(0u32..).filter_map(move |(slot, number)| match &slot.content {
            Content::Used(value) => Some((Id::from_raw(slot.generation << slot_bits | number)?, value)),
            Content::Free { .. } => None,
        })
    }

    /// All entries with their ids, to change, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        let slot_bits = self.slot_bits;
        self.slots.iter_mut().zip(0u32..).filter_map(move |(slot, number)| match &mut slot.content {
            Content::Used(value) => Some((Id::from_raw(slot.generation << slot_bits | number)?, value)),
            Content::Free { .. } => None,
        })
    }

    /// The first entry in a slot after `previous`'s (from the first slot for `None`) that `matches`. For walks that let
    /// go of the arena between steps: `previous` may be stale by then.
    pub fn next_after(&self, previous: Option<Id<T>>, mut matches: impl FnMut(&T) -> bool) -> Option<Id<T>> {
        let start = previous.map_or(0, |id| self.split(id).0.saturating_add(1));
        let slots = self.slots.get(index(start)..)?;
        slots.iter().zip(start..).find_map(|(slot, number)| match &slot.content {
            Content::Used(value) if matches(value) => {
                Id::from_raw(slot.generation << self.slot_bits | number)
            }
            _ => None,
        })
    }

    /// The id's slot and generation.
    fn split(&self, id: Id<T>) -> (u32, u32) {
        (id.raw() & ((1 << self.slot_bits) - 1), id.raw() >> self.slot_bits)
    }
}

/// A slot number as an index; one too large for the machine names nothing.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const _: () = assert!(size_of::<Option<Id<u64>>>() == 4);

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn ids_go_stale_and_never_name_the_successor() {
        let mut arena = Arena::new(2);
        let first = arena.insert("first").unwrap();
        let second = arena.insert("second").unwrap();
        assert_eq!(arena.insert("third"), Err(Full));
        assert_eq!(arena.remove(first), Some("first"));
        assert_eq!(arena.remove(first), None);
        let third = arena.insert("third").unwrap();
        assert_ne!(first, third);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.get(third), Some(&"third"));
        assert_eq!(arena.get(second), Some(&"second"));
        assert_eq!(arena.len(), 2);
    }

    #[test]
    fn numbers_from_the_wire_name_nothing() {
        let mut arena = Arena::new(3);
        let id = arena.insert(1u8).unwrap();
        for raw in [1, 2, 3, 0xFFFF_FFFF, 0x8000_0000, id.raw() ^ 1, id.raw() ^ 0x4000_0000] {
            assert_eq!(Id::from_raw(raw).and_then(|id| arena.get(id).copied()), None, "{raw:#x}");
        }
        assert!(Id::<u8>::from_raw(0).is_none());
        assert_eq!(Id::from_raw(id.raw()), Some(id));
    }

    #[test]
    fn generations_wrap_past_zero() {
        let mut arena = Arena::new(Arena::<u32>::MAXIMUM_CAPACITY);
        let mut previous = arena.insert(0).unwrap();
        for value in 1..600 {
            arena.remove(previous).unwrap();
            let id = arena.insert(value).unwrap();
            assert_ne!(id, previous);
            assert_eq!(arena.get(previous), None);
            assert_eq!(arena.get(id), Some(&value));
            previous = id;
        }
    }

    #[test]
    fn freed_slots_are_reused_oldest_first() {
        let mut arena = Arena::new(3);
        let ids: Vec<_> = (0..3).map(|value| arena.insert(value).unwrap()).collect();
        for id in [ids[1], ids[0], ids[2]] {
            arena.remove(id).unwrap();
        }
        let slots: Vec<_> = (0..3).map(|value| arena.insert(value).unwrap().raw() & 3).collect();
        assert_eq!(slots, [1, 0, 2]);
        assert!(arena.is_full());
    }

    #[test]
    fn a_walk_survives_removal() {
        let mut arena = Arena::new(8);
        for value in 0..8 {
            arena.insert(value).unwrap();
        }
        let mut walked = Vec::new();
        let mut previous = None;
        while let Some(id) = arena.next_after(previous, |value| value % 2 == 0) {
            walked.push(arena.remove(id).unwrap());
            previous = Some(id);
        }
        assert_eq!(walked, [0, 2, 4, 6]);
        assert_eq!(arena.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 3, 5, 7]);
    }

    #[test]
    fn an_arena_of_nothing_is_full() {
        let mut arena = Arena::new(0);
        assert_eq!(arena.insert(()), Err(Full));
        assert_eq!(arena.next_after(None, |_| true), None);
    }
}
