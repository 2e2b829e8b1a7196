//! The scheduler's body on PowerPC: every thread has a stack, a switch saves the callee-saved registers on it. The same
//! code runs on the 750 and, for the big-endian host tests, under Linux.

use alloc::alloc::handle_alloc_error;
use alloc::boxed::Box;
use core::alloc::Layout;
use core::arch::naked_asm;
use core::cell::Cell;
use core::ptr::NonNull;

/// What unused stack is painted with, to see later how deep it was used.
const PAINT: u32 = 0x5AC3_5AC3;

/// Bytes of the frame that a switch pushes: back chain, LR save word, CR, r14-r31; on Linux also f14-f31 (the image
/// does not use the floating-point unit across calls).
const FRAME: usize = if cfg!(target_os = "none") { 96 } else { 96 + 144 };

/// Pushes the callee-saved registers on the current stack, stores the stack pointer to `*save`, takes `load` as stack
/// pointer and pops the same there: returns on the other stack (System V ABI, PowerPC processor supplement, 3-10).
#[cfg(target_os = "none")]
#[unsafe(naked)]
unsafe extern "C" fn switch_stack(save: *mut usize, load: usize) {
    naked_asm!(
        "mflr 0",
        "stw 0, 4(1)",
        "mfcr 5",
        "stwu 1, -96(1)",
        "stw 5, 8(1)",
        "stmw 14, 12(1)",
        "stw 1, 0(3)",
        "mr 1, 4",
        "lmw 14, 12(1)",
        "lwz 5, 8(1)",
        "addi 1, 1, 96",
        "mtcrf 0x38, 5",
        "lwz 0, 4(1)",
        "mtlr 0",
        "blr",
    )
}

/// As above, with the callee-saved floating-point registers.
#[cfg(not(target_os = "none"))]
#[unsafe(naked)]
unsafe extern "C" fn switch_stack(save: *mut usize, load: usize) {
    naked_asm!(
        "mflr 0",
        "stw 0, 4(1)",
        "mfcr 5",
        "stwu 1, -240(1)",
        "stw 5, 8(1)",
        "stmw 14, 12(1)",
        "stfd 14, 96(1)",
        "stfd 15, 104(1)",
        "stfd 16, 112(1)",
        "stfd 17, 120(1)",
        "stfd 18, 128(1)",
        "stfd 19, 136(1)",
        "stfd 20, 144(1)",
        "stfd 21, 152(1)",
        "stfd 22, 160(1)",
        "stfd 23, 168(1)",
        "stfd 24, 176(1)",
        "stfd 25, 184(1)",
        "stfd 26, 192(1)",
        "stfd 27, 200(1)",
        "stfd 28, 208(1)",
        "stfd 29, 216(1)",
        "stfd 30, 224(1)",
        "stfd 31, 232(1)",
        "stw 1, 0(3)",
        "mr 1, 4",
        "lfd 14, 96(1)",
        "lfd 15, 104(1)",
        "lfd 16, 112(1)",
        "lfd 17, 120(1)",
        "lfd 18, 128(1)",
        "lfd 19, 136(1)",
        "lfd 20, 144(1)",
        "lfd 21, 152(1)",
        "lfd 22, 160(1)",
        "lfd 23, 168(1)",
        "lfd 24, 176(1)",
        "lfd 25, 184(1)",
        "lfd 26, 192(1)",
        "lfd 27, 200(1)",
        "lfd 28, 208(1)",
        "lfd 29, 216(1)",
        "lfd 30, 224(1)",
        "lfd 31, 232(1)",
        "lmw 14, 12(1)",
        "lwz 5, 8(1)",
        "addi 1, 1, 240",
        "mtcrf 0x38, 5",
        "lwz 0, 4(1)",
        "mtlr 0",
        "blr",
    )
}

/// Where a thread's first switch returns to: r14 holds the entry function, r15 its argument. No return address and a
/// null back chain, so that a backtrace ends here.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    naked_asm!("li 0, 0", "mtlr 0", "mr 3, 15", "mtctr 14", "bctr")
}

fn stack_layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).unwrap_or(Layout::new::<u128>())
}

/// Stacks are whole pages on the board, where an unmapped page lies below each.
#[cfg(target_os = "none")]
const STACK_UNIT: usize = ppc750_nas::mmu::PAGE;
#[cfg(target_os = "none")]
use ppc750_nas::stacks::{allocate as allocate_stack, free as free_stack};

#[cfg(not(target_os = "none"))]
const STACK_UNIT: usize = 16;

#[cfg(not(target_os = "none"))]
fn allocate_stack(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size is not 0: `spawn` refuses less than a page.
    NonNull::new(unsafe { alloc::alloc::alloc(stack_layout(size)) })
}

/// # Safety
///
/// `stack` came from [`allocate_stack`] with this size and is not used any more.
#[cfg(not(target_os = "none"))]
unsafe fn free_stack(stack: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { alloc::alloc::dealloc(stack.as_ptr(), stack_layout(size)) };
}

/// A thread's stack and where it was left.
pub(super) struct Context {
    stack: NonNull<u8>,
    size: usize,
    /// The stack pointer while the thread does not run.
    stack_pointer: Cell<usize>,
    /// The stack pointer of the scheduler's loop while the thread runs.
    loop_pointer: Cell<usize>,
    body: Cell<Option<Box<dyn FnOnce()>>>,
    finished: Cell<bool>,
}

impl Context {
    /// A thread that will run `body` on a stack of `size` bytes at the first [`resume`](Self::resume).
    pub(super) fn new(size: usize, body: Box<dyn FnOnce()>) -> Self {
        let size = size.next_multiple_of(STACK_UNIT);
        let Some(stack) = allocate_stack(size) else { handle_alloc_error(stack_layout(size)) };
        for offset in (0..size).step_by(4) {
            // SAFETY: inside the block just allocated, which is 16-aligned.
            unsafe { stack.add(offset).cast::<u32>().write(PAINT) };
        }
        Self {
            stack,
            size,
            stack_pointer: Cell::new(0),
            loop_pointer: Cell::new(0),
            body: Cell::new(Some(body)),
            finished: Cell::new(false),
        }
    }

    /// Lays the first frame, so that [`switch_stack`] enters [`enter`] with this context. The context has its final
    /// place by now.
    fn prepare(&self) -> usize {
        let top = self.stack.as_ptr() as usize + self.size - 16;
        let stack_pointer = top - FRAME;
        let word = |address: usize, value: usize| {
            // SAFETY: both frames lie inside the stack, whose size is at least a page.
            unsafe { (address as *mut usize).write(value) }
        };
        word(top, 0);
        word(top + 4, begin as *const () as usize);
        word(stack_pointer, top);
        word(stack_pointer + 8, 0);
        word(stack_pointer + 12, enter as *const () as usize);
        word(stack_pointer + 16, core::ptr::from_ref(self) as usize);
        stack_pointer
    }

    /// Runs the thread until it suspends itself or ends; returns whether it has ended. Called by the loop.
    pub(super) fn resume(&self) -> bool {
        if self.stack_pointer.get() == 0 {
            self.stack_pointer.set(self.prepare());
        }
        // SAFETY: the loaded pointer was saved by `suspend`, or made by `prepare`, on this context's own stack, which
        // is not in use by anybody else; the loop's pointer stays valid until it is loaded, because the loop waits here.
        unsafe { switch_stack(self.loop_pointer.as_ptr(), self.stack_pointer.get()) };
        self.finished.get()
    }

    /// Goes back to the loop; returns when the loop resumes the thread. Called by the thread itself.
    pub(super) fn suspend(&self) {
        // SAFETY: called on this context's stack; the loop's pointer was saved by the `resume` that runs this thread.
        unsafe { switch_stack(self.stack_pointer.as_ptr(), self.loop_pointer.get()) };
    }

    /// Whether the end of the stack is as painted: false once it has overflowed.
    pub(super) fn intact(&self) -> bool {
        // SAFETY: the first word of the stack.
        unsafe { self.stack.cast::<u32>().read_volatile() == PAINT }
    }

    /// The stack's size and the most bytes of it that were ever used.
    pub(super) fn stack_usage(&self) -> (usize, usize) {
        let clean = (0..self.size)
            .step_by(4)
            // SAFETY: inside the stack.
            .take_while(|&offset| unsafe { self.stack.add(offset).cast::<u32>().read_volatile() == PAINT })
            .count();
        (self.size, self.size - clean * 4)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this size; a context is dropped only when its thread has ended or will never be
        // resumed.
        unsafe { free_stack(self.stack, self.size) };
    }
}

/// A thread's first function.
extern "C" fn enter(context: usize) -> ! {
    // SAFETY: `prepare` put the address of the context there, which outlives its thread.
    let context = unsafe { &*(context as *const Context) };
    if let Some(body) = context.body.take() {
        body();
    }
    context.finished.set(true);
    loop {
        context.suspend();
    }
}
