//! Registers, command blocks and bits of the 8255x family, named as the *Intel 8255x 10/100 Mbps Ethernet Controller
//! Family Open Source Software Developer Manual* (revision 1.0, here "the manual") names them.

/// System control block, status byte: state of the command unit in bits 7:6, of the receive unit in bits 5:2 (6.3.2.1).
pub const SCB_STATUS: usize = 0x00;
/// System control block, STAT/ACK byte: pending causes; writing a 1 clears that cause (6.3.2.1).
pub const SCB_ACKNOWLEDGE: usize = 0x01;
/// System control block, command byte: the chip clears it when it has accepted the command (6.3.2.2).
pub const SCB_COMMAND: usize = 0x02;
/// System control block, interrupt control byte: the masks (6.3.2.2).
pub const SCB_INTERRUPT_CONTROL: usize = 0x03;
/// General pointer: the operand of the command (6.3.3).
pub const SCB_POINTER: usize = 0x04;
/// PORT: resets and self-test (6.3.4).
pub const PORT: usize = 0x08;
/// EEPROM control: four wires of the serial EEPROM (6.3.5).
pub const EEPROM_CONTROL: usize = 0x0E;
/// Management data interface control: registers of the PHY (6.3.6).
pub const MDI_CONTROL: usize = 0x10;
/// General status: link, speed and duplex as the PHY sees them (82558 and later).
pub const GENERAL_STATUS: usize = 0x1D;

/// State of the receive unit within [`SCB_STATUS`].
pub const RECEIVE_UNIT_MASK: u8 = 0x3C;
/// The receive unit has free descriptors and takes frames.
pub const RECEIVE_UNIT_READY: u8 = 0x10;

// The driver looks at the rings instead of asking for these three; only the fake chip names them.

/// CX: a command block with the I bit was executed.
#[cfg(test)]
pub const CAUSE_COMMAND_EXECUTED: u8 = 0x80;
/// FR: a frame was received.
#[cfg(test)]
pub const CAUSE_FRAME_RECEIVED: u8 = 0x40;
/// CNA: the command unit left the active state.
#[cfg(test)]
pub const CAUSE_COMMAND_UNIT_NOT_ACTIVE: u8 = 0x20;
/// RNR: the receive unit left the ready state.
pub const CAUSE_RECEIVE_NOT_READY: u8 = 0x10;

/// M: no interrupt at all.
pub const INTERRUPT_MASK_ALL: u8 = 0x01;
/// Masks of the causes that are never worth an interrupt: CNA (0x20, after every kick), early receive (0x08), flow control (0x04).
pub const INTERRUPT_MASK_CHATTER: u8 = 0x2C;

/// CU Start: execute the list at the general pointer.
pub const COMMAND_UNIT_START: u8 = 0x10;
/// CU Resume: look at the S bit of the last block again and go on behind it.
pub const COMMAND_UNIT_RESUME: u8 = 0x20;
/// Load dump counters address.
pub const LOAD_DUMP_ADDRESS: u8 = 0x40;
/// Load CU base: what is added to links of command blocks.
pub const LOAD_COMMAND_UNIT_BASE: u8 = 0x60;
/// Dump and reset the statistical counters.
pub const DUMP_AND_RESET_COUNTERS: u8 = 0x70;
/// RU Start: take frames into the list at the general pointer. Prohibited while the receive unit is ready (6.5.4, table 56).
pub const RECEIVE_UNIT_START: u8 = 0x01;
/// Load RU base: what is added to links of receive descriptors.
pub const LOAD_RECEIVE_UNIT_BASE: u8 = 0x06;

/// PORT function: everything to its power-on state. 10 µs until the next access.
pub const PORT_SOFTWARE_RESET: u32 = 0;
/// PORT function: stops both units, so that a software reset finds the bus idle. 10 µs until the next access.
pub const PORT_SELECTIVE_RESET: u32 = 2;

/// EEPROM serial clock.
pub const EEPROM_CLOCK: u16 = 0x01;
/// EEPROM chip select.
pub const EEPROM_SELECT: u16 = 0x02;
/// To the EEPROM.
pub const EEPROM_DATA_IN: u16 = 0x04;
/// From the EEPROM.
pub const EEPROM_DATA_OUT: u16 = 0x08;

/// MDI: the cycle is over and the data field holds its result.
pub const MDI_READY: u32 = 1 << 28;
/// MDI: read a register.
pub const MDI_READ: u32 = 2 << 26;

/// General status: a link partner is there.
pub const LINK_UP: u8 = 0x01;
/// General status: 100 Mb/s.
pub const LINK_100: u8 = 0x02;
/// General status: full duplex.
pub const LINK_FULL_DUPLEX: u8 = 0x04;

/// Command block and receive descriptor: the chip is done with it.
pub const STATUS_COMPLETE: u16 = 0x8000;
/// Command block and receive descriptor: done without error.
pub const STATUS_OK: u16 = 0x2000;

/// Command word: last of the list.
pub const COMMAND_END_OF_LIST: u16 = 0x8000;
/// Command word: suspend behind this one.
pub const COMMAND_SUSPEND: u16 = 0x4000;
/// Command word: interrupt (CX) when done.
pub const COMMAND_INTERRUPT: u16 = 0x2000;
/// Action command: set the station's address.
pub const ACTION_INDIVIDUAL_ADDRESS: u16 = 1;
/// Action command: configure.
pub const ACTION_CONFIGURE: u16 = 2;
/// Action command: set the group addresses.
pub const ACTION_MULTICAST: u16 = 3;
/// Action command: send a frame.
pub const ACTION_TRANSMIT: u16 = 4;
/// With [`ACTION_TRANSMIT`]: flexible mode, the frame is where buffer descriptors say.
pub const ACTION_FLEXIBLE: u16 = 8;

/// Offset of a block's status word.
pub const BLOCK_STATUS: usize = 0x00;
/// Offset of a block's command word.
pub const BLOCK_COMMAND: usize = 0x02;
/// Offset of the link to the next block.
pub const BLOCK_LINK: usize = 0x04;
/// Offset of what follows the link: parameters of an action command, or the rest of a transmit block.
pub const BLOCK_PARAMETERS: usize = 0x08;
/// Offset of a transmit block's byte count; the threshold and the descriptor number lie in the same 32 bits.
pub const TRANSMIT_COUNT: usize = 0x0C;
/// Offset of a receive descriptor's actual count.
pub const RECEIVE_COUNT: usize = 0x0C;
/// Offset of the frame behind a receive descriptor (simplified mode).
pub const BLOCK_FRAME: usize = 0x10;

/// What stands in the place of an address where there is none.
pub const NO_BUFFER_DESCRIPTORS: u32 = 0xFFFF_FFFF;
/// Transmit block, in the place of its descriptor count: one.
pub const ONE_DESCRIPTOR: u32 = 1 << 24;
/// Transmit block: with its descriptors the frame is whole. The count of bytes in the block itself, beside it, is 0.
pub const TRANSMIT_END_OF_FRAME: u32 = 0x8000;
/// Transmit buffer descriptor, beside the length: the last one.
pub const DESCRIPTOR_END_OF_LIST: u32 = 1 << 16;
/// Transmit threshold in units of 8 bytes, in its place: more than a frame, so that no frame starts before all of it is
/// in the chip and a slow bus cannot cause an underrun.
pub const TRANSMIT_THRESHOLD: u32 = 0xE0 << 16;
/// Receive count: number of bytes; the two bits above are EOF and F, which QEMU's model leaves clear.
pub const RECEIVE_COUNT_MASK: u16 = 0x3FFF;

/// Where the dump ends in standard (82557) form: the completion word follows 16 counters.
pub const DUMP_COMPLETION: usize = 64;
/// Completion word of dump-and-reset.
pub const DUMP_AND_RESET_COMPLETE: u32 = 0xA007;
