//! A SCSI disk: block commands (SBC) with retries and typed errors, and the scan for disks on a channel.

use super::{OWN_IDENTITY, Outcome, Sense, SenseKey, TARGETS, status};
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The most data of one command, in bytes.
const MAXIMUM_TRANSFER: u64 = 1 << 20;
/// The most pieces of memory of one command.
const MAXIMUM_PIECES: usize = 256;

const TIMEOUT_SHORT: u32 = 5_000;
const TIMEOUT_TRANSFER: u32 = 8_000;
const TIMEOUT_FLUSH: u32 = 30_000;
/// Commands that a disk has at once until it answers QUEUE FULL: more than a channel takes.
const MAXIMUM_DEPTH: u32 = 64;
/// So many commands after which one more is tried again.
const CALM: u32 = 1000;
/// How often a command asks whether there is room for it, before it tries all the same.
const ROOM_TRIES: u32 = 100;
/// Bad blocks of one write that are put somewhere else.
const MAXIMUM_REASSIGNED: u32 = 8;
/// REASSIGN BLOCKS: the list has addresses of 8 bytes.
const LONG_ADDRESSES: u8 = 0x02;
/// Mode pages, and bits of their byte 2.
const ERROR_RECOVERY_PAGE: u8 = 0x01;
const WRITE_REALLOCATION_ENABLED: u8 = 0x80;
const CACHING_PAGE: u8 = 0x08;
const WRITE_CACHE_ENABLED: u8 = 0x04;
/// A disk may take this long to spin up, in pauses of half a second.
const BECOMING_READY_TRIES: u32 = 60;

const TEST_UNIT_READY: u8 = 0x00;
const INQUIRY: u8 = 0x12;
const MODE_SENSE_6: u8 = 0x1A;
const START_STOP_UNIT: u8 = 0x1B;
const REASSIGN_BLOCKS: u8 = 0x07;
const READ_CAPACITY_10: u8 = 0x25;
const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2A;
const SYNCHRONIZE_CACHE_10: u8 = 0x35;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8A;
const SERVICE_ACTION_IN_16: u8 = 0x9E;
const READ_CAPACITY_16: u8 = 0x10;

/// A command's data, as safe slices.
#[derive(Debug)]
pub enum Data<'a, 'b> {
    /// None.
    None,
    /// The target sends, in this order.
    FromTarget(&'a mut [&'b mut [u8]]),
    /// The target receives, in this order.
    ToTarget(&'a [&'b [u8]]),
}

impl<'b> Data<'_, 'b> {
    /// The same once more, for another attempt.
    fn again(&mut self) -> Data<'_, 'b> {
        match self {
            Data::None => Data::None,
            Data::FromTarget(pieces) => Data::FromTarget(pieces),
            Data::ToTarget(pieces) => Data::ToTarget(pieces),
        }
    }

    fn length(&self) -> u64 {
        match self {
            Data::None => 0,
            Data::FromTarget(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Data::ToTarget(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }
}

/// One command for a [`Transport`].
#[derive(Debug)]
pub struct Request<'a, 'b> {
    /// The target's identity.
    pub target: u8,
    /// The command descriptor block.
    pub descriptor: &'a [u8],
    /// Its data: at most 256 pieces and 1 MiB.
    pub data: Data<'a, 'b>,
    /// Whether to use a queue tag.
    pub tagged: bool,
    /// Whether it has to be alone on the channel.
    pub exclusive: bool,
    /// How long it may take, in milliseconds.
    pub timeout_milliseconds: u32,
}

/// A channel on which a thread can wait. The firmware makes it of an [`Adapter`](super::Adapter) and its scheduler.
///
/// An implementation keeps the data's memory borrowed until the command ended, whatever happens.
pub trait Transport {
    /// Runs a command to its end; several threads may do so at once. `meanwhile` is called at most once, while the
    /// command is in flight: it may begin others.
    fn execute(&self, request: Request<'_, '_>, meanwhile: &mut dyn FnMut()) -> Outcome;

    /// Lets the calling thread sleep.
    fn pause(&self, milliseconds: u32);
}

/// Why a disk did not do as told. Whatever could be cured by trying again was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    /// Blocks can't be read or written; the first of them, where the disk said so.
    Medium {
        /// Logical block address.
        block: Option<u64>,
    },
    /// The disk says that it is broken.
    Hardware(Sense),
    /// There is no medium in the drive.
    NoMedium,
    /// The disk does not become ready.
    NotReady(Sense),
    /// The disk is write-protected.
    WriteProtected,
    /// The disk did not finish in time.
    TimedOut,
    /// No disk answers (any more).
    Gone,
    /// Another disk, or another capacity, than when it was attached.
    Changed,
    /// The disk started anew, or came back, with writes in its cache: some may be lost.
    Restarted,
    /// Blocks beyond the disk's end.
    OutOfRange,
    /// Not a disk, or a command or block size that is not supported.
    Unsupported,
    /// Busy for too long, too many aborts and resets, or answers that make no sense.
    Protocol,
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DiskError::Medium { block: Some(block) } => {
                write!(formatter, "medium error at block {block}")
            }
            DiskError::Medium { block: None } => write!(formatter, "medium error"),
            DiskError::Hardware(sense) => write!(formatter, "hardware error ({sense:?})"),
            DiskError::NoMedium => write!(formatter, "no medium"),
            DiskError::NotReady(sense) => write!(formatter, "not ready ({sense:?})"),
            DiskError::WriteProtected => write!(formatter, "write-protected"),
            DiskError::TimedOut => write!(formatter, "no answer in time"),
            DiskError::Gone => write!(formatter, "no disk answers"),
            DiskError::Changed => write!(formatter, "another disk than before"),
            DiskError::Restarted => write!(formatter, "started anew with writes in its cache"),
            DiskError::OutOfRange => write!(formatter, "beyond the end of the disk"),
            DiskError::Unsupported => write!(formatter, "not supported"),
            DiskError::Protocol => write!(formatter, "no sensible answer"),
        }
    }
}

impl core::error::Error for DiskError {}

/// What INQUIRY says of a disk, blanks trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Firmware revision.
    pub revision: String,
    /// Unit serial number (vital product data page 0x80); empty where the disk has none.
    pub serial: String,
    /// Whether the disk queues tagged commands.
    pub queues: bool,
}

/// What the caller wants done while its command is in flight; taken by the first attempt.
type Meanwhile<'a> = Option<&'a mut dyn FnMut()>;

fn run_now(meanwhile: &mut Meanwhile<'_>) {
    if let Some(meanwhile) = meanwhile.take() {
        meanwhile();
    }
}

/// A piece of a transfer's memory, which can be cut in two.
trait Piece: Sized {
    fn length(&self) -> usize;
    fn cut(self, at: usize) -> (Self, Self);
}

impl Piece for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn cut(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl Piece for &mut [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn cut(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

/// How often a command may fail for each reason before the failure is final.
struct Patience {
    unit_attention: u32,
    becoming_ready: u32,
    not_ready: u32,
    busy: u32,
    medium: u32,
    hardware: u32,
    aborted: u32,
    bus_reset: u32,
    selection: u32,
    timed_out: u32,
    disconnected: u32,
    started: bool,
    exclusive: bool,
}

impl Patience {
    fn new() -> Patience {
        Patience {
            unit_attention: 8,
            becoming_ready: BECOMING_READY_TRIES,
            not_ready: 3,
            busy: 20,
            medium: 2,
            hardware: 1,
            aborted: 5,
            bus_reset: 4,
            selection: 1,
            timed_out: 1,
            disconnected: 2,
            started: false,
            exclusive: false,
        }
    }
}

/// What to do about an outcome.
enum Verdict {
    Done(u32),
    Again,
    AgainAfter(u32),
    Start,
    Failed(DiskError),
}

fn spend(budget: &mut u32, again: Verdict, error: DiskError) -> Verdict {
    if *budget == 0 {
        return Verdict::Failed(error);
    }
    *budget -= 1;
    again
}

/// One disk.
#[derive(Debug)]
pub struct Disk<T> {
    transport: T,
    target: u8,
    identity: Identity,
    blocks: u64,
    block_size: u32,
    write_cache: bool,
    /// The disk puts blocks that it cannot write somewhere else by itself.
    reallocates: bool,
    /// Commands on their way to the disk, and how many it takes at once, as far as it has said so.
    in_flight: AtomicU32,
    depth: AtomicU32,
    /// Commands since that number changed.
    calm: AtomicU32,
    doubt: Doubt,
    /// Something was written since the last flush began.
    unflushed: AtomicBool,
}

/// What happened to a disk that its user has to know of.
#[derive(Debug, Default)]
struct Doubt {
    /// Before the next command the disk has to prove that it is still the same.
    raised: AtomicBool,
    /// The disk started anew: what its write cache held may be lost.
    restarted: AtomicBool,
}

impl Doubt {
    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }
}

impl<T: Transport> Disk<T> {
    /// Finds out what the disk is. Waits until it is ready.
    pub fn attach(transport: T, target: u8) -> Result<Self, DiskError> {
        let identity = inquire(&transport, target)?;
        let mut disk = Disk {
            transport,
            target,
            identity,
            blocks: 0,
            block_size: 0,
            write_cache: false,
            reallocates: true,
            in_flight: AtomicU32::new(0),
            depth: AtomicU32::new(MAXIMUM_DEPTH),
            calm: AtomicU32::new(0),
            doubt: Doubt::default(),
            unflushed: AtomicBool::new(false),
        };
        disk.simple(&[TEST_UNIT_READY, 0, 0, 0, 0, 0], &mut [])?;
        (disk.blocks, disk.block_size) = disk.capacity()?;
        disk.write_cache = disk.mode_bit(CACHING_PAGE, WRITE_CACHE_ENABLED);
        disk.reallocates = disk.mode_bit(ERROR_RECOVERY_PAGE, WRITE_REALLOCATION_ENABLED);
        disk.doubt = Doubt::default();
        Ok(disk)
    }

    /// Its identity on the channel.
    pub fn target(&self) -> u8 {
        self.target
    }

    /// Who made it and so on.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of a block: 512, 1024, 2048 or 4096.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Whether it acknowledges writes before they are on the medium, so that [`flush`](Self::flush) matters.
    pub fn write_cache(&self) -> bool {
        self.write_cache
    }

    /// Reads blocks from `block` on into `buffers`, which are a whole number of blocks together. `meanwhile` runs once,
    /// while the command is in flight or where there is none.
    pub fn read(
        &self,
        block: u64,
        buffers: &mut [&mut [u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DiskError> {
        let mut meanwhile = Some(meanwhile);
        let total = self.check(block, buffers.iter().map(|piece| piece.len() as u64).sum());
        let result = total.and_then(|total| {
            if total <= MAXIMUM_TRANSFER && buffers.len() <= MAXIMUM_PIECES {
                return self.transfer(block, total, Data::FromTarget(buffers), &mut meanwhile);
            }
            let pieces = buffers.iter_mut().map(|piece| &mut **piece);
            self.in_parts(block, pieces, |block, bytes, part| {
                self.transfer(block, bytes, Data::FromTarget(part), &mut meanwhile)
            })
        });
        run_now(&mut meanwhile);
        result
    }

    /// Writes blocks from `block` on out of `buffers`; as [`read`](Self::read).
    pub fn write(&self, block: u64, buffers: &[&[u8]], meanwhile: &mut dyn FnMut()) -> Result<(), DiskError> {
        self.unflushed.store(true, Ordering::Relaxed);
        let mut meanwhile = Some(meanwhile);
        let total = self.check(block, buffers.iter().map(|piece| piece.len() as u64).sum());
        let result = total.and_then(|total| {
            if total <= MAXIMUM_TRANSFER && buffers.len() <= MAXIMUM_PIECES {
                return self.rewrite(block, total, buffers, &mut meanwhile);
            }
            self.in_parts(block, buffers.iter().copied(), |block, bytes, part| {
                self.rewrite(block, bytes, part, &mut meanwhile)
            })
        });
        run_now(&mut meanwhile);
        result
    }

    /// Runs `transfer` with block, bytes and pieces for one part after the other of a transfer that is more than one
    /// command can do.
    fn in_parts<P: Piece>(
        &self,
        mut block: u64,
        mut pieces: impl Iterator<Item = P>,
        mut transfer: impl FnMut(u64, u64, &mut [P]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut rest: Option<P> = None;
        let mut part: Vec<P> = Vec::with_capacity(MAXIMUM_PIECES);
        loop {
            let mut bytes = 0;
            part.clear();
            while part.len() < MAXIMUM_PIECES && bytes < MAXIMUM_TRANSFER {
                let Some(piece) = rest.take().or_else(|| pieces.next()) else { break };
                let length = piece.length();
                if length == 0 {
                    continue;
                }
                let take = length.min((MAXIMUM_TRANSFER - bytes) as usize);
                let take = self.cut(bytes, take, part.len())?;
                let (head, tail) = piece.cut(take);
                if take < length {
                    rest = Some(tail);
                }
                part.push(head);
                bytes += take as u64;
            }
            if bytes == 0 {
                return Ok(());
            }
            transfer(block, bytes, &mut part)?;
            block += bytes / u64::from(self.block_size);
        }
    }

    /// Makes everything written so far lie on the medium (SYNCHRONIZE CACHE); `meanwhile` as in [`read`](Self::read).
    pub fn flush(&self, meanwhile: &mut dyn FnMut()) -> Result<(), DiskError> {
        let descriptor = [SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut meanwhile = Some(meanwhile);
        let unflushed = self.unflushed.swap(false, Ordering::Relaxed);
        let result = self.run(&descriptor, &mut Data::None, TIMEOUT_FLUSH, &mut meanwhile);
        run_now(&mut meanwhile);
        let restarted = self.doubt.restarted.swap(false, Ordering::AcqRel) && self.write_cache;
        match result {
            Ok(_) if restarted && unflushed => Err(DiskError::Restarted),
            // A disk without a cache need not know the command.
            Ok(_) | Err(DiskError::Unsupported) => Ok(()),
            Err(error) => {
                self.unflushed.fetch_or(unflushed, Ordering::Relaxed);
                self.doubt.restarted.fetch_or(restarted, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// The bytes to take of a piece when `bytes` are taken already: the last piece of a command ends on a block.
    fn cut(&self, bytes: u64, take: usize, pieces: usize) -> Result<usize, DiskError> {
        let surplus = (bytes + take as u64) % u64::from(self.block_size);
        if pieces + 1 < MAXIMUM_PIECES || surplus == 0 {
            return Ok(take);
        }
        match take.checked_sub(surplus as usize) {
            Some(left) if left > 0 => Ok(left),
            _ => Err(DiskError::Unsupported),
        }
    }

    /// Checks a range, returns its length.
    fn check(&self, block: u64, bytes: u64) -> Result<u64, DiskError> {
        let size = u64::from(self.block_size);
        if !bytes.is_multiple_of(size) {
            return Err(DiskError::Unsupported);
        }
        match block.checked_add(bytes / size) {
            Some(end) if end <= self.blocks => Ok(bytes),
            _ => Err(DiskError::OutOfRange),
        }
    }

    /// Writes; blocks that the disk can neither write nor put somewhere else by itself, it is told to (SBC, REASSIGN
    /// BLOCKS).
    fn rewrite(
        &self,
        block: u64,
        bytes: u64,
        pieces: &[&[u8]],
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), DiskError> {
        let mut result = self.transfer(block, bytes, Data::ToTarget(pieces), meanwhile);
        for _ in 0..MAXIMUM_REASSIGNED {
            let Err(DiskError::Medium { block: Some(bad) }) = result else { break };
            let end = block + bytes / u64::from(self.block_size);
            if self.reallocates || !(block..end).contains(&bad) || self.reassign(bad).is_err() {
                break;
            }
            log::warn!("disk {}: block {bad} was put somewhere else", self.target);
            result = self.transfer(block, bytes, Data::ToTarget(pieces), meanwhile);
        }
        result
    }

    fn reassign(&self, block: u64) -> Result<(), DiskError> {
        let mut list = [0; 12];
        let (flags, length) = match u32::try_from(block) {
            Ok(short) => {
                list[4..8].copy_from_slice(&short.to_be_bytes());
                (0, 8)
            }
            Err(_) => {
                list[4..].copy_from_slice(&block.to_be_bytes());
                (LONG_ADDRESSES, 12)
            }
        };
        list[3] = length as u8 - 4;
        let descriptor = [REASSIGN_BLOCKS, flags, 0, 0, 0, 0];
        let data = &mut Data::ToTarget(&[&list[..length]]);
        self.run(&descriptor, data, TIMEOUT_FLUSH, &mut None).map(|_| ())
    }

    fn transfer(
        &self,
        block: u64,
        bytes: u64,
        mut data: Data<'_, '_>,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), DiskError> {
        let count = (bytes / u64::from(self.block_size)) as u32;
        if count == 0 {
            return Ok(());
        }
        let write = matches!(data, Data::ToTarget(_));
        let [c3, c2, c1, c0] = count.to_be_bytes();
        let moved = if block + u64::from(count) <= 1 << 32 && count <= 0xFFFF {
            let [b3, b2, b1, b0] = (block as u32).to_be_bytes();
            let code = if write { WRITE_10 } else { READ_10 };
            let descriptor = [code, 0, b3, b2, b1, b0, 0, c1, c0, 0];
            self.run(&descriptor, &mut data, TIMEOUT_TRANSFER, meanwhile)?
        } else {
            let code = if write { WRITE_16 } else { READ_16 };
            let mut descriptor = [code, 0, 0, 0, 0, 0, 0, 0, 0, 0, c3, c2, c1, c0, 0, 0];
            descriptor[2..10].copy_from_slice(&block.to_be_bytes());
            self.run(&descriptor, &mut data, TIMEOUT_TRANSFER, meanwhile)?
        };
        if u64::from(moved) == bytes { Ok(()) } else { Err(DiskError::Protocol) }
    }

    /// A command with a small answer.
    fn simple(&self, descriptor: &[u8], answer: &mut [u8]) -> Result<u32, DiskError> {
        if answer.is_empty() {
            return self.run(descriptor, &mut Data::None, TIMEOUT_SHORT, &mut None);
        }
        self.run(descriptor, &mut Data::FromTarget(&mut [answer]), TIMEOUT_SHORT, &mut None)
    }

    /// Runs a command of a user, after the disk has proved itself where there is doubt.
    fn run(
        &self,
        descriptor: &[u8],
        data: &mut Data<'_, '_>,
        timeout: u32,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<u32, DiskError> {
        let mut patience = Patience::new();
        loop {
            if self.block_size != 0 && self.doubt.raised.load(Ordering::Acquire) {
                self.prove()?;
            }
            if let Some(moved) = self.attempt(descriptor, data, timeout, &mut patience, meanwhile)? {
                return Ok(moved);
            }
        }
    }

    /// One attempt: `None` is "again".
    fn attempt(
        &self,
        descriptor: &[u8],
        data: &mut Data<'_, '_>,
        timeout: u32,
        patience: &mut Patience,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<Option<u32>, DiskError> {
        let request = Request {
            target: self.target,
            descriptor,
            data: data.again(),
            tagged: self.identity.queues,
            exclusive: patience.exclusive,
            timeout_milliseconds: timeout,
        };
        let outcome = self.at_depth(request, meanwhile);
        match judge(outcome, data.length(), patience, &self.doubt) {
            Verdict::Done(moved) => Ok(Some(moved)),
            Verdict::Again => Ok(None),
            Verdict::AgainAfter(milliseconds) => {
                self.transport.pause(milliseconds);
                Ok(None)
            }
            Verdict::Start => {
                // START UNIT; its failure shows in the next attempt.
                let request = Request {
                    target: self.target,
                    descriptor: &[START_STOP_UNIT, 0, 0, 0, 1, 0],
                    data: Data::None,
                    tagged: self.identity.queues,
                    exclusive: false,
                    timeout_milliseconds: TIMEOUT_FLUSH,
                };
                self.transport.execute(request, &mut || ());
                Ok(None)
            }
            Verdict::Failed(error) => Err(error),
        }
    }

    /// Runs a command among as many as the disk takes at once.
    fn at_depth(&self, request: Request<'_, '_>, meanwhile: &mut Meanwhile<'_>) -> Outcome {
        let depth = self.depth.load(Ordering::Relaxed);
        // Not for ever: what the calling thread itself has in flight is counted until it comes back to it.
        for _ in 0..ROOM_TRIES {
            if self.in_flight.load(Ordering::Relaxed) < depth {
                break;
            }
            self.transport.pause(2);
        }
        let in_flight = self.in_flight.load(Ordering::Relaxed) + 1;
        self.in_flight.store(in_flight, Ordering::Relaxed);
        let outcome = if in_flight < depth {
            self.transport.execute(request, &mut || run_now(meanwhile))
        } else {
            self.transport.execute(request, &mut || ())
        };
        self.in_flight.store(self.in_flight.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        if let Outcome::Status { status: status::QUEUE_FULL, .. } = outcome {
            self.depth.store(in_flight.min(depth).saturating_sub(1).max(1), Ordering::Relaxed);
            self.calm.store(0, Ordering::Relaxed);
        } else if depth < MAXIMUM_DEPTH {
            let calm = self.calm.load(Ordering::Relaxed) + 1;
            if calm >= CALM {
                self.depth.store(depth + 1, Ordering::Relaxed);
            }
            self.calm.store(calm % CALM, Ordering::Relaxed);
        }
        outcome
    }

    /// Checks that the disk is the one that was attached.
    fn prove(&self) -> Result<(), DiskError> {
        // First of all, so that what happens meanwhile raises new doubt.
        self.doubt.raised.store(false, Ordering::Release);
        let proof = inquire(&self.transport, self.target).and_then(|identity| {
            let capacity = self.capacity()?;
            if identity == self.identity && capacity == (self.blocks, self.block_size) {
                Ok(())
            } else {
                Err(DiskError::Changed)
            }
        });
        if proof.is_err() {
            self.doubt.raise();
        }
        proof
    }

    fn capacity(&self) -> Result<(u64, u32), DiskError> {
        let mut answer = [0; 8];
        self.unproved(&[READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut answer)?;
        let [l3, l2, l1, l0, s3, s2, s1, s0] = answer;
        let mut last = u64::from(u32::from_be_bytes([l3, l2, l1, l0]));
        let mut size = u32::from_be_bytes([s3, s2, s1, s0]);
        if last == u64::from(u32::MAX) {
            let mut answer = [0; 32];
            let mut descriptor = [0; 16];
            descriptor[0] = SERVICE_ACTION_IN_16;
            descriptor[1] = READ_CAPACITY_16;
            descriptor[13] = answer.len() as u8;
            self.unproved(&descriptor, &mut answer)?;
            let [n7, n6, n5, n4, n3, n2, n1, n0, s3, s2, s1, s0, ..] = answer;
            last = u64::from_be_bytes([n7, n6, n5, n4, n3, n2, n1, n0]);
            size = u32::from_be_bytes([s3, s2, s1, s0]);
        }
        match size {
            512 | 1024 | 2048 | 4096 => Ok((last.saturating_add(1), size)),
            _ => Err(DiskError::Unsupported),
        }
    }

    /// A command with a small answer that is itself part of the proof.
    fn unproved(&self, descriptor: &[u8], answer: &mut [u8]) -> Result<u32, DiskError> {
        let mut patience = Patience::new();
        loop {
            let mut pieces = [&mut *answer];
            let mut data = Data::FromTarget(&mut pieces);
            if let Some(moved) =
                self.attempt(descriptor, &mut data, TIMEOUT_SHORT, &mut patience, &mut None)?
            {
                return Ok(moved);
            }
        }
    }

    /// A bit of byte 2 of a mode page (MODE SENSE); a disk that does not say has it set.
    fn mode_bit(&self, page: u8, bit: u8) -> bool {
        const NO_BLOCK_DESCRIPTORS: u8 = 0x08;
        let mut answer = [0u8; 64];
        let length = answer.len() as u8;
        if self.simple(&[MODE_SENSE_6, NO_BLOCK_DESCRIPTORS, page, 0, length, 0], &mut answer).is_err() {
            return true;
        }
        // Header of 4 bytes, whose last is the block descriptors' length; then the page: code, length, flags.
        let start = 4 + usize::from(answer[3]);
        match (answer.get(start), answer.get(start + 2)) {
            (Some(code), Some(flags)) if code & 0x3F == page => flags & bit != 0,
            _ => true,
        }
    }
}

/// Decides about an outcome, and spends patience.
fn judge(outcome: Outcome, length: u64, patience: &mut Patience, doubt: &Doubt) -> Verdict {
    match outcome {
        Outcome::Status { status: status::GOOD, transferred, .. } => Verdict::Done(transferred),
        Outcome::Status { status: status::CHECK_CONDITION, transferred, sense: Some(sense) } => {
            judge_sense(sense, transferred, length, patience, doubt)
        }
        Outcome::Status { status: status::CHECK_CONDITION, .. } => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
        Outcome::Status { status: status::BUSY | status::QUEUE_FULL, .. } => {
            spend(&mut patience.busy, Verdict::AgainAfter(50), DiskError::Protocol)
        }
        Outcome::Status { .. } | Outcome::Overrun => Verdict::Failed(DiskError::Protocol),
        Outcome::SelectionTimeOut => {
            doubt.raise();
            spend(&mut patience.selection, Verdict::AgainAfter(20), DiskError::Gone)
        }
        Outcome::TimedOut => {
            doubt.raise();
            patience.exclusive = true;
            spend(&mut patience.timed_out, Verdict::Again, DiskError::TimedOut)
        }
        Outcome::Aborted => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
        Outcome::BusReset => {
            doubt.raise();
            patience.exclusive = true;
            spend(&mut patience.bus_reset, Verdict::AgainAfter(100), DiskError::Protocol)
        }
        Outcome::Disconnected => {
            doubt.raise();
            spend(&mut patience.disconnected, Verdict::AgainAfter(100), DiskError::Gone)
        }
    }
}

fn judge_sense(
    sense: Sense,
    transferred: u32,
    length: u64,
    patience: &mut Patience,
    doubt: &Doubt,
) -> Verdict {
    match (sense.key(), sense.additional()) {
        (SenseKey::NoSense | SenseKey::RecoveredError, _) if u64::from(transferred) == length => {
            Verdict::Done(transferred)
        }
        (SenseKey::UnitAttention, what) => {
            // Power on, and a reset of the disk's own; a reset of the bus leaves the cache alone (SAM-4, 6.3).
            if matches!(what, (0x29, 0x00 | 0x01 | 0x04)) {
                doubt.restarted.store(true, Ordering::Release);
            }
            doubt.raise();
            spend(&mut patience.unit_attention, Verdict::Again, DiskError::Protocol)
        }
        (SenseKey::NotReady, (0x3A, _)) => {
            doubt.raise();
            Verdict::Failed(DiskError::NoMedium)
        }
        (SenseKey::NotReady, (0x04, 0x02)) if !patience.started => {
            patience.started = true;
            Verdict::Start
        }
        (SenseKey::NotReady, (0x04, 0x01 | 0x02)) => {
            spend(&mut patience.becoming_ready, Verdict::AgainAfter(500), DiskError::NotReady(sense))
        }
        (SenseKey::NotReady, _) => {
            spend(&mut patience.not_ready, Verdict::AgainAfter(100), DiskError::NotReady(sense))
        }
        (SenseKey::MediumError, _) => {
            patience.exclusive = true;
            let block = sense.block();
            spend(&mut patience.medium, Verdict::Again, DiskError::Medium { block })
        }
        (SenseKey::HardwareError, _) => {
            patience.exclusive = true;
            spend(&mut patience.hardware, Verdict::Again, DiskError::Hardware(sense))
        }
        (SenseKey::IllegalRequest, (0x21, _)) => Verdict::Failed(DiskError::OutOfRange),
        (SenseKey::IllegalRequest, (0x25, _)) => Verdict::Failed(DiskError::Gone),
        (SenseKey::IllegalRequest, _) => Verdict::Failed(DiskError::Unsupported),
        (SenseKey::DataProtect, _) => Verdict::Failed(DiskError::WriteProtected),
        // A disk that aborts the same command again and again, alone on the bus, can't do it with these blocks. So does
        // QEMU's for every error of the host's file, with 00/06 "I/O process terminated".
        (SenseKey::AbortedCommand, _) => {
            patience.exclusive = true;
            let block = sense.block();
            spend(&mut patience.medium, Verdict::Again, DiskError::Medium { block })
        }
        _ => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
    }
}

/// INQUIRY and the serial number. Untagged: whether the target knows tags is part of the answer.
fn inquire<T: Transport>(transport: &T, target: u8) -> Result<Identity, DiskError> {
    let mut answer = [0u8; 36];
    inquiry(transport, target, [0, 0], &mut answer)?;
    // Peripheral qualifier 0 and device type 0: a direct access device, and it is there.
    if answer[0] == 0x7F {
        return Err(DiskError::Gone);
    }
    if answer[0] != 0 {
        return Err(DiskError::Unsupported);
    }
    let mut page = [0u8; 64];
    const UNIT_SERIAL_NUMBER: u8 = 0x80;
    const VITAL_PRODUCT_DATA: u8 = 1;
    let serial = match inquiry(transport, target, [VITAL_PRODUCT_DATA, UNIT_SERIAL_NUMBER], &mut page) {
        Ok(length) if length >= 4 && page[1] == UNIT_SERIAL_NUMBER => {
            let end = (4 + usize::from(page[3])).min(length as usize).min(page.len());
            text(&page[4..end])
        }
        Ok(_) | Err(DiskError::Unsupported) => String::new(),
        Err(error) => return Err(error),
    };
    Ok(Identity {
        vendor: text(&answer[8..16]),
        product: text(&answer[16..32]),
        revision: text(&answer[32..36]),
        serial,
        queues: answer[7] & 0x02 != 0,
    })
}

fn inquiry<T: Transport>(
    transport: &T,
    target: u8,
    page: [u8; 2],
    answer: &mut [u8],
) -> Result<u32, DiskError> {
    let descriptor = [INQUIRY, page[0], page[1], 0, answer.len() as u8, 0];
    let mut patience = Patience::new();
    // INQUIRY itself reports no unit attention: there is nobody to tell of a doubt.
    let doubt = Doubt::default();
    loop {
        let length = answer.len() as u64;
        let mut pieces = [&mut *answer];
        let request = Request {
            target,
            descriptor: &descriptor,
            data: Data::FromTarget(&mut pieces),
            tagged: false,
            exclusive: patience.exclusive,
            timeout_milliseconds: TIMEOUT_SHORT,
        };
        let outcome = transport.execute(request, &mut || ());
        // An absent target is no reason to ask again.
        if outcome == Outcome::SelectionTimeOut {
            return Err(DiskError::Gone);
        }
        match judge(outcome, length, &mut patience, &doubt) {
            Verdict::Done(moved) => return Ok(moved),
            Verdict::Again | Verdict::Start => {}
            Verdict::AgainAfter(milliseconds) => transport.pause(milliseconds),
            Verdict::Failed(error) => return Err(error),
        }
    }
}

/// Printable ASCII of a fixed-width field, blanks trimmed.
fn text(field: &[u8]) -> String {
    let text: String = field
        .iter()
        .map(|byte| match byte {
            0x20..=0x7E => char::from(*byte),
            _ => ' ',
        })
        .collect();
    String::from(text.trim())
}

/// Asks every target of a channel what it is; returns the targets that are disks.
pub fn scan<T: Transport>(transport: &T) -> Vec<(u8, Identity)> {
    let mut found = Vec::new();
    for target in (0..TARGETS).filter(|target| *target != OWN_IDENTITY) {
        match inquire(transport, target) {
            Ok(identity) => found.push((target, identity)),
            Err(DiskError::Gone) => {}
            Err(error) => log::warn!("target {target}: {error}"),
        }
    }
    found
}

#[cfg(test)]
mod tests;
