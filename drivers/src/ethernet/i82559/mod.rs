//! Intel 82559, PCI ids 8086:1229 (82557 to 82559) and 8086:1209 (82559ER): registers in the 4 KiB memory window of BAR 0,
//! command blocks and received frames in bus-master memory.
//!
//! - [`port`]: what the interrupt handler touches;
//! - [`receive`], [`transmit`]: the rings, one half each;
//! - [`eeprom`], [`configuration`]: where the station's address comes from, and how the chip is set up.
//!
//! The chip's interrupt is masked from the handler's run until the task rests, so a burst of frames costs one
//! interrupt. Nothing interrupts when a frame was sent, unless buffers are running short.

mod configuration;
mod eeprom;
mod port;
mod receive;
mod registers;
mod transmit;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use port::Port;
pub use receive::Receiver;
pub use transmit::Transmitter;

use self::registers::*;
use super::shared_memory::SharedMemory;
use super::{
    EthernetController, FrameReceiver, FrameTransmitter, Link, MacAddress, MulticastFilter, Statistics,
};
use crate::{Dma, Registers};

/// How many frames the rings hold. A frame takes about 1.5 KiB either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Received frames waiting for the task. A peer may send a whole window before the task runs: 45 frames for 64 KiB.
    pub receive: u16,
    /// Frames to be sent.
    pub transmit: u16,
}

impl Default for RingSizes {
    /// 384 KiB and 96 KiB.
    fn default() -> Self {
        Self { receive: 256, transmit: 64 }
    }
}

/// Why a chip could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The registers read as all ones: nothing is there.
    Absent,
    /// The EEPROM does not answer.
    NoEeprom,
    /// The EEPROM holds no address that a station can have.
    BadAddress(MacAddress),
    /// The chip does not execute commands.
    Unresponsive,
    /// No bus-master memory left.
    NoMemory,
}

/// An 82559 at work.
pub struct I82559<'p, R, D> {
    port: &'p Port<R, D>,
    receiver: Receiver<'p, R, D>,
    transmitter: Transmitter<'p, R, D>,
    /// Where the chip dumps its counters.
    dump: SharedMemory,
    /// A dump was asked for.
    dumping: bool,
    mac_address: MacAddress,
    eeprom_valid: bool,
    /// The filter is "every group".
    all_groups: bool,
    /// How many blocks were done when the watchdog last looked and saw more to do.
    suspect: Option<u32>,
    /// The chip's own counts so far, and restarts.
    chip_counts: Statistics,
}

impl<'p, R: Registers, D: Dma> I82559<'p, R, D> {
    /// Resets the chip behind `port` and starts reception, listening to every group. Its interrupt stays masked until the
    /// first [`rest`](EthernetController::rest). `delay` waits for at least that many microseconds.
    pub fn start(
        port: &'p Port<R, D>,
        sizes: RingSizes,
        delay: &mut dyn FnMut(u32),
    ) -> Result<Self, StartError> {
        if port.registers().read32(SCB_STATUS) == u32::MAX {
            return Err(StartError::Absent);
        }
        port.reset(delay);
        let eeprom = eeprom::read(port.registers(), delay).ok_or(StartError::NoEeprom)?;
        if !eeprom.mac_address.is_individual() {
            return Err(StartError::BadAddress(eeprom.mac_address));
        }
        let dump = SharedMemory::allocate(port.dma(), DUMP_COMPLETION + 4, 16);
        let mut chip = Self {
            port,
            receiver: Receiver::new(port, sizes.receive).ok_or(StartError::NoMemory)?,
            transmitter: Transmitter::new(port, sizes.transmit).ok_or(StartError::NoMemory)?,
            dump: dump.ok_or(StartError::NoMemory)?,
            dumping: false,
            mac_address: eeprom.mac_address,
            eeprom_valid: eeprom.checksum_valid,
            all_groups: true,
            suspect: None,
            chip_counts: Statistics::default(),
        };
        if chip.bring_up(delay) { Ok(chip) } else { Err(StartError::Unresponsive) }
    }

    /// Whether the EEPROM's checksum was right.
    pub fn eeprom_valid(&self) -> bool {
        self.eeprom_valid
    }

    /// The PHY's identifier, registers 2 and 3; `None` when the management interface does not answer.
    pub fn phy_identifier(&self) -> Option<u32> {
        Some(u32::from(self.port.read_phy(2)?) << 16 | u32::from(self.port.read_phy(3)?))
    }

    /// From a reset chip and cleared rings to reception.
    fn bring_up(&mut self, delay: &mut dyn FnMut(u32)) -> bool {
        let port = self.port;
        // Links are bus addresses: the bases they are added to are 0.
        let ready = port.command_with(LOAD_COMMAND_UNIT_BASE, 0)
            && port.command_with(LOAD_RECEIVE_UNIT_BASE, 0)
            && port.command_with(LOAD_DUMP_ADDRESS, self.dump.bus_address(0));
        if !ready {
            return false;
        }
        self.dumping = false;
        self.suspect = None;
        let MacAddress(address) = self.mac_address;
        // The ring was just cleared and holds at least eight blocks: these two fit, and reach the chip with `start`.
        self.transmitter.set_up(ACTION_CONFIGURE, configuration::bytes(self.all_groups));
        self.transmitter.set_up(ACTION_INDIVIDUAL_ADDRESS, address);
        if !self.transmitter.start() {
            return false;
        }
        for _ in 0..1000 {
            if self.transmitter.outstanding().is_none() {
                // What the wire brought while nobody listened is no loss: the counters start at 0, the dump is not read.
                return self.receiver.start() && port.command(DUMP_AND_RESET_COUNTERS);
            }
            delay(10);
        }
        false
    }

    /// Resets a chip that no longer works and starts it anew; frames in its rings are lost.
    fn restart(&mut self, delay: &mut dyn FnMut(u32)) {
        self.port.reset(delay);
        self.receiver.clear();
        self.transmitter.clear();
        self.chip_counts.restarts += 1;
        // The chip's table of groups is gone.
        self.all_groups = true;
        // If it fails, the watchdog tries again.
        self.bring_up(delay);
        self.port.listen();
    }

    /// Adds the counters of the dump that was asked for last, if it has come.
    fn collect_dump(&mut self) {
        if !self.dumping || self.dump.read32(DUMP_COMPLETION) != DUMP_AND_RESET_COMPLETE {
            return;
        }
        self.dumping = false;
        // Counters by offset (6.3.2.2.1, table 17).
        let counter = |offset: usize| u64::from(self.dump.read32(offset));
        let counts = &mut self.chip_counts;
        // Maximum collisions, late collisions, underruns, lost carrier.
        counts.transmit_errors += counter(4) + counter(8) + counter(12) + counter(16);
        // Checksum, alignment, overrun, collision, short frames.
        counts.receive_errors += counter(40) + counter(44) + counter(52) + counter(56) + counter(60);
        counts.receive_dropped += counter(48);
    }
}

impl<'p, R: Registers, D: Dma> EthernetController for I82559<'p, R, D> {
    type Receiver = Receiver<'p, R, D>;
    type Transmitter = Transmitter<'p, R, D>;

    fn halves(&mut self) -> (&mut Self::Receiver, &mut Self::Transmitter) {
        (&mut self.receiver, &mut self.transmitter)
    }

    fn service(&mut self) {
        if self.port.registers().read8(SCB_ACKNOWLEDGE) & CAUSE_RECEIVE_NOT_READY != 0 {
            self.receiver.stall();
        }
    }

    fn mac_address(&self) -> MacAddress {
        self.mac_address
    }

    fn link(&self) -> Link {
        let status = self.port.registers().read8(GENERAL_STATUS);
        Link {
            up: status & LINK_UP != 0,
            megabits: if status & LINK_100 != 0 { 100 } else { 10 },
            full_duplex: status & LINK_FULL_DUPLEX != 0,
        }
    }

    fn rest(&mut self) -> bool {
        self.transmitter.flush();
        // First the causes, then the rings: what comes in between is found below or interrupts after `listen`.
        let causes = self.port.registers().read8(SCB_ACKNOWLEDGE);
        if causes != 0 {
            self.port.registers().write8(SCB_ACKNOWLEDGE, causes);
        }
        if causes & CAUSE_RECEIVE_NOT_READY != 0 {
            self.receiver.stall();
        }
        if self.receiver.front().is_some() || self.transmitter.has_recovered() {
            return false;
        }
        self.port.listen();
        true
    }

    fn set_multicast(&mut self, filter: MulticastFilter<'_>) -> bool {
        let all_groups = filter == MulticastFilter::All;
        if let MulticastFilter::List(groups) = filter {
            let bytes = groups.len().saturating_mul(6);
            if bytes > transmit::PARAMETERS_MAXIMUM - 2 {
                return self.set_multicast(MulticastFilter::All);
            }
            // At most 1526: the count's 14 bits hold it.
            let parameters =
                (bytes as u16).to_le_bytes().into_iter().chain(groups.iter().flat_map(|group| group.0));
            if !self.transmitter.set_up(ACTION_MULTICAST, parameters) {
                return false;
            }
        }
        if all_groups != self.all_groups {
            if !self.transmitter.set_up(ACTION_CONFIGURE, configuration::bytes(all_groups)) {
                return false;
            }
            self.all_groups = all_groups;
        }
        self.transmitter.flush();
        true
    }

    fn supervise(&mut self, delay: &mut dyn FnMut(u32)) {
        self.collect_dump();
        let outstanding = self.transmitter.outstanding();
        if outstanding.is_some() && outstanding == self.suspect {
            return self.restart(delay);
        }
        self.suspect = outstanding;
        if self.port.registers().read8(SCB_STATUS) & RECEIVE_UNIT_MASK != RECEIVE_UNIT_READY {
            self.receiver.stall();
            // Starts the unit if no frame waits; else taking the frames does.
            self.receiver.front();
        }
        self.dump.write32(DUMP_COMPLETION, 0);
        self.dumping = self.port.command(DUMP_AND_RESET_COUNTERS);
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            received_frames: self.receiver.counts.frames,
            received_bytes: self.receiver.counts.bytes,
            transmitted_frames: self.transmitter.counts.frames,
            transmitted_bytes: self.transmitter.counts.bytes,
            receive_refused: self.receiver.counts.refused,
            receive_stalls: self.receiver.counts.stalls,
            interrupts: self.port.interrupts().into(),
            ..self.chip_counts
        }
    }
}
