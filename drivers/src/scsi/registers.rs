//! Operating registers of the LSI 53C895A, as offsets into its memory window (BAR1), with the bits the driver uses.
//!
//! Names and numbers: LSI53C895A PCI to Ultra2 SCSI Controller Technical Manual, chapter 4.

/// SCSI control zero: arbitration mode and parity.
pub(super) const SCNTL0: usize = 0x00;
/// SCNTL0: full arbitration, selection and reselection.
pub(super) const SCNTL0_FULL_ARBITRATION: u8 = 0xC0;
/// SCNTL0: check the parity of what targets send.
pub(super) const SCNTL0_ENABLE_PARITY_CHECKING: u8 = 0x08;

/// SCSI control one.
pub(super) const SCNTL1: usize = 0x01;
/// SCNTL1: drive the bus's RST line.
pub(super) const SCNTL1_RESET: u8 = 0x08;

/// SCNTL1: connected to the bus.
pub(super) const SCNTL1_CONNECTED: u8 = 0x10;

/// SCSI control two; bit 7 is "SCSI disconnect unexpected".
pub(super) const SCNTL2: usize = 0x02;
/// SCSI control three: clock divisors.
pub(super) const SCNTL3: usize = 0x03;
/// SCNTL3: asynchronous core clock is the 40 MHz input divided by two.
pub(super) const SCNTL3_ASYNCHRONOUS: u8 = 0x03;

/// Own SCSI identity.
pub(super) const SCID: usize = 0x04;
/// SCID: answer reselection.
pub(super) const SCID_RESPOND_TO_RESELECTION: u8 = 0x40;
/// Synchronous period and offset; zero is asynchronous.
pub(super) const SXFER: usize = 0x05;
/// Identity of the target that reselected (bits 3:0).
pub(super) const SSID: usize = 0x0A;
/// SCSI status one; bits 2:0 are the latched bus phase.
pub(super) const SSTAT1: usize = 0x0E;
/// Data structure address: the running command's block.
pub(super) const DSA: usize = 0x10;

/// Interrupt status zero.
pub(super) const ISTAT0: usize = 0x14;
/// ISTAT0: stop SCRIPTS.
pub(super) const ISTAT0_ABORT: u8 = 0x80;
/// ISTAT0: reset the chip (not the bus).
pub(super) const ISTAT0_SOFTWARE_RESET: u8 = 0x40;
/// ISTAT0: signal process, which ends WAIT RESELECT.
pub(super) const ISTAT0_SIGNAL_PROCESS: u8 = 0x20;
/// ISTAT0: interrupt on the fly; written as one to clear it.
pub(super) const ISTAT0_ON_THE_FLY: u8 = 0x04;
/// ISTAT0: something in SIST0 or SIST1.
pub(super) const ISTAT0_SCSI_PENDING: u8 = 0x02;
/// ISTAT0: something in DSTAT.
pub(super) const ISTAT0_DMA_PENDING: u8 = 0x01;

/// DMA status; reading clears it.
pub(super) const DSTAT: usize = 0x0C;
/// DSTAT: master data parity error.
pub(super) const DSTAT_MASTER_PARITY: u8 = 0x40;
/// DSTAT: PCI bus fault.
pub(super) const DSTAT_BUS_FAULT: u8 = 0x20;
/// DSTAT: SCRIPTS were stopped by ISTAT0's abort bit.
pub(super) const DSTAT_ABORTED: u8 = 0x10;
/// DSTAT: SCRIPTS executed INT.
pub(super) const DSTAT_SCRIPTS_INTERRUPT: u8 = 0x04;
/// DSTAT: illegal SCRIPTS instruction.
pub(super) const DSTAT_ILLEGAL_INSTRUCTION: u8 = 0x01;

/// Chip test two; reading it clears "signal process".
pub(super) const CTEST2: usize = 0x1A;
/// Chip test four.
pub(super) const CTEST4: usize = 0x21;
/// CTEST4: check parity as PCI master.
pub(super) const CTEST4_MASTER_PARITY: u8 = 0x08;
/// SCRIPTS pointer; writing its last byte starts SCRIPTS.
pub(super) const DSP: usize = 0x2C;
/// Second word of the last SCRIPTS instruction: the code of an INT.
pub(super) const DSPS: usize = 0x30;
/// Scratch register A, for SCRIPTS' arithmetic.
pub(super) const SCRATCHA: usize = 0x34;

/// DMA mode.
pub(super) const DMODE: usize = 0x38;
/// DMODE: bursts of 16 transfers, PCI read line and read multiple commands.
pub(super) const DMODE_BURST_16_READ_LINE_MULTIPLE: u8 = 0xCC;
/// DMA interrupt enable.
pub(super) const DIEN: usize = 0x39;
/// DMA control.
pub(super) const DCNTL: usize = 0x3B;
/// DCNTL: cache line size enable, prefetch enable, no 53C700 compatibility (so that a reselection leaves SFBR alone).
pub(super) const DCNTL_CACHE_LINE_PREFETCH: u8 = 0xA1;

/// SCSI interrupt enable zero and one.
pub(super) const SIEN0: usize = 0x40;
/// See [`SIEN0`].
pub(super) const SIEN1: usize = 0x41;
/// SCSI interrupt status zero (low byte) and one (high byte); reading clears them.
pub(super) const SIST0: usize = 0x42;
/// SIST0: phase mismatch.
pub(super) const SIST0_PHASE_MISMATCH: u8 = 0x80;
/// SIST0: gross error.
pub(super) const SIST0_GROSS_ERROR: u8 = 0x08;
/// SIST0: unexpected disconnect.
pub(super) const SIST0_UNEXPECTED_DISCONNECT: u8 = 0x04;
/// SIST0: the bus was reset.
pub(super) const SIST0_BUS_RESET: u8 = 0x02;
/// SIST0: parity error.
pub(super) const SIST0_PARITY: u8 = 0x01;
/// SIST1: selection time-out.
pub(super) const SIST1_SELECTION_TIME_OUT: u8 = 0x04;

/// SCSI timer zero: bits 3:0 are the selection time-out.
pub(super) const STIME0: usize = 0x48;
/// STIME0: 204.8 ms with a 40 MHz clock, the nearest below SCSI's 250 ms.
pub(super) const STIME0_SELECTION_205_MILLISECONDS: u8 = 0x0C;
/// Response identity zero: a bit for each identity the chip answers to.
pub(super) const RESPID0: usize = 0x4A;
/// SCSI test three.
pub(super) const STEST3: usize = 0x4F;
/// STEST3: TolerANT receivers and active negation.
pub(super) const STEST3_TOLERANT: u8 = 0x80;
/// Chip control zero.
pub(super) const CCNTL0: usize = 0x56;
/// CCNTL0: a phase mismatch jumps instead of interrupting.
pub(super) const CCNTL0_PHASE_MISMATCH_JUMP: u8 = 0x80;
/// Chip control one: no 64-bit addressing at all.
pub(super) const CCNTL1: usize = 0x57;
/// CCNTL1: never issue PCI dual address cycles.
pub(super) const CCNTL1_NO_DUAL_ADDRESS: u8 = 0x08;
/// Scratch register B: here the low byte of the next start-ring entry's address.
pub(super) const SCRATCHB: usize = 0x5C;
/// Scratch register C: here the address of the SCRIPTS that throw surplus data away.
pub(super) const SCRATCHC: usize = 0x60;
/// Where a phase mismatch jumps to, without and with a byte left over from a wide transfer.
pub(super) const PMJAD1: usize = 0xC0;
/// See [`PMJAD1`].
pub(super) const PMJAD2: usize = 0xC4;
/// Cumulative SCSI byte count: bytes moved in data phases since it was last loaded.
pub(super) const CSBC: usize = 0xDC;

/// Bus phases, as in SSTAT1 and in SCRIPTS instructions.
pub(super) const PHASE_DATA_OUT: u32 = 0;
/// See [`PHASE_DATA_OUT`].
pub(super) const PHASE_DATA_IN: u32 = 1;
/// See [`PHASE_DATA_OUT`].
pub(super) const PHASE_COMMAND: u32 = 2;
/// See [`PHASE_DATA_OUT`].
pub(super) const PHASE_STATUS: u32 = 3;
/// See [`PHASE_DATA_OUT`].
pub(super) const PHASE_MESSAGE_OUT: u32 = 6;
/// See [`PHASE_DATA_OUT`].
pub(super) const PHASE_MESSAGE_IN: u32 = 7;
