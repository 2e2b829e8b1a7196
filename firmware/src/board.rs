//! What the appliance needs from a machine: the 750 board implements it in `main.rs`, the simulated one in `sim`.
//!
//! Everything here is called from one CPU, by threads of the [scheduler](crate::scheduler) or by its loop, never from
//! an interrupt handler. A handler only acknowledges its chip and sets a bit of the word that
//! [`take_events`](Board::take_events) fetches.

use alloc::sync::Arc;

use embedded_storage::nor_flash::NorFlash;

/// Bits of the word that [`Board::take_events`] fetches: who wants to be serviced.
pub mod events {
    /// Ethernet port 0 has received or sent frames; port `n` is this bit shifted left by `n`, up to four.
    pub const PORT: u32 = 1 << 0;
    /// Disk channel 0 has finished something; channel `n` is this bit shifted left by `n`, up to four.
    pub const DISK: u32 = 1 << 8;
    /// The console has a byte to read or room to write.
    pub const CONSOLE: u32 = 1 << 16;
    /// The board's own use (a simulation's clock, a link change).
    pub const BOARD: u32 = 1 << 24;
}

/// A machine the appliance runs on. It lives for ever and there is one: threads hold `&'static` to it.
pub trait Board: 'static {
    /// An Ethernet port.
    type Port: NetworkPort;
    /// The boot flash. Erase blocks are 64 KiB.
    type Flash: NorFlash + 'static;

    /// Microseconds since the start, never going back. Called for every batch of packets and every wait: scale the
    /// timebase with a multiplication, not a division.
    fn now(&self) -> u64;

    /// The low word of the fastest counter there is, whose jitter at interrupts feeds the entropy pool.
    fn ticks(&self) -> u32;

    /// Seconds since 1970 by the battery-backed clock; `None` when it has none or it makes no sense.
    fn wall_clock(&self) -> Option<u64>;

    /// Sets the battery-backed clock to `seconds` since 1970.
    fn set_wall_clock(&self, seconds: u64);

    /// Takes (and clears) the event bits that interrupt handlers have set since the last call; see [`events`].
    fn take_events(&self) -> u32;

    /// Halts the CPU until an event bit is set or [`now`](Self::now) reaches `deadline` (`None`: no deadline). Returns
    /// at once when a bit is already set: the board closes the race between the look and the halt (interrupts are
    /// disabled while it looks). May return early for no reason.
    fn idle(&self, deadline: Option<u64>);

    /// How many Ethernet ports there are.
    fn port_count(&self) -> usize;

    /// Hands out port `index`, brought up and receiving; `None` when it does not work or was taken before. Called
    /// once for each by the net task.
    fn take_port(&self, index: usize) -> Option<Self::Port>;

    /// How many disk channels there are.
    fn disk_channel_count(&self) -> usize;

    /// Does what the channel's chip asks for (completions, recovery) and signals the threads that wait in its disk.
    /// Called by the channel's service task when the channel's [`events::DISK`] bit was set or the returned moment
    /// (on [`now`](Self::now)'s clock: the next command time-out) has come.
    fn service_disk_channel(&self, channel: usize) -> Option<u64>;

    /// Looks for a disk on `channel`. Called by a thread after the service tasks run, so it may block. May be called
    /// again later, when a disk has been exchanged.
    fn find_disk(&self, channel: usize) -> Option<Disk>;

    /// Errors that the disk on `channel` has answered since the start.
    fn disk_errors(&self, channel: usize) -> u32;

    /// Whether the disk last found on `channel` has left: it answers no more calls, even when it comes back, because what it
    /// holds may have changed meanwhile. [`find_disk`](Self::find_disk) then finds it anew.
    fn disk_is_gone(&self, _channel: usize) -> bool {
        false
    }

    /// Hands out the flash, once.
    fn take_flash(&self) -> Option<Self::Flash>;

    /// Reads bytes from the console into `buffer`; returns how many, 0 when none wait. Never blocks.
    fn console_read(&self, buffer: &mut [u8]) -> usize;

    /// Gives bytes to the console's transmit queue; returns how many it took. Never blocks; [`events::CONSOLE`] comes
    /// when there is room again.
    fn console_write(&self, bytes: &[u8]) -> usize;

    /// How memory stands.
    fn memory(&self) -> Memory;

    /// A line about the machine for the console: CPU, revision, controllers.
    fn description(&self) -> &str;

    /// Ends the run. On the board it does not return; a simulation notes it and does.
    fn restart(&self, how: Restart);
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Boot again.
    Reset,
    /// Switch the power off; where the machine cannot, halt.
    PowerOff,
}

/// How memory stands, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// RAM fitted.
    pub total: usize,
    /// Taken by the image: code, data, boot stack.
    pub image: usize,
    /// The heap's size.
    pub heap: usize,
    /// Of the heap, in use now.
    pub used: usize,
    /// The most that was ever in use.
    pub high_water: usize,
}

/// A disk that was found.
#[derive(Clone)]
pub struct Disk {
    /// What the storage layer uses. Its calls block the calling thread on scheduler events; several threads may call at
    /// once.
    pub device: Arc<dyn storage::BlockDevice>,
    /// What it calls itself.
    pub identity: DiskIdentity,
}

/// What a disk calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskIdentity {
    /// Manufacturer and model.
    pub model: heapless::String<40>,
    /// Firmware revision.
    pub revision: heapless::String<8>,
    /// Serial number.
    pub serial: heapless::String<32>,
}

/// One Ethernet port: a receive half and a transmit half that the stack uses at the same time.
pub trait NetworkPort: 'static {
    /// The receive half.
    type Receiver: FrameReceiver;
    /// The transmit half.
    type Transmitter: FrameTransmitter;

    /// The station address.
    fn address(&self) -> [u8; 6];

    /// The chip's name, for the console.
    fn model(&self) -> &str;

    /// Whether the link is up.
    fn link_is_up(&mut self) -> bool;

    /// At the start of each round: looks whether the receive unit ran dry, so that it is restarted as buffers come free.
    fn service(&mut self);

    /// Both halves at once.
    fn halves(&mut self) -> (&mut Self::Receiver, &mut Self::Transmitter);

    /// The one doorbell of a batch: hands all frames transmitted since the last call to the chip, and the receive
    /// buffers that were given back.
    fn kick(&mut self);

    /// Lets the chip interrupt again, which its handler masked: called after [`kick`](Self::kick) when the task is about to
    /// sleep. False when there is work already and no event is to come for it.
    fn rest(&mut self) -> bool;

    /// Counters since the start.
    fn statistics(&self) -> PortStatistics;
}

/// The receive half of a port. Frames stay where the chip put them until they are popped.
pub trait FrameReceiver {
    /// The oldest received frame, from the destination address up to the end of the payload (no CRC); `None` when
    /// none waits. Does not take it: the same frame is returned until [`pop`](Self::pop).
    fn front(&mut self) -> Option<&[u8]>;

    /// The two oldest frames, when two are known to wait, so that a first one which the second makes needless can be
    /// dropped. A port that cannot tell says `None`.
    fn front_pair(&mut self) -> Option<(&[u8], &[u8])> {
        None
    }

    /// Gives the oldest frame's buffer back to the ring. Cheap: the chip is told at the next [`NetworkPort::kick`].
    fn pop(&mut self);
}

/// The transmit half of a port.
pub trait FrameTransmitter {
    /// How many more frames fit before a [`NetworkPort::kick`] and their being sent.
    fn space(&mut self) -> usize;

    /// Takes a ring buffer, lets `fill` write the frame of `length` bytes (at most 1,514; padding to the minimum is
    /// the driver's business), and queues it. Called only when [`space`](Self::space) is not 0. The frame leaves at
    /// the next kick.
    fn transmit<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// A port's counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortStatistics {
    /// Frames received whole.
    pub received: u32,
    /// Frames sent.
    pub sent: u32,
    /// Frames lost for want of a receive buffer.
    pub overruns: u32,
    /// Frames received with errors, and those that could not be sent.
    pub errors: u32,
    /// Interrupts taken.
    pub interrupts: u32,
}
