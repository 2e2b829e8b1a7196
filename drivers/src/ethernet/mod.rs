//! Ethernet controllers: what a network task needs of one, and the chips that give it.
//!
//! A controller is two halves that can be borrowed at once, because a TCP/IP stack answers a frame while it still looks
//! at it. Both halves lend the frame where it lies in bus-master memory: the only copy is the one the stack makes into
//! or out of it. Frames lie two bytes off a word, so that IP and TCP headers and payloads lie on words.
//!
//! The interrupt handler calls no method of these traits. It owns the chip's port (for the 82559
//! [`i82559::Port::acknowledge_interrupt`]), which silences the chip until the task has caught up and calls
//! [`EthernetController::rest`].

pub mod i82559;
mod shared_memory;

/// The longest frame that is sent or taken: 14 bytes of header, 1500 bytes of payload; no VLAN tag, no checksum.
pub const FRAME_MAXIMUM: usize = 1514;

/// The shortest frame that says anything: both addresses and the type.
pub const FRAME_HEADER: usize = 14;

/// An IEEE 802 address in the order it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// All stations.
    pub const BROADCAST: Self = Self([0xFF; 6]);

    /// Whether one station can own it: the group bit is clear and it is not zero.
    pub fn is_individual(&self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

impl core::fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(":")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The state of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// A partner is there.
    pub up: bool,
    /// 10 or 100 Mb/s; meaningless while the link is down.
    pub megabits: u16,
    /// Both directions at once; meaningless while the link is down.
    pub full_duplex: bool,
}

/// Which frames to group addresses are taken. Those to the station's own address and to all stations always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MulticastFilter<'a> {
    /// Every group.
    All,
    /// These groups; the chip's hash lets some others through.
    List(&'a [MacAddress]),
}

/// What a port has seen since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames handed to the stack.
    pub received_frames: u64,
    /// Bytes of those, without checksums.
    pub received_bytes: u64,
    /// Frames that the stack had sent.
    pub transmitted_frames: u64,
    /// Bytes of those, without checksums.
    pub transmitted_bytes: u64,
    /// Frames the chip delivered and the driver refused: bad status, shorter than a header, longer than a buffer.
    pub receive_refused: u64,
    /// Times the receive ring ran full and reception had to be restarted.
    pub receive_stalls: u64,
    /// Good frames the chip dropped because the receive ring was full.
    pub receive_dropped: u64,
    /// Frames with checksum, alignment or length errors, or lost to bus latency, that the chip dropped.
    pub receive_errors: u64,
    /// Frames the chip could not send (collisions, underruns, lost carrier).
    pub transmit_errors: u64,
    /// Times the chip had to be reset because it stopped sending.
    pub restarts: u64,
    /// Interrupts that were this chip's.
    pub interrupts: u64,
}

/// The half of a controller that takes frames in.
pub trait FrameReceiver {
    /// The oldest frame, 14 to [`FRAME_MAXIMUM`] bytes without its checksum, where the chip put it; `None` when none waits.
    /// It stays the oldest until [`pop`](Self::pop).
    fn front(&mut self) -> Option<&[u8]>;

    /// The two oldest frames, when two are known to wait: to see whether the second makes the first needless.
    fn front_pair(&mut self) -> Option<(&[u8], &[u8])>;

    /// Gives the oldest frame's buffer back to the chip; nothing when there is none.
    fn pop(&mut self);
}

/// The half of a controller that sends frames.
pub trait FrameTransmitter {
    /// How many frames can be queued now. Takes back the buffers of sent frames, and rings the doorbell, when few are left.
    fn space(&mut self) -> usize;

    /// Lends a buffer of `length` bytes (14 to [`FRAME_MAXIMUM`], of old contents) to `fill` and queues it. The chip sees the
    /// frame at the next [`flush`](Self::flush), or sooner when many wait. Without [`space`](Self::space), or with a
    /// `length` that no frame has, the frame is lost as it might be on the wire (a length above is cut to the maximum).
    fn transmit<T>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T;

    /// Tells the chip of everything queued: one doorbell for all of it. To be called after each round of the stack.
    fn flush(&mut self);
}

/// One Ethernet port, as a network task uses it. In each round: [`service`](Self::service), frames by the
/// [`halves`](Self::halves), [`FrameTransmitter::flush`]; when nothing is left to do, [`rest`](Self::rest) and sleep.
pub trait EthernetController {
    /// The receiving half.
    type Receiver: FrameReceiver;
    /// The sending half.
    type Transmitter: FrameTransmitter;

    /// Both halves at once.
    fn halves(&mut self) -> (&mut Self::Receiver, &mut Self::Transmitter);

    /// Looks whether the receive unit ran out of buffers, so that it is started again as soon as some are free. One
    /// register access.
    fn service(&mut self);

    /// The port's own address.
    fn mac_address(&self) -> MacAddress;

    /// The state of the wire now: a register read, no waiting.
    fn link(&self) -> Link;

    /// Prepares for sleep: flushes, and lets the chip interrupt again. False when there is work already (a frame came
    /// meanwhile, or buffers to send became free that were missing): have another round, no interrupt is to come.
    fn rest(&mut self) -> bool;

    /// Chooses the group addresses to listen to. False when the chip takes no command just now: try again later.
    fn set_multicast(&mut self, filter: MulticastFilter<'_>) -> bool;

    /// To be called about once a second: collects the chip's counters, and resets a chip that no longer sends.
    /// `delay` waits for at least that many microseconds; used in a reset only.
    fn supervise(&mut self, delay: &mut dyn FnMut(u32));

    /// What the port has seen; the chip's own counts are as old as the last [`supervise`](Self::supervise).
    fn statistics(&self) -> Statistics;
}
