//! The disks and the volumes on them: found, formatted when told so, mounted, synchronised, unmounted.
//!
//! Until there are mirrors, the disk on channel `n` carries volume `n`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use console::FileSystem;
use storage::cache::PAGE_SIZE;
use storage::format::{FormatError, Kind, Options};
use storage::partition::Layout;
use storage::{BlockDevice, Cache, Volume};

use crate::board::Disk;
use crate::clock::{Clock, VolumeClock};
use crate::entropy::EntropyPool;
use crate::scheduler::{RawMutex, WaitQueue};
use crate::share_volume::ShareVolume;

/// A volume in use.
struct Mounted {
    volume: Arc<Volume<RawMutex>>,
    shared: Arc<ShareVolume>,
}

/// What is on one channel.
#[derive(Default)]
struct Channel {
    disk: Option<Disk>,
    mounted: Option<Mounted>,
    /// Why nothing is mounted, in words.
    state: &'static str,
    /// The last synchronisation failed.
    failing: bool,
}

/// All disks and volumes.
pub struct Volumes {
    cache: Arc<Cache<RawMutex>>,
    /// The cache's helpers that have nothing to do.
    idle: &'static WaitQueue,
    channels: RefCell<Vec<Channel>>,
}

impl Volumes {
    /// No disk yet, a cache of `budget` bytes, `count` channels.
    pub fn new(budget: usize, count: usize) -> Self {
        let mut channels = Vec::new();
        channels.resize_with(count, Channel::default);
        let idle: &'static WaitQueue = Box::leak(Box::default());
        let wake = Box::new(|| {
            idle.wake_one();
        });
        let cache = Arc::new(Cache::with_helpers(budget, wake));
        Self { cache, idle, channels: RefCell::new(channels) }
    }

    /// Reads ahead and writes back. One of several threads.
    pub fn help_cache(&self) {
        loop {
            if !self.cache.work() {
                self.idle.wait();
            }
        }
    }

    /// Takes the disk of a channel into use. A blank one is formatted if `format_blank` says so.
    pub fn attach(
        &self,
        channel: usize,
        disk: Disk,
        format_blank: bool,
        clock: &'static Clock,
        entropy: &EntropyPool,
    ) {
        let device = disk.device.clone();
        log::info!(
            "channel {channel}: {}, {} MiB",
            disk.identity.model,
            device.blocks().saturating_mul(u64::from(device.block_size())) >> 20
        );
        self.with(channel, |entry| {
            entry.disk = Some(disk);
            entry.state = "not mounted";
        });
        match Layout::read(&*device) {
            Err(why) => {
                log::error!("channel {channel}: {why}");
                self.with(channel, |entry| entry.state = "failed");
                return;
            }
            Ok(layout) if layout.data().is_none() && layout.blank && format_blank => {
                if let Err(why) = self.format(channel, FileSystem::ExFat, clock, entropy) {
                    log::error!("channel {channel}: {why}");
                }
                return;
            }
            Ok(layout) if layout.data().is_none() => {
                log::warn!("channel {channel}: no volume on the disk; `format {channel}` makes one");
                self.with(channel, |entry| entry.state = "no volume");
                return;
            }
            Ok(_) => {}
        }
        if let Err(why) = self.mount(channel, &device, clock) {
            log::error!("channel {channel}: {why}");
            self.with(channel, |entry| entry.state = "not mountable");
        }
    }

    /// Lets go of a channel's disk, which has left, and of its volume.
    pub fn detach(&self, channel: usize) {
        self.unmount_channel(channel);
        self.with(channel, |entry| entry.disk = None);
    }

    fn mount(
        &self,
        channel: usize,
        disk: &Arc<dyn BlockDevice>,
        clock: &'static Clock,
    ) -> Result<(), String> {
        let layout = Layout::read(&**disk).map_err(|why| why.to_string())?;
        let partition = layout.data().and_then(|partition| partition.open(disk)).ok_or("no volume")?;
        let clock = Arc::new(VolumeClock(clock));
        // A disk that the appliance has divided has room for a journal.
        let journal = layout.journal(disk);
        let volume = Volume::mount_journaled(self.cache.clone(), partition, journal, clock, false);
        let volume = Arc::new(volume.map_err(|why| format!("volume: {why}"))?);
        let information = volume.information();
        log::info!(
            "volume {channel}: {} \"{}\"{}",
            information.file_system,
            String::from_utf16_lossy(&information.label),
            if information.read_only { ", read-only" } else { "" }
        );
        let shared = Arc::new(ShareVolume::new(volume.clone()));
        self.with(channel, |entry| {
            entry.mounted = Some(Mounted { volume, shared });
            entry.state = "online";
        });
        Ok(())
    }

    /// Lays a new file system over a channel's disk and mounts it. No share may show the volume meanwhile.
    pub fn format(
        &self,
        channel: usize,
        file_system: FileSystem,
        clock: &'static Clock,
        entropy: &EntropyPool,
    ) -> Result<(), String> {
        let disk = self.with(channel, |entry| entry.disk.as_ref().map(|disk| disk.device.clone())).flatten();
        let disk = disk.ok_or("there is no disk")?;
        self.unmount_channel(channel);
        let mut unique = [0; 16];
        entropy.fill(&mut unique);
        log::info!("channel {channel}: formatting");
        let kind = match file_system {
            FileSystem::ExFat => Kind::Exfat,
            FileSystem::Fat32 => Kind::Fat32,
        };
        let label = format!("DATA{channel}").encode_utf16().collect();
        let options = Options { kind, label, unique, cluster: None };
        storage::format::disk(&disk, &options).map_err(|why| match why {
            FormatError::Device(why) => format!("formatting: {why}"),
            FormatError::Size => String::from("the disk's size does not suit the file system"),
            FormatError::Options => String::from("formatting: these options do not go together"),
        })?;
        self.mount(channel, &disk, clock)
    }

    fn with<T>(&self, channel: usize, body: impl FnOnce(&mut Channel) -> T) -> Option<T> {
        self.channels.borrow_mut().get_mut(channel).map(body)
    }

    /// The volume of a channel as shares show it.
    pub fn share_volume(&self, channel: usize) -> Option<Arc<ShareVolume>> {
        self.with(channel, |entry| entry.mounted.as_ref().map(|mounted| mounted.shared.clone())).flatten()
    }

    fn mounted(&self) -> Vec<(usize, Arc<Volume<RawMutex>>)> {
        let channels = self.channels.borrow();
        let mounted = channels
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((index, entry.mounted.as_ref()?.volume.clone())));
        mounted.collect()
    }

    /// Writes what is dirty on channels that are not `gone`. Called by the flusher now and then.
    pub fn synchronise(&self, gone: impl Fn(usize) -> bool) {
        for (index, volume) in self.mounted() {
            if gone(index) {
                continue;
            }
            let outcome = volume.sync();
            // One line when it begins to fail, not one every time.
            let failed_before =
                self.with(index, |entry| core::mem::replace(&mut entry.failing, outcome.is_err()));
            match (outcome, failed_before.unwrap_or(false)) {
                (Err(why), false) => log::error!("volume {index}: {why}"),
                (Ok(()), true) => log::info!("volume {index}: synchronised again"),
                _ => {}
            }
        }
    }

    /// Writes everything and marks the volumes clean. They take no more calls.
    pub fn unmount(&self) {
        let count = self.channels.borrow().len();
        (0..count).for_each(|channel| self.unmount_channel(channel));
    }

    fn unmount_channel(&self, channel: usize) {
        let Some(mounted) = self.with(channel, |entry| entry.mounted.take()).flatten() else { return };
        if let Err(why) = mounted.volume.unmount() {
            log::error!("volume {channel}: {why}");
        }
        self.with(channel, |entry| entry.state = "not mounted");
    }

    /// The cache's figures, for the console.
    pub fn cache_statistics(&self) -> console::Cache {
        let statistics = self.cache.statistics();
        let bytes = |pages: u32| u64::from(pages) * PAGE_SIZE as u64;
        console::Cache {
            total: bytes(statistics.maximum_pages),
            used: bytes(statistics.pages),
            dirty: bytes(statistics.dirty_pages),
            hits: statistics.hits,
            misses: statistics.misses,
        }
    }

    /// What is on a channel, for the console; its error count is the board's to add.
    pub fn describe(&self, channel: usize) -> console::Disk {
        let (disk, state, volume) = self
            .with(channel, |entry| {
                let volume = entry.mounted.as_ref().map(|mounted| mounted.volume.clone());
                (entry.disk.clone(), entry.state, volume)
            })
            .unwrap_or_default();
        let Some(disk) = disk else {
            return console::Disk { channel, state: String::from("no disk"), ..console::Disk::default() };
        };
        let volume = volume.map(|volume| {
            let information = volume.information();
            let space = volume.space().ok();
            console::VolumeUse {
                index: channel,
                label: String::from_utf16_lossy(&information.label),
                file_system: information.file_system.to_string(),
                total: space.map_or(0, |space| space.total),
                free: space.map_or(0, |space| space.free),
            }
        });
        console::Disk {
            channel,
            model: disk.identity.model.to_string(),
            size: disk.device.blocks().saturating_mul(u64::from(disk.device.block_size())),
            state: String::from(state),
            errors: 0,
            volume,
        }
    }
}
