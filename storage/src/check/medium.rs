//! What the checker reads and writes: a volume's bytes through the cache.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use crate::BlockDevice;
use crate::cache::{Cache, DeviceIndex, PAGE_SIZE};
use crate::volume::VolumeError;
use crate::volume::bytes::{get8, get16, get32, put};
use crate::volume::geometry::{Geometry, Kind, boot_checksum};

/// Bytes of the FAT that are looked at without asking the cache.
const WINDOW: u64 = 4096;

/// A volume's bytes. Writes go nowhere unless a repair was asked for.
pub(super) struct Medium<R: RawMutex> {
    cache: Arc<Cache<R>>,
    device: DeviceIndex,
    bytes: u64,
    repair: bool,
    /// A piece of the FAT, and where it starts in it.
    window: Vec<u8>,
    window_at: u64,
    writes: u32,
}

impl<R: RawMutex> Drop for Medium<R> {
    fn drop(&mut self) {
        self.cache.detach(self.device);
    }
}

impl<R: RawMutex> Medium<R> {
    pub(super) fn attach(
        cache: &Arc<Cache<R>>,
        device: Arc<dyn BlockDevice>,
        repair: bool,
    ) -> Result<Self, VolumeError> {
        let device = cache.attach(device).ok_or(VolumeError::NoResources)?;
        Ok(Self {
            bytes: cache.device_bytes(device),
            cache: cache.clone(),
            device,
            repair,
            window: Vec::new(),
            window_at: 0,
            writes: 0,
        })
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read(&self, mut offset: u64, mut bytes: &mut [u8]) -> Result<(), VolumeError> {
        while !bytes.is_empty() {
            let length = bytes.len().min(PAGE_SIZE - (offset % PAGE_SIZE as u64) as usize);
            let (now, later) = bytes.split_at_mut(length);
            self.cache.inspect(self.device, offset, length, |content| now.copy_from_slice(content))?;
            bytes = later;
            offset += length as u64;
        }
        Ok(())
    }

    pub(super) fn byte(&self, offset: u64) -> Result<u8, VolumeError> {
        let mut byte = [0];
        self.read(offset, &mut byte)?;
        Ok(byte[0])
    }

    /// Writes `bytes` at `offset`, in a repair.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), VolumeError> {
        if !self.repair {
            return Ok(());
        }
        self.writes = self.writes.wrapping_add(1);
        if self.writes % 64 == 0 {
            self.cache.throttle(self.device)?;
        }
        self.window.clear();
        self.cache.write(self.device, offset, bytes, u64::MAX)?;
        Ok(())
    }

    /// Writes `length` zeros, in a repair.
    pub(super) fn zero(&mut self, offset: u64, length: u64) -> Result<(), VolumeError> {
        let mut done = 0;
        while self.repair && done < length {
            let count = (length - done).min(1 << 20);
            self.cache.throttle(self.device)?;
            self.cache.zero(self.device, offset + done, count as usize, u64::MAX)?;
            done += count;
        }
        Ok(())
    }

    /// A cluster's entry in the first FAT.
    pub(super) fn entry(&mut self, geometry: &Geometry, cluster: u32) -> Result<u32, VolumeError> {
        let (offset, width) = geometry.fat_place(cluster);
        let inside = |at: u64, length: usize| {
            offset.checked_sub(at).filter(|within| within + width as u64 <= length as u64)
        };
        let within = match inside(self.window_at, self.window.len()) {
            Some(within) => within,
            None => {
                // FAT12's entries cross every boundary: one byte more.
                let at = offset - offset % WINDOW;
                let mut window = core::mem::take(&mut self.window);
                window.resize((geometry.fat_bytes.saturating_sub(at)).min(WINDOW + 1) as usize, 0);
                self.read(geometry.fat + at, &mut window)?;
                (self.window, self.window_at) = (window, at);
                inside(at, self.window.len()).ok_or(VolumeError::Corrupt)?
            }
        };
        let mut bytes = [0; 4];
        for (place, index) in bytes.iter_mut().zip(within as usize..).take(width) {
            *place = get8(&self.window, index);
        }
        Ok(geometry.decode_fat(cluster, bytes))
    }

    /// Sets a cluster's entry in all FATs, in a repair.
    pub(super) fn set_entry(
        &mut self,
        geometry: &Geometry,
        cluster: u32,
        value: u32,
    ) -> Result<(), VolumeError> {
        let (offset, width) = geometry.fat_place(cluster);
        let mut old = [0; 4];
        self.read(geometry.fat + offset, old.get_mut(..width).unwrap_or_default())?;
        let field = geometry.encode_fat(cluster, old, value);
        let (window, at) = (core::mem::take(&mut self.window), self.window_at);
        for copy in 0..u64::from(geometry.fat_copies) {
            let place = geometry.fat + copy * geometry.fat_bytes + offset;
            self.write(place, field.get(..width).unwrap_or(&[]))?;
        }
        self.window = window;
        if self.repair
            && let Some(within) = offset.checked_sub(at).and_then(|within| usize::try_from(within).ok())
        {
            put(&mut self.window, within, field.get(..width).unwrap_or(&[]));
            if within < self.window.len() && within + width > self.window.len() {
                self.window.clear();
            }
        }
        Ok(())
    }

    /// Whether the volume says that it was not left cleanly.
    pub(super) fn dirty_mark(&mut self, geometry: &Geometry) -> Result<bool, VolumeError> {
        let (place, bit) = geometry.dirty_mark();
        let marked = self.byte(place)? & bit != 0;
        Ok(marked || self.entry(geometry, 1)? & geometry.clean_bit() != geometry.clean_bit())
    }

    /// Sets or clears that mark, on the device when this returns.
    pub(super) fn set_dirty_mark(&mut self, geometry: &Geometry, dirty: bool) -> Result<(), VolumeError> {
        // All else first.
        self.cache.flush(self.device)?;
        let (place, bit) = geometry.dirty_mark();
        let state = self.byte(place)?;
        self.write(place, &[if dirty { state | bit } else { state & !bit }])?;
        let clean = geometry.clean_bit();
        if clean != 0 {
            let entry = self.entry(geometry, 1)?;
            self.set_entry(geometry, 1, if dirty { entry & !clean } else { entry | clean })?;
        }
        self.cache.flush(self.device)?;
        Ok(())
    }

    /// Finds out what the volume is, from the boot sector or its copy, and makes them agree. True: they did not.
    pub(super) fn boot_sectors(&mut self) -> Result<(Geometry, bool), VolumeError> {
        let mut boot = [0; 512];
        self.read(0, &mut boot)?;
        if get8(&boot, 3) == b'E' && boot.get(3..11) == Some(b"EXFAT   ") {
            return self.exfat_boot_region(&boot);
        }
        let parsed = Geometry::parse(&boot, self.bytes);
        let sector = match &parsed {
            Ok(geometry) if geometry.kind != Kind::Fat32 => return Ok((parsed?, false)),
            Ok(geometry) => u64::from(geometry.sector_size),
            Err(_) => 512,
        };
        // FAT32's copy (FAT specification 3.3); where the boot sector makes no sense, at its usual place.
        let mut copy = [0; 512];
        let mut copy_at = 0;
        let mut parsed_copy = None;
        for place in [u64::from(get16(&boot, 50)), 6] {
            let reserved = u64::from(get16(&boot, 14)).max(7);
            if parsed_copy.is_none() && place > 0 && place < reserved && (place + 1) * sector <= self.bytes {
                copy_at = place;
                self.read(copy_at * sector, &mut copy)?;
                parsed_copy = Geometry::parse(&copy, self.bytes).ok().filter(|copy| copy.kind == Kind::Fat32);
            }
        }
        if copy_at == 0 {
            return Ok((parsed?, false));
        }
        let parsed = match (parsed, &parsed_copy) {
            // They contradict each other: the one that the rest of the volume agrees with counts.
            (Ok(geometry), Some(other)) if self.agrees(other, &copy)? > self.agrees(&geometry, &boot)? => {
                Err(VolumeError::Corrupt)
            }
            (parsed, _) => parsed,
        };
        match parsed {
            Ok(geometry) => {
                // The dirty mark is the boot sector's alone.
                let same =
                    boot.iter().zip(&copy).enumerate().all(|(at, (one, other))| at == 65 || one == other);
                if !same {
                    put(&mut boot, 50, &(copy_at as u16).to_le_bytes());
                    self.write(0, &boot)?;
                    let clean = get8(&boot, 65) & !1;
                    put(&mut boot, 65, &[clean]);
                    self.write(copy_at * sector, &boot)?;
                }
                Ok((geometry, !same))
            }
            Err(_) => {
                let geometry = parsed_copy.ok_or(VolumeError::Corrupt)?;
                self.write(0, &copy)?;
                Ok((geometry, true))
            }
        }
    }

    /// How many things speak for a FAT32 boot sector's parameters.
    fn agrees(&self, geometry: &Geometry, boot: &[u8; 512]) -> Result<u32, VolumeError> {
        let mut count = 0;
        for copy in 0..u64::from(geometry.fat_copies) {
            let mut head = [0; 4];
            self.read(geometry.fat + copy * geometry.fat_bytes, &mut head)?;
            count +=
                u32::from(u32::from_le_bytes(head) & 0x0FFF_FFFF == 0x0FFF_FF00 | u32::from(get8(boot, 21)));
        }
        // A FAT has room for its clusters, and not for many more; two copies are usual, and a root at the heap's start.
        let needed = (u64::from(geometry.clusters) + 2) * 4;
        count += u32::from(geometry.fat_bytes - needed < 64 * u64::from(geometry.sector_size));
        count += u32::from(geometry.fat_copies == 2) + u32::from(geometry.root_cluster == 2);
        count += u32::from(get16(boot, 40) == 0) + u32::from(get16(boot, 50) == 6);
        if let Some(place) = geometry.information_sector {
            let mut signature = [0; 4];
            self.read(place, &mut signature)?;
            count += u32::from(signature == *b"RRaA");
        }
        let end = geometry.heap + (u64::from(geometry.clusters) << geometry.cluster_shift);
        Ok(count + u32::from(self.bytes - end < geometry.cluster_bytes()))
    }

    /// exFAT's boot region of twelve sectors and its backup behind it, each with a checksum (3.1 to 3.4).
    fn exfat_boot_region(&mut self, boot: &[u8; 512]) -> Result<(Geometry, bool), VolumeError> {
        let sizes = [u32::from(get8(boot, 108)), 9, 12, 10, 11];
        for shift in sizes.into_iter().filter(|shift| (9..=12).contains(shift)) {
            let sector = 1usize << shift;
            if 24 * sector as u64 > self.bytes {
                continue;
            }
            let mut regions = [vec![0; 12 * sector], vec![0; 12 * sector]];
            let mut sound = [false; 2];
            for (number, region) in regions.iter_mut().enumerate() {
                self.read((number * 12 * sector) as u64, region)?;
                let sum = boot_checksum(region.get(..11 * sector).unwrap_or(&[]));
                let stored = region.get(11 * sector..).unwrap_or(&[]);
                sound[number] = stored.chunks_exact(4).all(|word| get32(word, 0) == sum)
                    && Geometry::parse(region, self.bytes)
                        .is_ok_and(|geometry| geometry.kind.is_exfat() && geometry.sector_size == 1 << shift);
            }
            let [main, backup] = &mut regions;
            let good = match sound {
                [true, true] => {
                    // Flags and percentage are not in the sum, and the backup's are stale.
                    for at in [106, 107, 112] {
                        put(backup, at, &[get8(main, at)]);
                    }
                    return Ok((
                        Geometry::parse(main, self.bytes)?,
                        main != backup && {
                            let main = main.clone();
                            self.write(12 * sector as u64, &main)?;
                            true
                        },
                    ));
                }
                [true, false] => main.clone(),
                [false, true] => backup.clone(),
                // The next sector size; at last the boot sector is taken by its word.
                [false, false] => continue,
            };
            self.write(0, &good)?;
            self.write(12 * sector as u64, &good)?;
            return Ok((Geometry::parse(&good, self.bytes)?, true));
        }
        let geometry = Geometry::parse(boot, self.bytes)?;
        let sector = geometry.sector_size as usize;
        let mut region = vec![0; 12 * sector];
        self.read(0, &mut region)?;
        for number in 1..9 {
            put(&mut region, (number + 1) * sector - 2, &[0x55, 0xAA]);
        }
        let sum = boot_checksum(region.get(..11 * sector).unwrap_or(&[]));
        for place in region.get_mut(11 * sector..).unwrap_or_default().chunks_exact_mut(4) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        self.write(0, &region)?;
        self.write(12 * sector as u64, &region)?;
        Ok((geometry, true))
    }
}
