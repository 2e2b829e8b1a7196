//! A command's way through the channel: its attempts, as many at once as the disk takes, and the proof that it is still
//! the same disk.

use super::super::{Outcome, status};
use super::inquiry::inquire;
use super::operation_code::START_STOP_UNIT;
use super::recovery::{Patience, Verdict, judge};
use super::transport::{Meanwhile, run_now};
use super::{Data, Disk, DiskError, Request, Transport};
use core::sync::atomic::Ordering;

pub(super) const TIMEOUT_SHORT: u32 = 5_000;
pub(super) const TIMEOUT_TRANSFER: u32 = 8_000;
pub(super) const TIMEOUT_FLUSH: u32 = 30_000;
/// Commands that a disk has at once until it answers QUEUE FULL: more than a channel takes.
pub(super) const MAXIMUM_DEPTH: u32 = 64;
/// So many commands after which one more is tried again.
pub(super) const CALM: u32 = 1000;
/// How often a command asks whether there is room for it, before it tries all the same.
const ROOM_TRIES: u32 = 100;

impl<T: Transport> Disk<T> {
    /// A command with a small answer.
    pub(super) fn simple(&self, descriptor: &[u8], answer: &mut [u8]) -> Result<u32, DiskError> {
        if answer.is_empty() {
            return self.run(descriptor, &mut Data::None, TIMEOUT_SHORT, &mut None);
        }
        self.run(descriptor, &mut Data::FromTarget(&mut [answer]), TIMEOUT_SHORT, &mut None)
    }

    /// Runs a command of a user, after the disk has proved itself where there is doubt.
    pub(super) fn run(
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

    /// A command with a small answer that is itself part of the proof.
    pub(super) fn unproved(&self, descriptor: &[u8], answer: &mut [u8]) -> Result<u32, DiskError> {
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
}
