//! The SCSI channels: 53C895A chips on the bus, and the disks on them as the storage layer uses them.
//!
//! A thread hands its command to the chip and waits; the chip's interrupt sets the channel's event bit, the channel's task
//! calls [`Channel::service`], and that wakes the thread. Several threads do so at once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use drivers::scsi::{
    self, Adapter, Command, Configuration, Data, Direction, DiskError, Outcome, Port, Request, Segment,
    SubmitError, Tag, Transport,
};
use firmware::board::{Disk, DiskIdentity, events};
use firmware::scheduler::{self, Event, WaitQueue};
use ppc750_nas::interrupts::Source;
use ppc750_nas::mmio::{BoardDma, Mmio};
use spin::Mutex;
use storage::{BlockDevice, DeviceError};

use super::clock;
use super::pci::Bus;

/// Vendor and device identification of the 53C895A.
const CHIP: (u16, u16) = (0x1000, 0x0012);
/// Channels that have an event bit.
const NAMES: [&str; 4] = ["SCSI channel 0", "SCSI channel 1", "SCSI channel 2", "SCSI channel 3"];
/// How long targets are left alone after a bus reset, in milliseconds (SCSI-2, 5.1.7).
const SETTLE: u32 = 250;
/// Microseconds after which a thread that found no room asks again, whatever happened.
const ROOM_PATIENCE: u64 = 1_000_000;

/// How long the channel's task goes on looking after the last command, in the driver's milliseconds. Less than any
/// command's time-out.
const LINGER: u64 = 1000;
/// Pieces of memory of a command that need no allocation.
const FEW_PIECES: usize = 16;

/// The driver's milliseconds: 1,024 microseconds each, which saves a 64-bit division for every command.
fn milliseconds() -> u64 {
    clock::now() >> 10
}

/// What a thread waits in: on its own stack, until the command has ended.
struct Waiter {
    ended: Event,
    outcome: Cell<Outcome>,
}

/// One channel.
pub struct Channel {
    adapter: Mutex<Adapter<Mmio, BoardDma>>,
    port: Arc<Port<Mmio>>,
    name: &'static str,
    event: u32,
    /// Who waits for which command.
    waiters: UnsafeCell<[Option<*const Waiter>; Tag::LIMIT]>,
    /// When the channel's task looks at the latest, in the driver's milliseconds.
    watched: Cell<u64>,
    /// Threads whose command found no room.
    room: WaitQueue,
    errors: AtomicU32,
    /// Whether the disk found last has left.
    gone: Mutex<Arc<AtomicBool>>,
}

// SAFETY: threads are cooperative and run on the only CPU; the interrupt handler touches `port` and `event` alone, which
// are made for it. Nobody keeps a reference into `waiters` while he waits.
unsafe impl Sync for Channel {}
// SAFETY: as above; there is nobody to send it to.
unsafe impl Send for Channel {}

impl Source for Channel {
    fn acknowledge(&self) -> u32 {
        if self.port.acknowledge() { self.event } else { 0 }
    }
}

/// Starts every SCSI chip on the bus; `warm` says that the disks may still be busy with what went before.
pub fn start(bus: &Bus, warm: bool) -> Vec<&'static Channel> {
    let mut channels: Vec<&'static Channel> = Vec::new();
    for device in bus.find(CHIP.0, CHIP.1) {
        let slot = device.address.slot;
        let Some(&name) = NAMES.get(channels.len()) else {
            log::warn!("53C895A in slot {slot}: no more than {} channels are used", NAMES.len());
            continue;
        };
        let Some(registers) = bus.registers(device, 1) else { continue };
        bus.enable_bus_master(device);
        // The program runs from host memory: QEMU fetches it from there in half the time that its chip's own RAM takes.
        let ram = None;
        let configuration = Configuration { name, reset_bus: warm, settle_milliseconds: SETTLE };
        let adapter = match Adapter::new(registers, ram, bus.dma(), configuration) {
            Ok(adapter) => adapter,
            Err(error) => {
                log::error!("53C895A in slot {slot}: {error:?}");
                continue;
            }
        };
        let channel: &'static Channel = Box::leak(Box::new(Channel {
            port: adapter.port(),
            adapter: Mutex::new(adapter),
            name,
            event: events::DISK << channels.len(),
            waiters: UnsafeCell::new([None; Tag::LIMIT]),
            watched: Cell::new(u64::MAX),
            room: WaitQueue::new(),
            errors: AtomicU32::new(0),
            gone: Mutex::new(Arc::default()),
        }));
        if !bus.attach_interrupt(device, channel) {
            log::error!("53C895A in slot {slot}: no room for its interrupt");
            continue;
        }
        channels.push(channel);
    }
    channels
}

impl Channel {
    /// Hands over what the chip has finished, and says when to look again at the latest.
    pub fn service(&self) -> Option<u64> {
        let mut freed = false;
        let mut adapter = self.adapter.lock();
        adapter.service(milliseconds(), &mut |completion| {
            freed = true;
            // SAFETY: see `Sync`; the reference ends with this statement.
            let waiter =
                unsafe { &mut *self.waiters.get() }.get_mut(completion.tag.index()).and_then(Option::take);
            if let Some(waiter) = waiter {
                // SAFETY: the waiter is on the stack of a thread that does not go on before `ended` is signalled.
                let waiter = unsafe { &*waiter };
                waiter.outcome.set(completion.outcome);
                waiter.ended.signal();
            }
        });
        let mut deadline = adapter.deadline();
        if deadline.is_none() && freed {
            // Where there was a command there will be another: the task need not be told of its time-out then.
            deadline = Some(milliseconds() + LINGER);
        }
        drop(adapter);
        self.watched.set(deadline.unwrap_or(u64::MAX));
        if freed {
            self.room.wake_all();
        }
        // A millisecond of the driver's later: the deadline itself has then surely passed.
        deadline.map(|deadline| (deadline + 1) << 10)
    }

    /// Failures that were reported to the storage layer.
    pub fn errors(&self) -> u32 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Whether the disk found last has left.
    pub fn disk_is_gone(&self) -> bool {
        self.gone.lock().load(Ordering::Relaxed)
    }

    fn run(&self, command: &Command<'_>, meanwhile: &mut dyn FnMut()) -> Outcome {
        let waiter = Waiter { ended: Event::new(), outcome: Cell::new(Outcome::Disconnected) };
        loop {
            // SAFETY: the caller of `execute` lends the memory until it returns, which is after the completion.
            let submitted = unsafe { self.adapter.lock().submit(milliseconds(), command) };
            match submitted {
                Ok(tag) => {
                    // SAFETY: see `Sync`; the reference ends with this statement.
                    if let Some(place) = unsafe { &mut *self.waiters.get() }.get_mut(tag.index()) {
                        *place = Some(&raw const waiter);
                    }
                    break;
                }
                Err(SubmitError::Busy) => {
                    self.room.wait_until(clock::now() + ROOM_PATIENCE);
                }
                Err(error) => {
                    log::error!("a SCSI command was refused: {error:?}");
                    return Outcome::Disconnected;
                }
            }
        }
        if self.watched.get() > milliseconds() + u64::from(command.timeout_milliseconds) {
            // The channel's task has a new time-out to watch.
            ppc750_nas::interrupts::post(self.event);
        }
        meanwhile();
        waiter.ended.wait();
        waiter.outcome.get()
    }
}

impl Transport for &'static Channel {
    fn execute(&self, request: Request<'_, '_>, meanwhile: &mut dyn FnMut()) -> Outcome {
        let segment = |pointer: *mut u8, length: usize| Segment { pointer, length: length as u32 };
        let mut few = [segment(core::ptr::null_mut(), 0); FEW_PIECES];
        let mut many = Vec::new();
        let mut collect = |count: usize, pieces: &mut dyn Iterator<Item = Segment>| {
            if count > FEW_PIECES {
                many = pieces.collect();
            } else {
                for (place, piece) in few.iter_mut().zip(pieces) {
                    *place = piece;
                }
            }
            count
        };
        let (direction, count) = match request.data {
            Data::None => (Direction::None, 0),
            Data::FromTarget(pieces) => {
                let count = pieces.len();
                let mut list = pieces.iter_mut().map(|piece| segment(piece.as_mut_ptr(), piece.len()));
                (Direction::FromTarget, collect(count, &mut list))
            }
            Data::ToTarget(pieces) => {
                let mut list = pieces.iter().map(|piece| segment(piece.as_ptr().cast_mut(), piece.len()));
                (Direction::ToTarget, collect(pieces.len(), &mut list))
            }
        };
        let segments = few.get(..count).unwrap_or(&many);
        let command = Command {
            target: request.target,
            descriptor: request.descriptor,
            direction,
            segments,
            tagged: request.tagged,
            exclusive: request.exclusive,
            timeout_milliseconds: request.timeout_milliseconds,
        };
        self.run(&command, meanwhile)
    }

    fn pause(&self, milliseconds: u32) {
        scheduler::sleep(u64::from(milliseconds) * 1000);
    }
}

/// A disk for the storage layer.
struct ScsiDisk {
    disk: scsi::Disk<&'static Channel>,
    channel: &'static Channel,
    /// The last answer was a failure of this kind of the whole disk: only the first of a row is worth a line of the log.
    failing: Cell<Option<DeviceError>>,
    /// The disk has left. When it comes back, somebody else may have written to it: it has to be found and mounted anew.
    gone: Arc<AtomicBool>,
}

// SAFETY: threads are cooperative and run on the only CPU; `failing` is not touched by interrupt handlers.
unsafe impl Sync for ScsiDisk {}
// SAFETY: as above.
unsafe impl Send for ScsiDisk {}

impl ScsiDisk {
    fn answer(&self, result: Result<(), DiskError>, what: &str) -> Result<(), DeviceError> {
        let Err(error) = result else {
            if self.failing.take().is_some() {
                log::info!("{}, disk {}: works again", self.channel.name, self.disk.target());
            }
            return Ok(());
        };
        self.channel.errors.fetch_add(1, Ordering::Relaxed);
        let answer = match error {
            DiskError::Medium { .. } => DeviceError::Medium,
            DiskError::WriteProtected => DeviceError::WriteProtected,
            DiskError::TimedOut => DeviceError::TimedOut,
            DiskError::Gone | DiskError::Changed | DiskError::NoMedium => DeviceError::Gone,
            DiskError::OutOfRange => DeviceError::OutOfRange,
            _ => DeviceError::Failed,
        };
        if answer == DeviceError::Gone {
            self.gone.store(true, Ordering::Relaxed);
        }
        if answer == DeviceError::Medium || self.failing.replace(Some(answer)) != Some(answer) {
            log::error!("{}, disk {}: {what}: {error}", self.channel.name, self.disk.target());
        }
        Err(answer)
    }
}

impl BlockDevice for ScsiDisk {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn execute(
        &self,
        command: storage::Command<'_, '_>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        if self.gone.load(Ordering::Relaxed) {
            meanwhile();
            return Err(DeviceError::Gone);
        }
        let (result, what) = match command {
            storage::Command::Read { block, buffers } => (self.disk.read(block, buffers, meanwhile), "read"),
            storage::Command::Write { block, buffers } => {
                (self.disk.write(block, buffers, meanwhile), "write")
            }
            storage::Command::Flush => (self.disk.flush(meanwhile), "flush"),
        };
        self.answer(result, what)
    }
}

/// Looks for a disk on a channel: the one with the lowest identity. Blocks the calling thread.
pub fn find(channel: &'static Channel) -> Option<Disk> {
    let disk = (0..scsi::TARGETS).filter(|&target| target != scsi::OWN_IDENTITY).find_map(|target| {
        match scsi::Disk::attach(channel, target) {
            Ok(disk) => Some(disk),
            Err(DiskError::Gone) => None,
            Err(error) => {
                log::error!("{}, disk {target}: {error}", channel.name);
                None
            }
        }
    })?;
    let found = disk.identity();
    let mut identity = DiskIdentity::default();
    // What does not fit is cut off; the fields of INQUIRY fit.
    let _ = write!(identity.model, "{} {}", found.vendor, found.product);
    let _ = identity.revision.push_str(&found.revision);
    let _ = identity.serial.push_str(&found.serial);
    let gone = Arc::new(AtomicBool::new(false));
    *channel.gone.lock() = gone.clone();
    Some(Disk { device: Arc::new(ScsiDisk { disk, channel, failing: Cell::new(None), gone }), identity })
}
