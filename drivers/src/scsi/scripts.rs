//! The SCRIPTS program the 53C895A runs for a channel, and the memory it shares with the driver.
//!
//! Everything here is little-endian 32-bit words in memory, whatever the CPU is: [`Program::words`] holds values, whoever
//! stores them calls `to_le`. Instruction formats: LSI53C895A Technical Manual, chapter 5.
//!
//! # How a command runs
//!
//! Each command has a 4 KiB *block* in the channel's 64 KiB-aligned *area*. The block's number times 16 is the command's
//! queue tag, so that byte 1 of the block's address *is* the tag: a reselection finds its command by storing the tag's
//! byte into the DSA register. Page 0 of the area is shared: a ring of blocks to start, a line for each target (which names
//! the block of its untagged command), and a sink for surplus data. DSA byte 1 being zero therefore means "no command".
//!
//! ```text
//!        +--> idle: WAIT RESELECT --reselected--> IDENTIFY, tag -> DSA --+
//!        |       | signal process                                       |
//!        |    start: ring entry -> DSA -> SELECT -> IDENTIFY+tag, CDB --+
//!        |                                                              v
//!        |  <--- disconnected --- messages <---- dispatch by bus phase ---> data: jump to the block's resume address
//!        +------ done, INTFLY --- status  <-------/          ^----------------------/
//! ```
//!
//! A run of SCRIPTS, from the CPU's write or the target's reselection to the next wait, serves one connection. Should there
//! be more to do then, SCRIPTS stop with [`stop::YIELD`] and the interrupt handler starts them again. A chip needs no such
//! rest, but QEMU's: it counts instructions per run, pauses for half a millisecond after a hundred of them, and the timer
//! of that pause may go off in the middle of something else.
//!
//! The data lists are one block move for each possible scatter/gather entry. A command with n entries has them at the end
//! of its table and starts n moves before the end of the list, so a transfer ends by falling off the list, without a count.

use super::registers as register;
use super::registers::{
    PHASE_COMMAND, PHASE_DATA_IN, PHASE_DATA_OUT, PHASE_MESSAGE_IN, PHASE_MESSAGE_OUT, PHASE_STATUS,
};
use alloc::vec::Vec;

/// Scatter/gather entries of a command: 1 MiB of 4 KiB pages that start anywhere, and some to spare.
pub(super) const ENTRIES: usize = 272;
/// Bytes of an area, and its alignment.
pub(super) const AREA_BYTES: usize = 0x1_0000;
/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 0x1000;

/// Offsets in the area's page 0.
pub(super) mod shared {
    /// Distance between the targets' lines; a line's first word is the bus address of the target's untagged block or 0.
    pub const LINE: usize = 0x100;
    /// The area's own bus address, to load into DSA.
    pub const AREA: usize = 0x10;
    /// The last message byte received.
    pub const MESSAGE: usize = 0x14;
    /// A MESSAGE REJECT to send.
    pub const MESSAGE_REJECT: usize = 0x18;
    /// Where surplus data goes to and comes from (zeros, then whatever fell in).
    pub const SINK: usize = 0x40;
    /// Bytes at [`SINK`].
    pub const SINK_BYTES: usize = 0x40;
    /// The start ring: bus addresses of blocks, ended by a zero.
    pub const RING: usize = 0x80;
    /// Entries in the ring; one is always zero.
    pub const RING_ENTRIES: usize = 16;
}

/// Offsets in a command's block.
pub(super) mod block {
    /// For SELECT: byte 1 SXFER, byte 2 target, byte 3 SCNTL3.
    pub const SELECT: usize = 0x00;
    /// Byte count and bus address of the messages to send.
    pub const MESSAGE_TABLE: usize = 0x08;
    /// Byte count and bus address of the command descriptor block.
    pub const COMMAND_TABLE: usize = 0x10;
    /// Byte count (1) and bus address of the status byte.
    pub const STATUS_TABLE: usize = 0x18;
    /// SCRIPTS address at which the data phase goes on.
    pub const RESUME: usize = 0x20;
    /// Data bytes moved so far, as of the last disconnect or status.
    pub const TRANSFERRED: usize = 0x24;
    /// Data bytes moved at the last SAVE DATA POINTER.
    pub const SAVED: usize = 0x28;
    /// Byte that SCRIPTS set to the tag (never zero) when the command ended well.
    pub const DONE: usize = 0x2D;
    /// The status byte.
    pub const STATUS: usize = 0x30;
    /// Messages to send, up to 8 bytes.
    pub const MESSAGES: usize = 0x34;
    /// Command descriptor block, up to 16 bytes.
    pub const COMMAND: usize = 0x40;
    /// Sense data.
    pub const SENSE: usize = 0x80;
    /// Bytes at [`SENSE`].
    pub const SENSE_BYTES: usize = 96;
    /// The scatter/gather table: byte count and bus address each.
    pub const TABLE: usize = 0x100;
}

const _: () = assert!(block::TABLE + ENTRIES * 8 <= BLOCK_BYTES);
const _: () = assert!(shared::RING + shared::RING_ENTRIES * 4 <= shared::LINE);
// The ring's index is kept as the low address byte, advanced by `+ 4` and `& 0xBF`.
const _: () = assert!(shared::RING == 0x80 && shared::RING_ENTRIES == 16);
const _: () = assert!(AREA_BYTES == 16 * BLOCK_BYTES);

/// Why SCRIPTS stopped with INT: the code in DSPS.
pub(super) mod stop {
    /// The command in DSA ended with a status other than GOOD; the bus is free.
    pub const BAD_STATUS: u32 = 1;
    /// The target left a data phase early; the command in DSA is still connected.
    pub const PHASE_MISMATCH: u32 = 2;
    /// A phase change while no command was connected.
    pub const SPURIOUS: u32 = 3;
    /// A reselection that fits no command.
    pub const BAD_RESELECTION: u32 = 4;
    /// A message that SCRIPTS do not handle; still connected, the message not yet acknowledged.
    pub const MESSAGE: u32 = 5;
    /// A bus phase that has no place here.
    pub const PHASE: u32 = 6;
    /// The target left the message phase of an ABORT or BUS DEVICE RESET without disconnecting.
    pub const MANAGEMENT: u32 = 7;
    /// RESTORE POINTERS after data was moved.
    pub const RESTORE_POINTERS: u32 = 8;
    /// Nothing is wrong: there is more to do than one run should.
    pub const YIELD: u32 = 9;
}

/// Places in the program.
#[derive(Clone, Copy)]
enum Label {
    Idle,
    Reselected,
    Untagged,
    Resume,
    Woken,
    Start,
    CommandPhase,
    NoCommandPhase,
    Dispatch,
    Data,
    DataEnd,
    DiscardIn,
    DiscardOut,
    DiscardEither,
    Status,
    BadStatus,
    MessageIn,
    SavePointer,
    Disconnected,
    RestorePointers,
    RejectMessage,
    RejectMore,
    RejectSend,
    IgnoreMessage,
    Mismatch,
    StopBadStatus,
    StopMismatch,
    StopSpurious,
    StopBadReselection,
    StopMessage,
    StopPhase,
    StopManagement,
    StopRestorePointers,
    StopYield,
    After,
    DataIn,
    DataOut,
    DataInEnd,
    DataOutEnd,
    Count,
}

/// The assembled program with the addresses that the driver needs.
#[derive(Debug)]
pub(super) struct Program {
    /// The instructions' words, in the CPU's order.
    pub words: Vec<u32>,
    /// Start here with "signal process" set afterwards.
    pub idle: u32,
    /// Start here after a yield.
    pub start: u32,
    /// Start here to go on with a connected command.
    pub dispatch: u32,
    /// Start here to fetch the status of the command in DSA.
    pub status: u32,
    /// Start here to drop the message just received and go on.
    pub ignore_message: u32,
    /// Where a phase mismatch jumps to.
    pub mismatch: u32,
    /// Resume address of a command without data, or with all of its data moved.
    pub discard: u32,
    /// Resume address of ABORT and BUS DEVICE RESET.
    pub management: u32,
    /// The end of the block moves from the target.
    data_in_end: u32,
    /// The end of the block moves to the target.
    data_out_end: u32,
}

impl Program {
    /// The resume address for a command whose last `entries` table entries are still to be moved.
    pub fn resume(&self, from_target: bool, entries: usize) -> u32 {
        if entries == 0 {
            return self.discard;
        }
        let end = if from_target { self.data_in_end } else { self.data_out_end };
        end - 8 * entries as u32
    }

    /// Assembles the program to run at bus address `base`, with its area at bus address `area`.
    pub fn assemble(base: u32, area: u32) -> Program {
        use Label::*;
        let shared = |offset: usize| area + offset as u32;
        let mut code = Assembler::new(base);

        code.place(Idle);
        code.io(WAIT_RESELECT, Woken);
        code.place(Reselected);
        code.load(register::DSA, 4, shared(shared::AREA));
        code.move_bytes(PHASE_MESSAGE_IN, 1, shared(shared::MESSAGE));
        code.jump_unless_byte(0x80, 0x7F, StopBadReselection);
        code.clear_acknowledge();
        code.jump_phase(true, false, PHASE_MESSAGE_IN, Untagged);
        code.move_bytes(PHASE_MESSAGE_IN, 1, shared(shared::MESSAGE));
        code.jump_unless_byte(MESSAGE_SIMPLE_QUEUE_TAG, 0, StopBadReselection);
        code.clear_acknowledge();
        code.move_bytes(PHASE_MESSAGE_IN, 1, shared(shared::MESSAGE));
        code.clear_acknowledge();
        code.register(FROM_SFBR, OR, register::DSA + 1, 0);
        code.jump_unless_byte(0, 0xF0, StopBadReselection);
        // The block must be one that waits for this target: a free block has the impossible target 0xFF.
        code.load_block(register::SCRATCHA, 4, block::SELECT);
        code.register(TO_SFBR, AND, register::SSID, 0x0F);
        code.exclusive_or_sfbr(register::SCRATCHA + 2);
        code.register(TO_SFBR, OR, register::SCRATCHA + 2, 0);
        code.jump_unless_byte(0, 0, StopBadReselection);
        code.place(Resume);
        code.load_block(register::CSBC, 4, block::TRANSFERRED);
        code.jump(Dispatch);

        code.place(Untagged);
        code.register(TO_SFBR, AND, register::SSID, 0x0F);
        code.register(FROM_SFBR, OR, register::DSA + 1, 0);
        code.load_block(register::DSA, 4, 0);
        code.register(TO_SFBR, OR, register::DSA + 1, 0);
        code.jump_if_byte(0, 0, StopBadReselection);
        code.jump(Resume);

        code.place(Woken);
        code.register(TO_SFBR, OR, register::CTEST2, 0);
        code.place(Start);
        code.next_of_ring(shared(shared::AREA));
        code.jump_if_byte(0, 0, Idle);
        code.io(SELECT_WITH_ATTENTION_FROM_TABLE | block::SELECT as u32, Reselected);
        code.register(MODIFY, ADD, register::SCRATCHB, 4);
        code.register(MODIFY, AND, register::SCRATCHB, 0xBF);
        code.load_block(register::CSBC, 4, block::TRANSFERRED);
        code.move_table(PHASE_MESSAGE_OUT, block::MESSAGE_TABLE);
        code.jump_phase(true, false, PHASE_COMMAND, NoCommandPhase);
        code.place(CommandPhase);
        code.move_table(PHASE_COMMAND, block::COMMAND_TABLE);

        code.place(Dispatch);
        code.jump_phase(true, true, PHASE_DATA_IN, Data);
        code.place(NoCommandPhase);
        code.jump_phase(true, true, PHASE_STATUS, Status);
        code.jump_phase(false, true, PHASE_MESSAGE_IN, MessageIn);
        code.jump_phase(false, true, PHASE_DATA_OUT, Data);
        code.jump_phase(false, true, PHASE_DATA_IN, Data);
        // After messages went to and fro.
        code.jump_phase(false, true, PHASE_COMMAND, CommandPhase);
        code.jump(StopPhase);

        code.place(Data);
        code.load_block(TEMP, 4, block::RESUME);
        code.emit(RETURN | TRUE, 0);

        code.place(DataEnd);
        code.jump_phase(true, true, PHASE_STATUS, Status);
        // Should the target ask for still more data, now or after a disconnect, it must not start over.
        code.store_block(register::SCRATCHC, 4, block::RESUME);
        code.jump(Dispatch);

        code.place(DiscardEither);
        code.jump_phase(true, true, PHASE_DATA_OUT, DiscardOut);
        code.place(DiscardIn);
        code.move_bytes(PHASE_DATA_IN, shared::SINK_BYTES as u32, shared(shared::SINK));
        code.jump(Dispatch);
        code.place(DiscardOut);
        code.move_bytes(PHASE_DATA_OUT, shared::SINK_BYTES as u32, shared(shared::SINK));
        code.jump(Dispatch);

        code.place(Status);
        code.move_table(PHASE_STATUS, block::STATUS_TABLE);
        code.jump_unless_byte(0, 0, BadStatus);
        code.finish_command(shared(shared::MESSAGE));
        code.store_block(register::DSA + 1, 1, block::DONE);
        code.emit(INTERRUPT_ON_THE_FLY | TRUE, 0);
        code.place(After);
        code.register(TO_SFBR, AND, register::SCNTL1, register::SCNTL1_CONNECTED);
        code.jump_unless_byte(0, 0, StopYield);
        code.next_of_ring(shared(shared::AREA));
        code.jump_if_byte(0, 0, Idle);
        code.jump(StopYield);

        code.place(BadStatus);
        code.finish_command(shared(shared::MESSAGE));
        code.jump(StopBadStatus);

        code.place(MessageIn);
        code.move_bytes(PHASE_MESSAGE_IN, 1, shared(shared::MESSAGE));
        code.jump_if_byte(MESSAGE_SAVE_DATA_POINTER, 0, SavePointer);
        code.jump_if_byte(MESSAGE_DISCONNECT, 0, Disconnected);
        code.jump_if_byte(MESSAGE_RESTORE_POINTERS, 0, RestorePointers);
        code.jump_if_byte(MESSAGE_NO_OPERATION, 0, IgnoreMessage);
        code.jump_if_byte(MESSAGE_EXTENDED, 0, RejectMessage);
        code.jump(StopMessage);

        // A target that wants to negotiate width or speed: this bus stays narrow and asynchronous.
        code.place(RejectMessage);
        code.emit(SET_ATTENTION, 0);
        code.clear_acknowledge();
        code.place(RejectMore);
        code.jump_phase(true, false, PHASE_MESSAGE_IN, RejectSend);
        code.move_bytes(PHASE_MESSAGE_IN, 1, shared(shared::MESSAGE));
        code.clear_acknowledge();
        code.jump(RejectMore);
        code.place(RejectSend);
        code.move_bytes(PHASE_MESSAGE_OUT, 1, shared(shared::MESSAGE_REJECT));
        code.jump(Dispatch);

        code.place(SavePointer);
        code.store_block(register::CSBC, 4, block::SAVED);
        code.place(IgnoreMessage);
        code.clear_acknowledge();
        code.jump(Dispatch);

        code.place(Disconnected);
        code.register(MODIFY, AND, register::SCNTL2, 0x7F);
        code.clear_acknowledge();
        code.store_block(register::CSBC, 4, block::TRANSFERRED);
        code.emit(WAIT_DISCONNECT, 0);
        code.jump(After);

        // Some targets restore before any data moved; then there is nothing to restore.
        code.place(RestorePointers);
        for byte in 0..4 {
            code.register(TO_SFBR, OR, register::CSBC + byte, 0);
            code.jump_unless_byte(0, 0, StopRestorePointers);
        }
        code.jump(IgnoreMessage);

        code.place(Mismatch);
        code.register(TO_SFBR, OR, register::DSA + 1, 0);
        code.jump_if_byte(0, 0, StopSpurious);
        // A target that has less data than asked for goes on to status: nothing to repair.
        code.jump_phase(false, true, PHASE_STATUS, Status);
        code.jump(StopMismatch);

        for (label, reason) in [
            (StopBadStatus, stop::BAD_STATUS),
            (StopMismatch, stop::PHASE_MISMATCH),
            (StopSpurious, stop::SPURIOUS),
            (StopBadReselection, stop::BAD_RESELECTION),
            (StopMessage, stop::MESSAGE),
            (StopPhase, stop::PHASE),
            (StopManagement, stop::MANAGEMENT),
            (StopRestorePointers, stop::RESTORE_POINTERS),
            (StopYield, stop::YIELD),
        ] {
            code.place(label);
            code.emit(INTERRUPT | TRUE, reason);
            // An emulated chip may run on after INT when another command ends just then: it stops again.
            code.jump(label);
        }

        code.place(DataIn);
        for entry in 0..ENTRIES {
            code.move_table(PHASE_DATA_IN, block::TABLE + 8 * entry);
        }
        code.place(DataInEnd);
        code.jump(DataEnd);
        code.place(DataOut);
        for entry in 0..ENTRIES {
            code.move_table(PHASE_DATA_OUT, block::TABLE + 8 * entry);
        }
        code.place(DataOutEnd);
        code.jump(DataEnd);
        code.finish()
    }
}

const MESSAGE_EXTENDED: u8 = 0x01;
const MESSAGE_SAVE_DATA_POINTER: u8 = 0x02;
const MESSAGE_RESTORE_POINTERS: u8 = 0x03;
const MESSAGE_DISCONNECT: u8 = 0x04;
const MESSAGE_NO_OPERATION: u8 = 0x08;
const MESSAGE_SIMPLE_QUEUE_TAG: u8 = 0x20;

/// Block move, initiator, not chained.
const MOVE: u32 = 0x0800_0000;
const TABLE_INDIRECT: u32 = 0x1000_0000;
const SELECT_WITH_ATTENTION_FROM_TABLE: u32 = 0x4300_0000;
const WAIT_DISCONNECT: u32 = 0x4800_0000;
const WAIT_RESELECT: u32 = 0x5000_0000;
const SET_ATTENTION: u32 = 0x5800_0008;
const CLEAR_ACKNOWLEDGE: u32 = 0x6000_0040;
/// SFBR op byte -> register.
const FROM_SFBR: u32 = 0x6800_0000;
/// Register op byte -> SFBR.
const TO_SFBR: u32 = 0x7000_0000;
/// Register op byte -> register.
const MODIFY: u32 = 0x7800_0000;
const OR: u32 = 2;
const XOR: u32 = 3;
const AND: u32 = 4;
const ADD: u32 = 6;
const JUMP: u32 = 0x8000_0000;
const RETURN: u32 = 0x9000_0000;
const INTERRUPT: u32 = 0x9800_0000;
const INTERRUPT_ON_THE_FLY: u32 = 0x9810_0000;
const TRUE: u32 = 1 << 19;
const COMPARE_DATA: u32 = 1 << 18;
const COMPARE_PHASE: u32 = 1 << 17;
const WAIT_FOR_PHASE: u32 = 1 << 16;
const STORE: u32 = 0xE000_0000;
const LOAD: u32 = 0xE100_0000;
const DSA_RELATIVE: u32 = 0x1000_0000;
/// The register that holds RETURN's address.
const TEMP: usize = 0x1C;

struct Assembler {
    base: u32,
    words: Vec<u32>,
    places: [u32; Label::Count as usize],
    references: Vec<(usize, Label)>,
}

impl Assembler {
    fn new(base: u32) -> Self {
        Assembler {
            base,
            words: Vec::with_capacity(1500),
            places: [0; Label::Count as usize],
            references: Vec::with_capacity(100),
        }
    }

    fn place(&mut self, label: Label) {
        self.places[label as usize] = self.base + 4 * self.words.len() as u32;
    }

    fn emit(&mut self, first: u32, second: u32) {
        self.words.push(first);
        self.words.push(second);
    }

    fn emit_to(&mut self, first: u32, label: Label) {
        self.references.push((self.words.len() + 1, label));
        self.emit(first, 0);
    }

    fn io(&mut self, instruction: u32, alternate: Label) {
        self.emit_to(instruction, alternate);
    }

    fn clear_acknowledge(&mut self) {
        self.emit(CLEAR_ACKNOWLEDGE, 0);
    }

    fn move_bytes(&mut self, phase: u32, count: u32, address: u32) {
        self.emit(MOVE | phase << 24 | count, address);
    }

    fn move_table(&mut self, phase: u32, offset: usize) {
        self.emit(MOVE | TABLE_INDIRECT | phase << 24, offset as u32);
    }

    /// A register's number in a register instruction: bits 22:16, and bit 7 for its top bit.
    fn register_field(register: usize) -> u32 {
        (register as u32 & 0x7F) << 16 | (register as u32 & 0x80)
    }

    fn register(&mut self, form: u32, operator: u32, register: usize, data: u8) {
        self.emit(form | operator << 24 | Self::register_field(register) | u32::from(data) << 8, 0);
    }

    /// Register xor SFBR -> register.
    fn exclusive_or_sfbr(&mut self, register: usize) {
        self.emit(MODIFY | 1 << 23 | XOR << 24 | Self::register_field(register), 0);
    }

    fn jump(&mut self, label: Label) {
        self.emit_to(JUMP | TRUE, label);
    }

    /// Jumps if the bus phase is (or is not) `phase`; `wait` waits for a request from the target first.
    fn jump_phase(&mut self, wait: bool, equal: bool, phase: u32, label: Label) {
        let wait = if wait { WAIT_FOR_PHASE } else { 0 };
        let equal = if equal { TRUE } else { 0 };
        self.emit_to(JUMP | COMPARE_PHASE | wait | equal | phase << 24, label);
    }

    fn jump_if_byte(&mut self, data: u8, ignored_bits: u8, label: Label) {
        self.emit_to(JUMP | TRUE | COMPARE_DATA | u32::from(ignored_bits) << 8 | u32::from(data), label);
    }

    fn jump_unless_byte(&mut self, data: u8, ignored_bits: u8, label: Label) {
        self.emit_to(JUMP | COMPARE_DATA | u32::from(ignored_bits) << 8 | u32::from(data), label);
    }

    fn load(&mut self, register: usize, count: u32, address: u32) {
        self.emit(LOAD | (register as u32) << 16 | count, address);
    }

    fn load_block(&mut self, register: usize, count: u32, offset: usize) {
        self.emit(LOAD | DSA_RELATIVE | (register as u32) << 16 | count, offset as u32);
    }

    fn store_block(&mut self, register: usize, count: u32, offset: usize) {
        self.emit(STORE | DSA_RELATIVE | (register as u32) << 16 | count, offset as u32);
    }

    /// Loads the ring's next entry into DSA, and its byte 1, which is zero at the ring's end, into SFBR.
    fn next_of_ring(&mut self, area: u32) {
        self.load(register::DSA, 4, area);
        self.register(TO_SFBR, OR, register::SCRATCHB, 0);
        self.register(FROM_SFBR, OR, register::DSA, 0);
        self.load_block(register::DSA, 4, 0);
        self.register(TO_SFBR, OR, register::DSA + 1, 0);
    }

    /// From the status byte to bus free.
    fn finish_command(&mut self, message: u32) {
        self.store_block(register::CSBC, 4, block::TRANSFERRED);
        self.move_bytes(PHASE_MESSAGE_IN, 1, message);
        // COMMAND COMPLETE.
        self.jump_unless_byte(0, 0, Label::StopMessage);
        self.register(MODIFY, AND, register::SCNTL2, 0x7F);
        self.clear_acknowledge();
        self.emit(WAIT_DISCONNECT, 0);
    }

    fn finish(mut self) -> Program {
        for (word, label) in &self.references {
            self.words[*word] = self.places[*label as usize];
        }
        let at = |label: Label| self.places[label as usize];
        Program {
            idle: at(Label::Idle),
            start: at(Label::Start),
            dispatch: at(Label::Dispatch),
            status: at(Label::Status),
            ignore_message: at(Label::IgnoreMessage),
            mismatch: at(Label::Mismatch),
            discard: at(Label::DiscardEither),
            management: at(Label::StopManagement),
            data_in_end: at(Label::DataInEnd),
            data_out_end: at(Label::DataOutEnd),
            words: self.words,
        }
    }
}

/// Bytes of the program, for whoever finds it a place.
pub(super) fn program_bytes() -> usize {
    4 * Program::assemble(0, 0).words.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_fits_the_chips_8_kib_of_ram() {
        let bytes = program_bytes();
        assert!(bytes <= 8192, "{bytes}");
    }

    #[test]
    fn every_reference_is_resolved_inside_the_program() {
        let base = 0x8000_0000;
        let program = Program::assemble(base, 0x10_0000);
        let end = base + 4 * program.words.len() as u32;
        for pair in program.words.chunks_exact(2) {
            let transfer_control = pair[0] >> 30 == 2 && (pair[0] >> 27) & 7 == 0;
            if transfer_control {
                assert!((base..end).contains(&pair[1]), "{:08x?}", pair);
                assert_eq!((pair[1] - base) % 8, 0);
            }
        }
    }

    #[test]
    fn resume_addresses_point_at_block_moves() {
        let program = Program::assemble(0x1000, 0x10_0000);
        let word = |address: u32| program.words[(address as usize - 0x1000) / 4];
        assert_eq!(word(program.resume(true, ENTRIES)), 0x1900_0000);
        assert_eq!(word(program.resume(true, 1)), 0x1900_0000);
        assert_eq!(word(program.resume(false, ENTRIES)), 0x1800_0000);
        assert_eq!(program.resume(true, 0), program.discard);
    }
}
