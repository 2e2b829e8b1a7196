//! Operation codes: the first byte of a command descriptor block (SPC, SBC).

pub(super) const TEST_UNIT_READY: u8 = 0x00;
pub(super) const INQUIRY: u8 = 0x12;
pub(super) const MODE_SENSE_6: u8 = 0x1A;
pub(super) const START_STOP_UNIT: u8 = 0x1B;
pub(super) const REASSIGN_BLOCKS: u8 = 0x07;
pub(super) const READ_CAPACITY_10: u8 = 0x25;
pub(super) const READ_10: u8 = 0x28;
pub(super) const WRITE_10: u8 = 0x2A;
pub(super) const SYNCHRONIZE_CACHE_10: u8 = 0x35;
pub(super) const READ_16: u8 = 0x88;
pub(super) const WRITE_16: u8 = 0x8A;
pub(super) const SERVICE_ACTION_IN_16: u8 = 0x9E;
/// A service action of [`SERVICE_ACTION_IN_16`].
pub(super) const READ_CAPACITY_16: u8 = 0x10;
