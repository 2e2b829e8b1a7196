//! Time: the timebase for intervals, CUDA's clock for the date.

use drivers::cuda::{Cuda, CudaError};
use ppc750_nas::memory_map::{HEATHROW, HEATHROW_VIA};
use ppc750_nas::mmio::Mmio;
use ppc750_nas::{cpu, time};
use spin::Mutex;

/// Microseconds for which CUDA may be silent. The chip answers in some tens; QEMU's model of it when its main loop gets
/// the processor, which on a busy host has taken more than 20 ms.
const PATIENCE: u32 = 500_000;
/// Dates before this one (2024-01-01) are a clock that was never set.
const EARLIEST: u32 = 1_704_067_200;

/// What the date was at which [`now`]; `None` until it is known. In seconds since 1970, and microseconds.
static DATE: Mutex<Option<(u64, u64)>> = Mutex::new(None);

/// Microseconds since power-on.
pub fn now() -> u64 {
    time::ticks_to_microseconds(cpu::timebase())
}

fn pause() {
    cpu::spin_microseconds(1);
}

/// The microcontroller of this board.
pub fn cuda() -> Cuda<Mmio, fn()> {
    // SAFETY: the VIA lies there by the board's memory map.
    Cuda::new(unsafe { Mmio::new(HEATHROW + HEATHROW_VIA) }, pause, PATIENCE)
}

/// Reads the date from CUDA, once; afterwards the timebase carries it on.
pub fn initialize() -> Result<(), CudaError> {
    let cuda = cuda();
    cuda.initialize()?;
    let seconds = cuda.time()?;
    *DATE.lock() = (seconds >= EARLIEST).then(|| (u64::from(seconds), now()));
    Ok(())
}

/// Seconds since 1970, when they are known.
pub fn date() -> Option<u64> {
    let (seconds, when) = (*DATE.lock())?;
    Some(seconds + (now() - when) / 1_000_000)
}

/// Sets the date here and in CUDA.
pub fn set_date(seconds: u64) {
    *DATE.lock() = Some((seconds, now()));
    let Ok(seconds) = u32::try_from(seconds) else { return };
    if let Err(error) = cuda().set_time(seconds) {
        log::warn!("the battery-backed clock was not set: {error:?}");
    }
}
