//! Boot sectors: what kind of volume it is and where its parts lie.

use super::VolumeError;
use super::bytes::{get8, get16, get32, get64};

/// The file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exfat,
    Fat12,
    Fat16,
    Fat32,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exfat => "exFAT",
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        }
    }

    pub(crate) fn is_exfat(self) -> bool {
        self == Self::Exfat
    }

    /// The mark of a chain's last cluster, as written.
    pub(crate) fn end_of_chain(self) -> u32 {
        match self {
            Self::Exfat => 0xFFFF_FFFF,
            Self::Fat12 => 0xFFF,
            Self::Fat16 => 0xFFFF,
            Self::Fat32 => 0x0FFF_FFFF,
        }
    }

    /// Whether a FAT entry ends a chain.
    pub(crate) fn is_end(self, entry: u32) -> bool {
        entry >= self.end_of_chain() & !7
    }
}

/// Where everything lies. Offsets are in bytes from the volume's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) kind: Kind,
    pub(crate) sector_size: u32,
    /// log2 of bytes a cluster.
    pub(crate) cluster_shift: u32,
    /// Offset of cluster 2.
    pub(crate) heap: u64,
    /// How many clusters; they are numbered from 2 on.
    pub(crate) clusters: u32,
    /// Offset of the FAT that is read.
    pub(crate) fat: u64,
    /// Bytes of one FAT.
    pub(crate) fat_bytes: u64,
    /// How many FATs are written, from `fat` on.
    pub(crate) fat_copies: u32,
    /// First cluster of the root directory; 0 for one at a fixed place.
    pub(crate) root_cluster: u32,
    /// Offset and bytes of the root directory at a fixed place.
    pub(crate) fixed_root: (u64, u32),
    pub(crate) serial: u32,
    /// Offset of FAT32's FSInfo sector.
    pub(crate) information_sector: Option<u64>,
}

impl Geometry {
    /// Reads a boot sector (its first 512 bytes) of a volume on a device of `bytes` bytes.
    pub(crate) fn parse(boot: &[u8], bytes: u64) -> Result<Self, VolumeError> {
        if boot.len() < 512 || boot.get(510..512) != Some(&[0x55, 0xAA]) {
            return Err(VolumeError::Corrupt);
        }
        let geometry = if boot.get(3..11) == Some(b"EXFAT   ") { parse_exfat(boot) } else { parse_fat(boot) };
        geometry.filter(|geometry| geometry.fits(bytes)).ok_or(VolumeError::Corrupt)
    }

    /// Bytes a cluster.
    pub(crate) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_shift
    }

    /// How many clusters hold `bytes` bytes.
    pub(crate) fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes())
    }

    /// Whether `cluster` is one of the volume's.
    pub(crate) fn is_cluster(&self, cluster: u32) -> bool {
        cluster.checked_sub(2).is_some_and(|index| index < self.clusters)
    }

    /// Offset of a cluster (which must be one of the volume's).
    pub(crate) fn offset_of(&self, cluster: u32) -> u64 {
        self.heap + (u64::from(cluster.wrapping_sub(2)) << self.cluster_shift)
    }

    /// The greatest size a file can have.
    pub(crate) fn maximum_size(&self) -> u64 {
        if self.kind.is_exfat() {
            // Any size that clusters can be counted for; space runs out before.
            (u64::from(u32::MAX) - 16) << self.cluster_shift
        } else {
            u64::from(u32::MAX)
        }
    }

    /// Offset in the FAT of a cluster's entry, and its bytes.
    pub(crate) fn fat_place(&self, cluster: u32) -> (u64, usize) {
        let cluster = u64::from(cluster);
        match self.kind {
            Kind::Exfat | Kind::Fat32 => (cluster * 4, 4),
            Kind::Fat16 => (cluster * 2, 2),
            Kind::Fat12 => (cluster + cluster / 2, 2),
        }
    }

    /// A cluster's entry in the bytes at its place.
    pub(crate) fn decode_fat(&self, cluster: u32, bytes: [u8; 4]) -> u32 {
        let entry = u32::from_le_bytes(bytes);
        match self.kind {
            Kind::Exfat => entry,
            Kind::Fat32 => entry & 0x0FFF_FFFF,
            Kind::Fat16 => entry & 0xFFFF,
            Kind::Fat12 if cluster % 2 == 1 => entry >> 4 & 0xFFF,
            Kind::Fat12 => entry & 0xFFF,
        }
    }

    /// The bytes at a cluster's place with another entry; bits that are not the entry's own stay as in `old`.
    pub(crate) fn encode_fat(&self, cluster: u32, old: [u8; 4], value: u32) -> [u8; 4] {
        let old = u32::from_le_bytes(old);
        let entry = match self.kind {
            Kind::Exfat | Kind::Fat16 => value,
            Kind::Fat32 => old & 0xF000_0000 | value & 0x0FFF_FFFF,
            Kind::Fat12 if cluster % 2 == 1 => old & 0xF | (value & 0xFFF) << 4,
            Kind::Fat12 => old & 0xF000 | value & 0xFFF,
        };
        entry.to_le_bytes()
    }

    /// Where the boot sector says that the volume was not left cleanly, and by which bit: exFAT's VolumeDirty, or in
    /// Windows NT's state byte of FAT.
    pub(crate) fn dirty_mark(&self) -> (u64, u8) {
        match self.kind {
            Kind::Exfat => (106, 2),
            Kind::Fat32 => (65, 1),
            Kind::Fat12 | Kind::Fat16 => (37, 1),
        }
    }

    /// The bit of FAT entry 1 that is clear while the volume is not clean; 0 where there is none.
    pub(crate) fn clean_bit(&self) -> u32 {
        match self.kind {
            Kind::Fat32 => 1 << 27,
            Kind::Fat16 => 1 << 15,
            Kind::Exfat | Kind::Fat12 => 0,
        }
    }

    fn fits(&self, bytes: u64) -> bool {
        let entry_bits: u64 = match self.kind {
            Kind::Exfat | Kind::Fat32 => 32,
            Kind::Fat16 => 16,
            Kind::Fat12 => 12,
        };
        let fat_needed = ((u64::from(self.clusters) + 2) * entry_bits).div_ceil(8);
        let heap_end = self.heap.checked_add(u64::from(self.clusters) << self.cluster_shift);
        let fat_end = self.fat_bytes.checked_mul(u64::from(self.fat_copies));
        self.clusters > 0
            && fat_needed <= self.fat_bytes
            && heap_end.is_some_and(|end| end <= bytes)
            && fat_end.and_then(|length| length.checked_add(self.fat)).is_some_and(|end| end <= self.heap)
            && (self.root_cluster == 0 || self.is_cluster(self.root_cluster))
            && self.fixed_root.0 + u64::from(self.fixed_root.1) <= self.heap
    }
}

/// The sum over the first eleven sectors of exFAT's boot region, without the bytes that change in use (3.4).
pub(crate) fn boot_checksum(sectors: &[u8]) -> u32 {
    sectors.iter().enumerate().fold(0u32, |sum, (offset, &byte)| match offset {
        106 | 107 | 112 => sum,
        _ => sum.rotate_right(1).wrapping_add(u32::from(byte)),
    })
}

/// exFAT 3.1.
fn parse_exfat(boot: &[u8]) -> Option<Geometry> {
    let (sector_shift, cluster_shift) = (u32::from(get8(boot, 108)), u32::from(get8(boot, 109)));
    if !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
        return None;
    }
    // TexFAT's second FAT and bitmap are Windows CE's only.
    if get8(boot, 110) != 1 || get16(boot, 104) >> 8 != 1 {
        return None;
    }
    let clusters = get32(boot, 92);
    let root_cluster = get32(boot, 96);
    let volume_sectors = get64(boot, 72);
    let heap_sectors = u64::from(get32(boot, 88))
        .checked_add(u64::from(clusters) << cluster_shift)
        .filter(|_| clusters <= 0xFFFF_FFF5)?;
    if heap_sectors > volume_sectors || root_cluster == 0 || get32(boot, 80) < 24 {
        return None;
    }
    Some(Geometry {
        kind: Kind::Exfat,
        sector_size: 1 << sector_shift,
        cluster_shift: sector_shift + cluster_shift,
        heap: u64::from(get32(boot, 88)) << sector_shift,
        clusters,
        fat: u64::from(get32(boot, 80)) << sector_shift,
        fat_bytes: u64::from(get32(boot, 84)) << sector_shift,
        fat_copies: 1,
        root_cluster,
        fixed_root: (0, 0),
        serial: get32(boot, 100),
        information_sector: None,
    })
}

/// FAT specification 3: the count of clusters alone says whether it is FAT12, FAT16 or FAT32.
fn parse_fat(boot: &[u8]) -> Option<Geometry> {
    let sector_size = u32::from(get16(boot, 11));
    let cluster_sectors = u32::from(get8(boot, 13));
    if !(512..=4096).contains(&sector_size)
        || !sector_size.is_power_of_two()
        || !cluster_sectors.is_power_of_two()
    {
        return None;
    }
    let size = u64::from(sector_size);
    let reserved = u64::from(get16(boot, 14));
    let copies = u32::from(get8(boot, 16));
    let root_entries = u32::from(get16(boot, 17));
    let fat_sectors = match get16(boot, 22) {
        0 => u64::from(get32(boot, 36)),
        short => u64::from(short),
    };
    let sectors = match get16(boot, 19) {
        0 => u64::from(get32(boot, 32)),
        short => u64::from(short),
    };
    // Nobody makes more than two FATs, another medium, or a root that ends within a sector, and other systems refuse them.
    let medium = get8(boot, 21);
    if reserved == 0
        || !(1..=2).contains(&copies)
        || fat_sectors == 0
        || !(medium == 0xF0 || medium >= 0xF8)
        || !(root_entries * 32).is_multiple_of(sector_size)
    {
        return None;
    }
    let root_sectors = u64::from(root_entries) * 32 / size;
    let root = reserved + fat_sectors * u64::from(copies);
    let heap = root + root_sectors;
    let clusters = u32::try_from(sectors.checked_sub(heap)? / u64::from(cluster_sectors)).ok()?;
    let kind = if get16(boot, 22) == 0 && root_entries == 0 {
        Kind::Fat32
    } else if clusters < 4085 {
        Kind::Fat12
    } else if clusters < 65525 {
        Kind::Fat16
    } else {
        return None;
    };
    if kind == Kind::Fat32 && clusters > 0x0FFF_FFF5 {
        return None;
    }
    // Only FAT32 has no root at a fixed place, and only FAT32 counts its FAT's sectors elsewhere.
    if kind != Kind::Fat32 && (root_entries == 0 || get16(boot, 22) == 0) {
        return None;
    }
    let (mut fat, mut fat_copies, mut root_cluster) = (reserved * size, copies, 0);
    let mut information_sector = None;
    let mut serial_at = 39;
    if kind == Kind::Fat32 {
        root_cluster = get32(boot, 44).max(1);
        serial_at = 67;
        let flags = get16(boot, 40);
        if flags & 0x80 != 0 {
            // Mirroring is off: one FAT counts.
            let active = u32::from(flags & 15);
            if active >= copies {
                return None;
            }
            (fat, fat_copies) = (fat + u64::from(active) * fat_sectors * size, 1);
        }
        let information = u64::from(get16(boot, 48));
        if information > 0 && information < reserved {
            information_sector = Some(information * size);
        }
    }
    Some(Geometry {
        kind,
        sector_size,
        cluster_shift: (sector_size * cluster_sectors).trailing_zeros(),
        heap: heap * size,
        clusters,
        fat,
        fat_bytes: fat_sectors * size,
        fat_copies,
        root_cluster,
        fixed_root: if kind == Kind::Fat32 { (0, 0) } else { (root * size, root_entries * 32) },
        serial: get32(boot, serial_at),
        information_sector,
    })
}
