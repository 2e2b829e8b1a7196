//! A bench for chips and for the fault paths: what runs before the appliance when the image is built with the feature
//! `probe` (`cargo xtask image --features probe`).
//!
//! To try a chip on the board, write into [`run`]: find it with `bus.find(vendor, device)`, take its registers with
//! `bus.registers(device, register)`, memory from `bus.dma()`, its interrupt with `bus.attach_interrupt(device, source)`;
//! print to [`Serial`](ppc750_nas::serial::Serial). Interrupts are on. Return, and the appliance starts.
//!
//! What is there now waits three seconds for a letter on the console and breaks something on purpose, so that a test can
//! see what a fault leaves behind: `p` panics, `d` stores to an unmapped address, `i` is an illegal instruction, `s`
//! overflows a thread's stack, `x` jumps into data. Any other goes on.

use super::pci::Bus;

/// Nothing to try.
#[cfg(not(feature = "probe"))]
pub fn run(_bus: &Bus) {}

/// Waits for a letter, and obeys.
#[cfg(feature = "probe")]
pub fn run(bus: &Bus) {
    use core::fmt::Write;
    use ppc750_nas::serial::Serial;

    for device in bus.devices() {
        let _ = write!(
            Serial,
            "pci slot {:2}: {:04x}:{:04x} class {:06x}",
            device.address.slot, device.vendor, device.device, device.class
        );
        for window in &device.windows {
            let _ =
                write!(Serial, ", window {} {:#x} at {:#010x}", window.register, window.length, window.base);
        }
        let _ = write!(Serial, "\r\n");
    }
    let _ = write!(Serial, "probe: p d i s x?\r\n");
    let end = super::clock::now() + 3_000_000;
    let mut letter = [0];
    while super::clock::now() < end && super::console::read(&mut letter) == 0 {}
    match letter[0] {
        b'p' => panic!("on purpose"),
        // SAFETY: none: it is to fail.
        b'd' => unsafe { (0x6000_0000 as *mut u32).write_volatile(1) },
        // SAFETY: none: it is to fail.
        b'i' => unsafe { core::arch::asm!(".long 0") },
        b's' => {
            let _ = write!(Serial, "{}\r\n", overflow(&[1; 64]));
        }
        b'x' => {
            // Memory that nobody has touched: QEMU makes whatever was read or written executable, a 750 does not.
            // SAFETY: none: it is to fail, because only the image's code is executable.
            let code: extern "C" fn() = unsafe { core::mem::transmute(0x00F0_0000_usize) };
            code();
        }
        _ => {}
    }
}

#[cfg(feature = "probe")]
#[expect(unconditional_recursion, reason = "it is to run out of stack")]
#[inline(never)]
fn overflow(bytes: &[u8; 64]) -> u32 {
    let mut more = *bytes;
    more[0] = more[0].wrapping_add(1);
    overflow(core::hint::black_box(&more)) + u32::from(more[1])
}
