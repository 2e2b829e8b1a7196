//! The scheduler's body on the 750: every thread has a stack, a switch saves the callee-saved registers on it.
//!
//! The two routines are assembly of `boards/ppc750-nas` (System V ABI for PowerPC, the floating-point unit unused):
//! they are found by name when the image is linked.

unsafe extern "C" {
    /// Pushes the callee-saved registers (r14-r31, cr, lr) on the current stack, stores the stack pointer to `*save`,
    /// takes `load` as stack pointer and pops the same from there: returns on the other stack. Interrupts stay as
    /// they are: the interrupt handler runs on its own stack or below the pointer of whoever it finds.
    fn ppc750_context_switch(save: *mut usize, load: usize);

    /// Lays a frame below `top` (16-byte aligned, the end of the stack) from which the first
    /// [`ppc750_context_switch`] enters `entry(argument)`, with a terminating back chain word. Returns the stack
    /// pointer to load.
    fn ppc750_context_prepare(top: usize, entry: extern "C" fn(usize) -> !, argument: usize) -> usize;
}
