//! Which connection of the engine each TCP slot is.

use core::cell::Cell;

use smb::ConnectionId;

use crate::net::SLOTS;

/// Bits of a connection id that are its place in the engine's table, which is as large as ours.
const PLACE: u32 = SLOTS as u32 - 1;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= 256);

/// Both directions of the mapping; neither searches.
pub struct Slots {
    /// The id of each slot's connection; 0: none.
    ids: [Cell<u32>; SLOTS],
    /// The slot of each place in the engine's table.
    slots: [Cell<u8>; SLOTS],
}

impl Default for Slots {
    fn default() -> Self {
        Self { ids: [const { Cell::new(0) }; SLOTS], slots: [const { Cell::new(0) }; SLOTS] }
    }
}

impl Slots {
    /// `slot` is connection `id` from now on.
    pub fn bind(&self, slot: usize, id: ConnectionId) {
        if let Some(cell) = self.ids.get(slot) {
            cell.set(id.0);
        }
        if let Some(cell) = self.slots.get((id.0 & PLACE) as usize) {
            cell.set(slot as u8);
        }
    }

    /// `slot` is no connection any more; returns which it was.
    pub fn unbind(&self, slot: usize) -> Option<ConnectionId> {
        let id = self.ids.get(slot)?.replace(0);
        (id != 0).then_some(ConnectionId(id))
    }

    /// The slot's connection.
    pub fn connection(&self, slot: usize) -> Option<ConnectionId> {
        let id = self.ids.get(slot)?.get();
        (id != 0).then_some(ConnectionId(id))
    }

    /// The connection's slot; `None` when it has none any more.
    pub fn slot(&self, id: ConnectionId) -> Option<usize> {
        let slot = usize::from(self.slots.get((id.0 & PLACE) as usize)?.get());
        (self.ids.get(slot)?.get() == id.0).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_another_generation_are_not_found() {
        let slots = Slots::default();
        slots.bind(5, ConnectionId(0x300 | 9));
        assert_eq!(slots.slot(ConnectionId(0x309)), Some(5));
        assert_eq!(slots.slot(ConnectionId(0x409)), None);
        assert_eq!(slots.connection(5), Some(ConnectionId(0x309)));
        assert_eq!(slots.unbind(5), Some(ConnectionId(0x309)));
        assert_eq!(slots.slot(ConnectionId(0x309)), None);
        assert_eq!(slots.unbind(5), None);
        // The place is used again by another slot.
        slots.bind(7, ConnectionId(0x409));
        assert_eq!(slots.slot(ConnectionId(0x409)), Some(7));
    }
}
