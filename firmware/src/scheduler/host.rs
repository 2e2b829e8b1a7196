//! The scheduler's body on the host: coroutines of one host thread, so a run is deterministic.

use std::boxed::Box;
use std::cell::{Cell, RefCell};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// Unoptimised code and the standard library's formatting need more stack than the image does; untouched pages of it
/// cost nothing here.
const HOST_STACK: usize = 512 * 1024;

/// A thread's coroutine.
pub(super) struct Context {
    coroutine: RefCell<Coroutine<(), (), ()>>,
    /// Where the thread suspends itself; null until it has begun.
    yielder: std::rc::Rc<Cell<*const Yielder<(), ()>>>,
    size: usize,
}

impl Context {
    /// A thread that will run `body` at the first [`resume`](Self::resume).
    pub(super) fn new(size: usize, body: Box<dyn FnOnce()>) -> Self {
        let yielder = std::rc::Rc::new(Cell::new(core::ptr::null()));
        let inside = yielder.clone();
        let stack = match DefaultStack::new(size.max(HOST_STACK)) {
            Ok(stack) => stack,
            Err(error) => panic!("no memory for a coroutine's stack: {error}"),
        };
        let coroutine = Coroutine::with_stack(stack, move |own: &Yielder<(), ()>, ()| {
            inside.set(core::ptr::from_ref(own));
            body();
        });
        Self { coroutine: RefCell::new(coroutine), yielder, size }
    }

    /// Runs the thread until it suspends itself or ends; returns whether it has ended.
    pub(super) fn resume(&self) -> bool {
        matches!(self.coroutine.borrow_mut().resume(()), CoroutineResult::Return(()))
    }

    /// Goes back to the loop; returns when the loop resumes the thread. Called by the thread itself.
    pub(super) fn suspend(&self) {
        // SAFETY: the coroutine stored its own yielder before its body ran; it lives on the coroutine's stack until
        // the coroutine ends, and only the coroutine itself comes here.
        let yielder = unsafe { &*self.yielder.get() };
        yielder.suspend(());
    }

    /// Overflow hits the guard page of the stack instead.
    pub(super) fn intact(&self) -> bool {
        true
    }

    /// The size asked for; the use is not measured on the host.
    pub(super) fn stack_usage(&self) -> (usize, usize) {
        (self.size, 0)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut coroutine = self.coroutine.borrow_mut();
        if coroutine.started() && !coroutine.done() {
            // SAFETY: what the thread had on its stack is leaked, not referred to again: everything it lent out
            // (wait queues hold thread numbers, not pointers) is reached by number only.
            unsafe { coroutine.force_reset() };
        }
    }
}
