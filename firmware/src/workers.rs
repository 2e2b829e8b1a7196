//! The workers: equal threads that handle one request each. A worker belongs to nobody while it is idle.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::scheduler::{self, WaitQueue};

/// Requests that wait for a worker, beyond those that workers have in hand. Few: the network's windows are the queue.
const BACKLOG: usize = 4;

/// A request for a worker.
pub struct Job {
    /// The connection's slot.
    pub slot: usize,
    /// The engine's id of the connection.
    pub connection: u32,
    /// The message, without its transport header; `None`: the connection has ended.
    pub message: Option<Vec<u8>>,
}

/// What workers do with a request.
pub trait Handler: 'static {
    /// Handles one. May block.
    fn handle(&self, job: Job);

    /// There is room for requests again, after [`Pool::submit`] gave one back.
    fn room(&self);
}

/// Requests on their way to workers.
#[derive(Default)]
pub struct Pool {
    queue: RefCell<VecDeque<Job>>,
    idle: WaitQueue,
    /// Workers with a request in hand.
    busy: Cell<usize>,
    most_busy: Cell<usize>,
    handled: Cell<u64>,
    refused: Cell<bool>,
}

impl Pool {
    /// Hands a request over. When all workers have enough to do it comes back; [`Handler::room`] tells when to try
    /// again.
    pub fn submit(&self, slot: usize, connection: u32, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= BACKLOG {
            self.refused.set(true);
            return Err(message);
        }
        queue.push_back(Job { slot, connection, message: Some(message) });
        self.idle.wake_one();
        Ok(())
    }

    /// Has a worker end a connection: closing its files may wait for a disk, which the net task must not. Never
    /// refused; there are no more of these than connections.
    pub fn disconnect(&self, slot: usize, connection: u32) {
        self.queue.borrow_mut().push_back(Job { slot, connection, message: None });
        self.idle.wake_one();
    }

    /// Spawns `count` workers with stacks of `stack` bytes.
    pub fn start(
        &'static self,
        count: usize,
        stack: usize,
        handler: &'static impl Handler,
    ) -> Result<(), scheduler::TooManyThreads> {
        for _ in 0..count {
            scheduler::spawn("worker", stack, move || self.work(handler))?;
        }
        Ok(())
    }

    fn work(&self, handler: &impl Handler) {
        loop {
            // Not in the loop's condition: the borrow must end before the request is handled.
            let job = self.queue.borrow_mut().pop_front();
            let Some(job) = job else {
                self.idle.wait();
                continue;
            };
            if self.refused.take() {
                handler.room();
            }
            let busy = self.busy.get() + 1;
            self.busy.set(busy);
            self.most_busy.set(self.most_busy.get().max(busy));
            handler.handle(job);
            self.busy.set(self.busy.get() - 1);
            self.handled.set(self.handled.get() + 1);
        }
    }

    /// Workers with a request in hand now, and the most there ever were.
    pub fn busy(&self) -> (usize, usize) {
        (self.busy.get(), self.most_busy.get())
    }

    /// Requests handled since the start.
    pub fn handled(&self) -> u64 {
        self.handled.get()
    }

    /// Whether no request waits and no worker has one in hand.
    pub fn is_quiet(&self) -> bool {
        self.busy.get() == 0 && self.queue.borrow().is_empty()
    }
}
