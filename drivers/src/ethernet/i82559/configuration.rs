//! The 22 bytes of the Configure command (6.4.2.3), with the manual's recommended values for an 82559 on a PCI bus.

/// Length of the configuration.
pub const LENGTH: usize = 22;

/// Full-featured reception to the station's address, all stations and the groups of the multicast table; every group when
/// `all_groups`.
pub fn bytes(all_groups: bool) -> [u8; LENGTH] {
    [
        LENGTH as u8,
        // Receive FIFO threshold 8.
        0x08,
        // No adaptive inter-frame spacing.
        0x00,
        // No memory-write-and-invalidate, no special cache-line handling: they need the PCI cache line size set.
        0x00,
        // DMA maximum byte counts, unlimited.
        0x00,
        0x00,
        // Standard statistical counters (16), standard transmit blocks, overruns and bad frames are not saved.
        0x32,
        // Discard frames shorter than 64 bytes; retry three times after an underrun.
        0x07,
        // MII.
        0x01,
        // No checksum offload, VLAN or wake-up features.
        0x00,
        // Source addresses come from memory, preamble of 7 bytes, no loopback.
        0x2E,
        0x00,
        // Inter-frame spacing 96 bit times.
        0x61,
        // Fixed values.
        0x00,
        0xF2,
        // Not promiscuous, broadcasts accepted, CRC-32.
        0x48,
        // Flow control delay.
        0x00,
        0x40,
        // Short frames are padded; received frames keep padding and lose their checksum; no long frames.
        0xF2,
        // Duplex as the PHY says; magic-packet wake-up off.
        0x82,
        0x3F,
        if all_groups { 0x0D } else { 0x05 },
    ]
}
